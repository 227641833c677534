"""Several processes spend under one cap; some are killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from annotation_pipelines.annotators.spending.budget import Amount
from annotation_pipelines.annotators.spending.purse import Purse
from annotation_pipelines.project import Budget, Price
from annotation_pipelines.store.database import Store

PRICE = Price(input=2, output=8)
BOUND = Amount((500 * 2 + 100 * 8) / 1e6, 600)


def spender(home: Path, bill: Path, budget: dict[str, float], seed: int, *more: str) -> subprocess.Popen[str]:
    module = "tests.annotators.spending.spender"
    command = [sys.executable, "-m", module, str(home), str(bill), json.dumps(budget), str(seed), *more]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def billed(bill: Path) -> Amount:
    rows = [row.split() for row in bill.read_text().splitlines()]
    return sum((Amount(float(usd), int(tokens)) for usd, tokens in rows), Amount())


@pytest.mark.parametrize("budget", [{"per_day_usd": 0.5}, {"per_day_tokens": 150_000}])
def test_four_processes_under_one_cap_use_it_up_and_never_exceed_it(tmp_path: Path, budget: dict[str, float]) -> None:
    home, bill = tmp_path / "project", tmp_path / "bill"
    processes = [spender(home, bill, budget, seed) for seed in range(4)]
    try:
        for process in processes:
            assert line(process) == "ready"
        for process in processes:
            process.communicate("go\n", timeout=60)
            assert process.returncode == 0
    finally:
        for process in processes:
            process.kill()
            process.wait()
    spent = billed(bill)
    if "per_day_usd" in budget:
        assert 0.5 - (BOUND.usd or 0) < (spent.usd or 0) <= 0.5
    else:
        assert 150_000 - BOUND.tokens < spent.tokens <= 150_000
    with Purse.open(Store(home), Budget(**budget), run_id=None, backfill_id=None, price=PRICE, where="here") as purse:
        assert purse.spent() == {"day": spent}


def test_what_a_killed_process_had_in_flight_counts_as_spent(tmp_path: Path) -> None:
    home, budget = tmp_path / "project", {"per_day_usd": 1.0, "per_run_usd": 1.0}
    with spender(home, tmp_path / "bill", budget, 1, "hold") as victim:
        assert Amount(*json.loads(line(victim))) == BOUND
        with open_purse(home, budget) as purse:
            assert purse.spent()["day"] == Amount(), "what a living process holds is not spent yet"
        victim.send_signal(signal.SIGKILL)
    with open_purse(home, budget) as purse:
        assert purse.spent()["day"] == sum([BOUND] * 5, Amount())
        assert purse.spent()["run"] == Amount(), "it was another run"


def test_four_processes_of_which_two_are_killed_leave_the_cap_unbroken(tmp_path: Path) -> None:
    home, bill, budget = tmp_path / "project", tmp_path / "bill", {"per_day_usd": 0.5}
    processes = [spender(home, bill, budget, seed) for seed in range(4)]
    try:
        for process in processes:
            assert line(process) == "ready"
        for process in processes:
            assert process.stdin
            process.stdin.write("go\n")
            process.stdin.flush()
        while not bill.exists() or (billed(bill).usd or 0) < 0.1:
            time.sleep(0.005)
        for process in processes[:2]:
            process.kill()
        for process in processes[2:]:
            assert process.wait(60) == 0
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    spent = billed(bill)
    in_flight = sum([BOUND] * 16, Amount())
    assert 0.5 - (in_flight.usd or 0) - (BOUND.usd or 0) < (spent.usd or 0) <= 0.5
    with open_purse(home, budget) as purse:
        assert spent.usd is not None
        assert (purse.spent()["day"].usd or 0) >= spent.usd, "a request in flight at the kill may have been billed"


def open_purse(home: Path, budget: dict[str, float]) -> Purse:
    return Purse.open(Store(home), Budget(**budget), run_id="mine", backfill_id=None, price=PRICE, where="here")
