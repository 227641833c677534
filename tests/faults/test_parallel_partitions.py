"""Eight partition runs at once on one database, one of them with a person's connection in the way: none fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from tests.workspaces import ROOT, Fixture, declaration, know_vectors, ml_records

DAYS = [f"2020-03-{day}" for day in range(18, 26)]


@pytest.mark.heavy
def test_eight_partitions_at_once_all_succeed_and_nothing_is_lost(tmp_path: Path) -> None:
    shop = Fixture(
        tmp_path,
        ml_records(14),
        declaration(partitions={"every": "day", "start": "2020-03-16", "end": "2020-04-01"}),
    )
    know_vectors(shop)
    logs = {day: tmp_path / f"{day}.log" for day in DAYS}
    runs = [f"{log}=run shop --partition {day} --no-train" for day, log in logs.items()]
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.side_by_side", shop.store.path, "4", *runs],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [0] * 8, "\n".join(log.read_text(encoding="utf-8") for log in logs.values())
    labelled = shop.store.query("SELECT count(*) AS n FROM llm_labels WHERE state = 'labelled'")["n"].item()
    in_days = shop.records.filter(pl.col("created_on").str.slice(0, 10).is_in(DAYS))
    assert labelled == len(in_days) > 0
    checks = shop.store.query("SELECT DISTINCT partition_key FROM validation_results ORDER BY 1")["partition_key"]
    assert checks.to_list() == DAYS
