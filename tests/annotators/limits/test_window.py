"""How many requests are in flight: doubling until the first trouble, then carefully."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from annotation_pipelines.annotators.limits.window import Window


def test_it_doubles_with_each_round_of_answers_until_the_maximum() -> None:
    window, sizes = Window(), []
    for _ in range(4):
        window.observe(int(window.size), 0, bound=True, maximum=100)
        sizes.append(window.size)
    assert sizes == [32, 64, 100, 100]


def test_a_window_that_holds_nothing_back_does_not_grow() -> None:
    window = Window()
    window.observe(1000, 0, bound=False, maximum=100)
    assert window.size == 16


def test_after_the_first_trouble_it_grows_by_one_a_round() -> None:
    window = Window(size=64)
    assert window.observe(0, 5, bound=True, maximum=100)
    assert window.size == 32
    window.observe(32, 0, bound=True, maximum=100)
    assert window.size == 33


def test_a_stray_timeout_among_many_answers_changes_nothing() -> None:
    window = Window(size=64, doubling=False)
    window.observe(100, 0, bound=False, maximum=64)
    assert not window.observe(20, 1, bound=False, maximum=64)
    assert window.size == 64


def test_it_never_falls_below_one() -> None:
    window = Window()
    for _ in range(20):
        window.observe(0, 1, bound=True, maximum=64)
    assert window.size == 1


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 5), st.booleans(), st.integers(1, 64))))
def test_it_stays_between_one_and_the_maximum(steps: list[tuple[int, int, bool, int]]) -> None:
    window = Window()
    for fine, overloaded, bound, maximum in steps:
        window.observe(fine, overloaded, bound=bound, maximum=maximum)
        assert 1 <= window.size <= maximum
