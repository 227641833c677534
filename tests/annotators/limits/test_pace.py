"""So many a minute, evenly: no window of a minute holds more."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotation_pipelines.annotators.limits.headers import Allowance
from annotation_pipelines.annotators.limits.limiter import Terms
from annotation_pipelines.annotators.limits.pace import Pace, Quota
from tests.annotators.limits.simulation import Server, simulate
from tests.rate_limits import most_in


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 3000), st.lists(st.floats(0, 20), max_size=400))
def test_no_minute_holds_more_than_its_limit_whenever_it_is_asked(limit: int, gaps: list[float]) -> None:
    pace, now, sent = Pace(), 100.0, []
    rate = Quota().rate(limit, now)
    for gap in [0.0, *gaps]:
        now += gap
        pace.at(rate, now)
        while pace.available(now) >= 0:
            pace.take(1, now)
            sent.append(now)
    assert most_in(sent, 60) <= limit
    assert most_in(sent, 1) <= limit / 60 * 1.1 + 1, "a minute's worth was sent in a second"


@pytest.mark.parametrize(("limit", "processes"), [(1200, 8), (60, 3), (6000, 2)])
def test_processes_together_use_a_declared_limit_and_stay_within_it(limit: int, processes: int) -> None:
    seen = simulate(
        Server(),
        records=limit * 2,
        processes=processes,
        workers=8,
        terms=Terms(64, requests_per_minute=limit),
        until=90,
    )
    assert seen.most_in(60) <= limit
    assert len(seen.sent) >= 0.97 * limit * 1.5


def test_tokens_are_paced_like_requests() -> None:
    # A request of the simulation takes 100 tokens.
    seen = simulate(Server(), records=10_000, processes=3, terms=Terms(64, tokens_per_minute=60_000), until=90)
    assert seen.most_in(60) <= 600 + 3, "a process may overdraw by one request"
    assert len(seen.sent) >= 0.97 * 600 * 1.5


def test_a_request_larger_than_what_is_left_is_paid_off_before_the_next() -> None:
    pace = Pace()
    pace.at(10.0, 0.0)
    pace.take(100, 0.0)
    assert pace.available(5.0) < 0
    assert pace.ready() == pytest.approx(9.9)


def test_another_rate_changes_when_a_debt_is_paid_and_not_how_much_is_owed() -> None:
    pace = Pace()
    pace.at(1.0, 0.0)
    pace.take(10, 0.0)
    pace.at(10.0, 0.0)
    assert pace.ready() == pytest.approx(0.9)


def test_a_limit_heard_from_the_endpoint_is_kept_and_a_declared_one_goes_before_it() -> None:
    quota = Quota()
    assert quota.rate(None, 0.0) is None
    quota.tell(Allowance(limit=600, remaining=590, reset=1), 0.0)
    assert quota.rate(None, 5.0) == pytest.approx(10, rel=0.01)
    assert quota.rate(1200, 5.0) == pytest.approx(20, rel=0.01)


def test_the_little_that_is_left_is_spread_until_more_comes() -> None:
    quota = Quota()
    quota.tell(Allowance(limit=600, remaining=20, reset=40), 0.0)
    assert quota.rate(None, 1.0) == pytest.approx(0.5)
    assert quota.rate(None, 41.0) == pytest.approx(10, rel=0.01), "it was reset since"
    quota.tell(Allowance(limit=600, remaining=0, reset=40), 50.0)
    assert 0 < (quota.rate(None, 51.0) or 0) < 0.5, "an empty bucket fills again meanwhile"
