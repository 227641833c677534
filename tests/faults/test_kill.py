"""kill -9, again and again: what was paid for and written down is never lost and never bought twice.

A hundred kills are in benchmarks/kill9.py; it and this test share their code.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.killing import killed_and_resumed
from tests.mock_endpoint import MockEndpoint, answer

CONCURRENCY = 32


@pytest.mark.heavy
def test_forty_kills_lose_no_answer_and_buy_none_again_but_those_in_flight(tmp_path: Path) -> None:
    with MockEndpoint(lambda call: answer("agrees"), latency=0.02) as mock:
        tally = killed_and_resumed(tmp_path, mock, kills=40, records=800, concurrency=CONCURRENCY)
    print(tally)
    assert tally.kills == 40
    assert tally.lost == 0, "an answer that had been written down is gone"
    assert tally.unlabelled == 0
    assert tally.bought_again_though_kept == 0, "an answer that had been written down was bought again"
    assert tally.bought_again == tally.in_flight <= tally.kills * CONCURRENCY
    assert tally.most_in_flight <= CONCURRENCY
