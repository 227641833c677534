"""What a partition costs when nothing has changed.

Prints unchanged_calls (annotator calls when every partition of ml_projects is refreshed a second time) and
fresh_check_100k_seconds (100,000 unchanged records found fresh by the annotation stage).
"""

from __future__ import annotations

import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
from _common import ROOT, figure, run, workspace_copy

from annotation_pipelines.annotators.annotation import annotate
from annotation_pipelines.annotators.factory import make_panel
from annotation_pipelines.annotators.pending import Wanted
from annotation_pipelines.project import Project
from annotation_pipelines.selection.select import select_records
from annotation_pipelines.sources.ingest import ingest
from annotation_pipelines.store.database import Store
from annotation_pipelines.store.schema import UNPARTITIONED
from annotation_pipelines.workspace import Workspace

RECORDS = 100_000


def calls(store: Store) -> int:
    """Replies in the ledger."""
    return int(store.query("SELECT count(*) AS n FROM llm_calls")["n"].item())


def unchanged_calls() -> None:
    """Label all partitions twice; count the calls of the second time."""
    with workspace_copy() as folder:
        run(folder, "run", "ml_projects", "--no-train")
        store = Store(folder / "storage" / "ml_projects")
        first = calls(store)
        run(folder, "run", "ml_projects", "--no-train")
        figure("unchanged_calls", calls(store) - first, "calls", calls_the_first_time=first)


def fresh_check(folder: Path) -> None:
    """Real texts, numbered until there are 100,000; labelled once, then looked at again."""
    texts = pl.read_csv(ROOT / "assets" / "ml_projects" / "data" / "dataset.csv", infer_schema=False)
    copies = RECORDS // len(texts) + 1
    many = pl.concat([texts.select(pl.col("title") + f" ({n}). " + pl.col("description")) for n in range(copies)])
    frame = many.head(RECORDS).rename({"title": "text"}).with_row_index("id")
    frame.write_parquet(folder / "records.parquet")
    declaration = Workspace(ROOT).project("ml_projects").declaration
    declaration = declaration.model_validate(
        {
            "source": {"parquet": "records.parquet"},
            "task": declaration.task.model_dump(),
            "annotators": [a.model_dump(exclude_none=True) for a in declaration.annotators],
        }
    )
    project = Project("many", folder, declaration)
    store = Store(folder / "many")
    seconds = {}

    def timed(name: str, work: object) -> object:
        start = time.perf_counter()
        result = work()  # type: ignore[operator]
        seconds[name] = round(time.perf_counter() - start, 3)
        return result

    ingest(store, project, UNPARTITIONED)
    select_records(store, project, UNPARTITIONED)
    annotator = make_panel(project, store).members[0]
    wanted = Wanted.of_partition(UNPARTITIONED)
    labels = store.query(wanted.sql, **wanted.frames).select(
        "record_id",
        "content_hash",
        pl.lit(UNPARTITIONED).alias("partition_key"),
        pl.lit(annotator.name).alias("annotator"),
        pl.lit(annotator.fingerprint).alias("fingerprint"),
        pl.lit("labelled").alias("state"),
        pl.lit("mlops").alias("label"),
        pl.lit(False).alias("reused"),
        pl.lit(datetime.now(UTC)).alias("labelled_at"),
    )
    with store.transaction() as con:
        store.append(con, "llm_labels", labels)

    timed("ingest", lambda: ingest(store, project, UNPARTITIONED))
    timed("select", lambda: select_records(store, project, UNPARTITIONED))
    counts = timed("annotate", lambda: annotate(store, annotator, wanted, UNPARTITIONED))
    assert counts.unchanged == RECORDS, counts  # type: ignore[attr-defined]
    figure("fresh_check_100k_seconds", seconds["annotate"], "s", seconds_by_step=seconds)


if __name__ == "__main__":
    unchanged_calls()
    with tempfile.TemporaryDirectory() as name:
        fresh_check(Path(name))
