"""Eight partition runs at once on one database, one of them with a person's connection in the way: none fails."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from tests.workspaces import Fixture, declaration, ml_records

COMMAND = Path(sys.executable).parent / "annotation-pipelines"
DAYS = [f"2020-03-{day}" for day in range(18, 26)]


@pytest.mark.heavy
def test_eight_partitions_at_once_all_succeed_and_nothing_is_lost(tmp_path: Path) -> None:
    shop = Fixture(
        tmp_path,
        ml_records(14),
        declaration(partitions={"every": "day", "start": "2020-03-16", "end": "2020-04-01"}),
    )
    shop.store.query("SELECT 1")
    person = "import duckdb, sys, time; connection = duckdb.connect(sys.argv[1]); time.sleep(4)"
    holder = subprocess.Popen([sys.executable, "-c", person, shop.store.path])
    runs = [
        subprocess.Popen(
            [COMMAND, "run", "shop", "--partition", day, "--no-train"],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for day in DAYS
    ]
    ended = [run.communicate() for run in runs]
    holder.wait()
    assert [run.returncode for run in runs] == [0] * 8, "\n".join(err for _, err in ended)
    labelled = shop.store.query("SELECT count(*) AS n FROM llm_labels WHERE state = 'labelled'")["n"].item()
    in_days = shop.records.filter(pl.col("created_on").str.slice(0, 10).is_in(DAYS))
    assert labelled == len(in_days) > 0
    checks = shop.store.query("SELECT DISTINCT partition_key FROM validation_results ORDER BY 1")["partition_key"]
    assert checks.to_list() == DAYS
