"""A labelling run in a process of its own: to be killed, to run out of disk, to be locked out, to be measured.

    python -m tests.faults.labelling HOME URL [--concurrency 8]

It brings the labels of the selected records of the store in HOME up to date, as the asset llm_labels does. It prints
the counts as JSON and ends with 0; where the product says in one line what is wrong, that line goes to stderr and it
ends with 2, as the command line does; anything else is a traceback and 1.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count, islice
from pathlib import Path
from typing import Any

import polars as pl

from annotation_pipelines.errors import AnnotationPipelinesError
from annotation_pipelines.project import OpenAIAnnotator as Settings
from annotation_pipelines.store.database import Store
from tests.workspaces import ROOT, STANCE

LABELS = ("agrees", "neutral", "disagrees")


def texts(number: int) -> list[str]:
    """So many different texts: the real sentences of climate_stance, from the second round on with a number."""
    sentences = pl.read_csv(STANCE, infer_schema=False)["text"].unique(maintain_order=True).to_list()
    rounds = (f"{text} ({again})" if again else text for again in count() for text in sentences)
    return list(islice(rounds, number))


def record_ids(number: int) -> dict[str, str]:
    """The id of each record of `filled_store` by its text."""
    return {text: f"r{index:07}" for index, text in enumerate(texts(number))}


def filled_store(home: Path, number: int) -> Store:
    """A store with so many selected records that nobody labelled yet."""
    store = Store(home)
    now = datetime.now(UTC)
    records = pl.DataFrame({"content": texts(number)}).with_columns(
        pl.concat_str(pl.lit("r"), pl.int_range(pl.len()).cast(pl.String).str.zfill(7)).alias("record_id"),
        pl.col("content").hash().cast(pl.String).alias("content_hash"),
        pl.lit("all").alias("partition_key"),
    )
    with store.transaction() as con:
        first_seen = {"first_seen": pl.lit(now), "updated_at": pl.lit(now)}
        store.append(con, "records", records.with_columns(**first_seen))
        chosen = {"state": pl.lit("selected"), "strategy": pl.lit("all"), "selected_at": pl.lit(now)}
        store.append(con, "selected_records", records.drop("content").with_columns(**chosen))
    return store


def annotator(url: str, concurrency: int, **settings: Any) -> Any:
    """The annotator of climate_stance with its guideline, at this endpoint."""
    from annotation_pipelines.annotators.endpoint.annotator import OpenAIAnnotator
    from annotation_pipelines.project import Price
    from annotation_pipelines.tasks.registry import make_task
    from annotation_pipelines.workspace import Workspace

    project = Workspace(ROOT).project("climate_stance")
    declared = Settings(model="gpt-4o", base_url=url, concurrency=concurrency, **settings)
    price = Price(input=2.5, output=10)
    return OpenAIAnnotator(declared, make_task(project.declaration.task), project.guideline, price=price)


def label(home: Path, url: str, concurrency: int, **settings: Any) -> dict[str, Any]:
    """Bring the labels up to date; the counts by name."""
    from annotation_pipelines.annotators.annotation import annotate
    from annotation_pipelines.annotators.pending import Wanted

    counts = annotate(Store(home), annotator(url, concurrency, **settings), Wanted.of_partition("all"), "all")
    return counts.facts()


@dataclass(frozen=True)
class Ledger:
    """What a project's storage holds of answers.

    Attributes:
        calls: Records with an answer, by the id of the call.
        journalled: Of these, the ids that stand in journal files.
        labelled: Records with a label.
    """

    calls: dict[str, str]
    journalled: set[str]
    labelled: int


def ledger(home: Path) -> Ledger:
    """What is kept, read past the product: lines with a good checksum, and the database opened for reading alone."""
    import duckdb

    from annotation_pipelines.store.journal import read_journal

    calls: dict[str, str] = {}
    for path in sorted((home / "journal").glob("*.jsonl")):
        frame, _ = read_journal(path)
        calls.update(frame.filter(pl.col("status") == "ok").select("call_id", "record_id").iter_rows())
    journalled = set(calls)
    with duckdb.connect(str(home / f"{home.name}.duckdb"), read_only=True) as con:
        calls.update(con.execute("SELECT call_id, record_id FROM llm_calls WHERE status = 'ok'").fetchall())
        row = con.execute("SELECT count(*) FROM llm_labels WHERE state = 'labelled'").fetchone()
    return Ledger(calls, journalled, row[0] if row else 0)


def command(home: Path, url: str, concurrency: int = 8) -> list[str]:
    """The command line of a run."""
    module = [sys.executable, "-m", "tests.faults.labelling"]
    return [*module, str(home), url, "--concurrency", str(concurrency)]


def environment(state: Path) -> dict[str, str]:
    """The environment of a run that meets no other on this machine."""
    return {**os.environ, "ANNOTATION_PIPELINES_STATE": str(state), "PYTHONPATH": str(ROOT)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("home", type=Path)
    parser.add_argument("url")
    parser.add_argument("--concurrency", type=int, default=8)
    options = parser.parse_args()
    try:
        print(json.dumps(label(options.home, options.url, options.concurrency)))
    except AnnotationPipelinesError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
