"""The rate is learned from refusals alone: a limit is found and used; shedding at random is not mistaken for one."""

from __future__ import annotations

import pytest

from annotation_pipelines.annotators.limits.cap import Cap
from annotation_pipelines.annotators.limits.explanations import Trial, after_burst, more_than_strays, odds_of_shedding
from annotation_pipelines.annotators.limits.limiter import Terms
from annotation_pipelines.annotators.limits.refusals import Refusals
from tests.annotators.limits.simulation import Server, simulate
from tests.rate_limits import FixedWindow, Rule, SlidingWindow, Storm, TokenBucket

STORM_SECONDS, ACCEPTED = 20.0, 0.4


def storm_ideal(records: int, capacity: float) -> float:
    """Seconds at full capacity, of which the storm lets a share through."""
    during = STORM_SECONDS * capacity * ACCEPTED
    if records <= during:
        return records / (capacity * ACCEPTED)
    return STORM_SECONDS + (records - during) / capacity


def test_a_limit_accepts_the_same_rate_and_shedding_the_same_share() -> None:
    limited = [Trial(100, 50, 40), Trial(20, 50, 0)]
    shed = [Trial(100, 50, 30), Trial(20, 50, 30)]
    assert odds_of_shedding(limited) < -3
    assert odds_of_shedding(shed) > 3


def test_one_trial_alone_tells_nothing() -> None:
    assert odds_of_shedding([Trial(100, 50, 40)]) == pytest.approx(0)


def test_a_burst_that_is_over_is_recognized() -> None:
    assert after_burst([Trial(300, 60, 5)], Trial(100, 30, 25))
    assert not after_burst([Trial(300, 60, 36)], Trial(100, 30, 18))


def test_a_few_refusals_in_a_hundred_are_strays() -> None:
    assert not more_than_strays(3, 100)
    assert more_than_strays(4, 100)
    assert more_than_strays(1, 1)


def test_a_cap_grows_slowly_around_what_was_accepted_and_fast_beyond() -> None:
    cap = Cap()
    cap.cut(100.0)
    assert cap.rate(5.0) == pytest.approx(90)
    cap.keep(10.0)
    rates = [cap.rate(10.0 + second) or 0.0 for second in (0, 1, 2, 3, 5)]
    assert rates == pytest.approx([90, 100, 110, 180, 740])


def test_a_cap_that_is_found_again_grows_more_slowly() -> None:
    cap = Cap()
    for _ in range(4):
        cap.cut(100.0)
        cap.keep(0.0)
    assert cap.plateau == 5.0


def test_a_cap_is_lifted_only_when_it_holds_nothing_back() -> None:
    cap = Cap()
    cap.cut(100.0)
    cap.keep(0.0)
    assert not cap.lift(400.0, 5.0)
    assert cap.lift(100.0, 5.0)
    assert cap.rate(5.0) is None


def test_sending_is_held_while_the_first_refusals_come_in() -> None:
    refusals = Refusals()
    refusals.observe(20, 10, 0, 0, 1.0)
    assert refusals.observe(5, 5, 4, 0.05, 1.05) == "steady"
    assert refusals.held_until == pytest.approx(1.15)
    assert refusals.observe(0, 2, 4, 0.05, 1.2) == "changed"
    assert refusals.held_until is None
    assert refusals.cap.rate(1.2) is not None


@pytest.mark.parametrize("processes", [1, 8])
@pytest.mark.parametrize("seed", range(3))
def test_a_storm_of_refusals_costs_at_most_a_third_of_the_time(processes: int, seed: int) -> None:
    records, capacity = 14_000, 64 / 0.05
    seen = simulate(Server(Storm(seed=seed)), records=records, processes=processes)
    assert seen.finished <= 1.3 * storm_ideal(records, capacity)


@pytest.mark.parametrize("seed", range(3))
def test_a_storm_on_a_narrow_door_costs_at_most_a_third_of_the_time(seed: int) -> None:
    records, capacity = 4_000, 16 / 0.05
    seen = simulate(Server(Storm(seed=seed)), records=records, workers=16, terms=Terms(16))
    assert seen.finished <= 1.3 * storm_ideal(records, capacity)


@pytest.mark.parametrize("burst", [5, 50, 500])
def test_a_limit_of_fifty_a_second_is_found_and_used(burst: int) -> None:
    records = 1_500 + burst
    seen = simulate(Server(TokenBucket(3_000, burst)), records=records)
    assert seen.finished <= 1.3 * (records - burst) / 50
    assert seen.finished <= 1.12 * (records - burst) / 50
    assert seen.share("throttled", after=10) <= 0.02
    assert seen.count("throttled") <= 64 + 100, "more than what was in flight, and the trials"


@pytest.mark.parametrize(
    ("tells", "refused"), [((), 0.02), (("retry-after",), 0.02), (("headers",), 0.0), (("headers", "retry-after"), 0.0)]
)
def test_eight_processes_share_a_limit_however_little_the_endpoint_tells(
    tells: tuple[str, ...], refused: float
) -> None:
    records = 600
    seen = simulate(Server(TokenBucket(1_200, 20, tells)), records=records, processes=8, workers=8)  # type: ignore[arg-type]
    assert seen.share("throttled", after=10) <= refused
    assert "headers" not in tells or seen.most_in(60) <= 1_200
    assert seen.finished <= 1.1 * records / 20
    assert min(seen.answers.values()) >= 0.6 * records / 8


def test_a_quota_of_a_minute_is_found_without_a_word_of_it() -> None:
    seen = simulate(Server(SlidingWindow(1_200)), records=2_400, processes=2, until=300)
    assert seen.finished <= 1.6 * 120
    assert seen.share("throttled", after=10) <= 0.02


@pytest.mark.parametrize("share", [0.01, 0.05, 0.1, 0.3])
def test_an_endpoint_that_always_refuses_some_is_used_nearly_in_full(share: float) -> None:
    records, capacity = 40_000, 64 / 0.05
    seen = simulate(Server(Storm(share=share, seconds=1e9)), records=records)
    assert seen.finished <= 1.3 * records / capacity / (1 - share)


@pytest.mark.parametrize(
    ("rule", "rate"),
    [(FixedWindow(3_000), 50), (SlidingWindow(1_200, window=2), 20), (TokenBucket(300, 5), 5), (TokenBucket(60, 3), 1)],
)
def test_no_kind_of_limit_is_hammered_or_left_unused(rule: Rule, rate: float) -> None:
    records = int(rate * 90)
    seen = simulate(Server(rule, latency=0.2, refusal_latency=0.05), records=records, processes=2, workers=16)
    assert seen.share("throttled", after=10) <= 0.1
    assert seen.finished <= 2 * records / rate


def test_a_limit_in_a_storm_is_found_when_the_storm_is_over() -> None:
    seen = simulate(Server(Storm(then=TokenBucket(3_000, 50))), records=2_000)
    assert seen.finished <= 1.5 * (STORM_SECONDS + (2_000 - STORM_SECONDS * 50 * ACCEPTED) / 50)
