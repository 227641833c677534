"""Rate limits, storms and outages over real HTTP, with the whole engine: no record is lost, and no limit overrun."""

from __future__ import annotations

import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.faults.labelling import command, environment, filled_store, label
from tests.mock_endpoint import MockEndpoint
from tests.rate_limits import Following, Outage, Rule, Storm, TokenBucket


@pytest.mark.parametrize(
    "rule", [Storm(0.6, 4), Storm(0, 4, then=TokenBucket(3_600, burst=30))], ids=["at_random", "by_rate"]
)
def test_every_record_ends_labelled_whatever_is_refused(tmp_path: Path, rule: Rule) -> None:
    filled_store(tmp_path / "p", 300)
    trouble = Following(rule)
    with MockEndpoint(trouble, latency=0.05) as mock:
        counts = label(tmp_path / "p", mock.url, 16)
    assert (counts["labelled"], counts["failed"]) == (300, 0)
    assert trouble.share(429), "nothing was refused"
    assert len(mock.billed) == 300, "no answer is bought twice"


def test_an_outage_costs_the_tries_of_few_records_and_no_answer(tmp_path: Path) -> None:
    filled_store(tmp_path / "p", 400)
    outage = Following(Outage(0.2, 6, status=503))
    with MockEndpoint(outage, latency=0.02) as mock:
        counts = label(tmp_path / "p", mock.url, 8)
    assert counts["labelled"] == 400
    assert sum(status == 503 for _, status in outage.seen) < 60, "it was asked again and again while it was down"
    assert len(mock.billed) == 400


@pytest.mark.heavy
def test_processes_keep_a_limit_together_whether_they_are_told_of_it_or_not(tmp_path: Path) -> None:
    """Four processes, 900 requests a minute: 15 a second of all. Told and untold at once, with an endpoint each."""
    told = Following(TokenBucket(900, burst=15, tells=("headers",)))
    untold = Following(TokenBucket(900, burst=15))
    with MockEndpoint(told, latency=0.02) as one, MockEndpoint(untold, latency=0.02) as other:
        runs = [*_four_runs(tmp_path / "told", one.url), *_four_runs(tmp_path / "untold", other.url)]
        results = [run.communicate(timeout=120) for run in runs]
    assert Counter(run.returncode for run in runs) == {0: 8}, results
    for limit, mock in ((told, one), (untold, other)):
        assert len(mock.billed) == 220
        assert limit.share(429, after=10) <= 0.02


def _four_runs(folder: Path, url: str) -> list[subprocess.Popen[str]]:
    env = environment(folder / "state")
    homes = [folder / f"p{number}" for number in range(4)]
    for home in homes:
        filled_store(home, 55)
    return [
        subprocess.Popen(command(home, url, 8), env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for home in homes
    ]
