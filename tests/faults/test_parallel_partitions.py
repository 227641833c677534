"""Eight partition runs at once on one database, one of them with a person's connection in the way: none fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from tests.mock_endpoint import MockEndpoint, answer
from tests.workspaces import ROOT, Fixture, declaration, know_vectors, ml_records, openai_annotator

DAYS = [f"2020-03-{day}" for day in range(18, 26)]


def log(shop: Fixture, day: str) -> Path:
    return shop.workspace.root / f"{day}.log"


def at_once(shop: Fixture) -> subprocess.CompletedProcess[str]:
    """A run for each day, all at the same time; their exit codes are printed."""
    runs = [f"{log(shop, day)}=run shop --partition {day} --no-train" for day in DAYS]
    return subprocess.run(
        [sys.executable, "-m", "tests.faults.side_by_side", shop.store.path, "4", *runs],
        cwd=shop.workspace.root,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OPENAI_API_KEY": "sk-test"},
        capture_output=True,
        text=True,
    )


@pytest.mark.heavy
def test_eight_partitions_at_once_all_succeed_and_nothing_is_lost(tmp_path: Path) -> None:
    partitions = {"every": "day", "start": "2020-03-16", "end": "2020-04-01"}
    with MockEndpoint(lambda call: answer("mlops")) as mock:
        annotators = openai_annotator(mock.url)
        shop = Fixture(tmp_path, ml_records(14), declaration(annotators=annotators, partitions=partitions))
        know_vectors(shop)
        done = at_once(shop)
    assert done.returncode == 0, done.stderr
    said = "\n".join(log(shop, day).read_text(encoding="utf-8") for day in DAYS)
    assert json.loads(done.stdout) == [0] * 8, said
    labelled = shop.store.query("SELECT count(*) AS n FROM llm_labels WHERE state = 'labelled'")["n"].item()
    in_days = shop.records.filter(pl.col("created_on").str.slice(0, 10).is_in(DAYS))
    assert labelled == len(in_days) > 0
    checks = shop.store.query("SELECT DISTINCT partition_key FROM validation_results ORDER BY 1")["partition_key"]
    assert checks.to_list() == DAYS
