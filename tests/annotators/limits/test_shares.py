"""Slots are divided max-min fairly."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from annotation_pipelines.annotators.limits.shares import fair_shares


def test_what_one_does_not_want_the_others_get() -> None:
    assert fair_shares([2, 100, 100], 32) == [2, 15, 15]


def test_what_cannot_be_divided_goes_to_the_first() -> None:
    assert fair_shares([5, 5, 5], 2) == [1, 1, 0]


@given(st.lists(st.integers(0, 50), max_size=12), st.integers(0, 200))
def test_shares_are_fair_and_leave_nothing_that_somebody_wants(demands: list[int], capacity: int) -> None:
    shares = fair_shares(demands, capacity)
    assert sum(shares) == min(sum(demands), capacity)
    assert all(0 <= share <= demand for share, demand in zip(shares, demands, strict=True))
    unsatisfied = [share for share, demand in zip(shares, demands, strict=True) if share < demand]
    assert not unsatisfied or max(shares) <= min(unsatisfied) + 1
