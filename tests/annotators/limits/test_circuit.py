"""When nothing is answered, single probes with growing pauses go out; the first answer ends it."""

from __future__ import annotations

import pytest

from annotation_pipelines.annotators.limits.circuit import TROUBLE, Circuit
from tests.annotators.limits.simulation import Server, simulate
from tests.rate_limits import Outage


def test_a_few_failures_leave_it_closed_and_an_answer_counts_anew() -> None:
    circuit = Circuit()
    assert not circuit.failed(TROUBLE - 1, probe=True, now=0)
    circuit.answered(probe=True)
    assert not circuit.failed(TROUBLE - 1, probe=True, now=1)
    assert not circuit.is_open


def test_probes_go_one_at_a_time_with_pauses_that_double_up_to_fifteen_seconds() -> None:
    circuit, now, pauses = Circuit(), 0.0, []
    assert circuit.failed(TROUBLE, probe=True, now=now)
    for _ in range(8):
        assert not circuit.probe(circuit.probe_at - 0.01)
        pauses.append(circuit.probe_at - now)
        now = circuit.probe_at
        assert circuit.probe(now)
        assert not circuit.probe(now), "two probes at once"
        circuit.failed(1, probe=True, now=now)
    assert pauses == [0.5, 1, 2, 4, 8, 15, 15, 15]


def test_a_probe_that_never_ends_does_not_stop_the_next() -> None:
    circuit = Circuit()
    circuit.failed(TROUBLE, probe=True, now=0)
    assert circuit.probe(0.5)
    assert circuit.probe(15.5)


def test_answers_to_what_was_sent_before_do_not_close_it() -> None:
    circuit = Circuit()
    circuit.failed(TROUBLE, probe=True, now=0)
    assert not circuit.answered(probe=False)
    assert circuit.is_open
    assert circuit.answered(probe=True)
    assert not circuit.is_open


def test_it_knows_since_when_nothing_is_answered() -> None:
    circuit = Circuit()
    circuit.refused(probe=True, now=3)
    circuit.failed(1, probe=True, now=5)
    assert circuit.failing_since == 3
    circuit.answered(probe=True)
    assert circuit.failing_since is None


@pytest.mark.parametrize("status", [0, 503])
def test_an_outage_of_half_a_minute_costs_the_tries_of_what_was_in_flight_and_a_handful_of_probes(status: int) -> None:
    seen = simulate(
        Server(Outage(2, 32, status)),
        records=8_000,
        processes=2,
        workers=32,
        pause=lambda outcome: 0.5 if outcome.kind in ("broken", "overloaded") else 0.0,
    )
    failed = len(seen.sent) - 8_000
    assert failed <= 64 + 10
    assert seen.finished <= 32 + 15 + 8_000 / 1280 * 1.5
