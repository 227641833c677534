"""A store, a mock endpoint and annotators that ask it, for tests of whole passes: over real HTTP, into real DuckDB.

As a process of its own, to be killed: `python -m tests.annotators.label_scene HOME` takes up work and dies at once.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from annotation_pipelines.annotators.annotation import annotate
from annotation_pipelines.annotators.base import Annotator
from annotation_pipelines.annotators.counts import AnnotationCounts, Occasion
from annotation_pipelines.annotators.endpoint.annotator import OpenAIAnnotator
from annotation_pipelines.annotators.panel import Panel
from annotation_pipelines.annotators.pending import Pending, Wanted
from annotation_pipelines.project import Budget, Classification, Price
from annotation_pipelines.project import OpenAIAnnotator as Settings
from annotation_pipelines.project import Panel as PanelSettings
from annotation_pipelines.store.database import Store
from annotation_pipelines.tasks.base import Task
from annotation_pipelines.tasks.classification import ClassificationTask

LABELS = {"agrees": "says so", "denies": "says not"}
TASK = ClassificationTask(Classification(labels=LABELS))
KEY = "sk-secret-0123456789"
PRICE = Price(input=10, output=10)
"""Of the mock's replies, with 100 tokens read and 10 written, each costs 0.0011 dollars."""

ONE_REPLY = 110 * 10 / 1e6


def frame(texts: Mapping[str, str] | Sequence[str]) -> pl.DataFrame:
    """Records by id, or r000, r001, ... with these texts."""
    by_id = texts if isinstance(texts, Mapping) else {f"r{n:03}": text for n, text in enumerate(texts)}
    return pl.DataFrame(
        {
            "record_id": list(by_id),
            "content_hash": [hashlib.md5(text.encode()).hexdigest() for text in by_id.values()],
            "content": list(by_id.values()),
        },
        schema={"record_id": pl.String, "content_hash": pl.String, "content": pl.String},
    )


def numbered(count: int, start: int = 0) -> list[str]:
    """So many different texts."""
    return [f"text {n}" for n in range(start, start + count)]


class Scene:
    """What tests of passes work on.

    Args:
        url: The endpoint that annotators ask unless they name another.
    """

    def __init__(self, home: Path, url: str) -> None:
        self.store, self.url = Store(home), url

    def annotator(self, *, task: Task | None = None, guideline: str = "", **settings: Any) -> Any:
        """An annotator; what is no setting of its declaration goes to its constructor."""
        own = {key: settings.pop(key) for key in ("name", "redactor", "demonstrations", "choose") if key in settings}
        declared = {"model": "mock", "base_url": self.url, "concurrency": 8, "timeout": 5, "max_retries": 1}
        price = settings.pop("price", PRICE)
        task = task or TASK
        return OpenAIAnnotator(Settings(**{**declared, **settings}), task, guideline, price=price, **own)

    def label(
        self,
        texts: pl.DataFrame | Mapping[str, str] | Sequence[str],
        annotator: Annotator | None = None,
        *,
        run_id: str | None = "run",
        backfill_id: str | None = None,
        partition_key: str = "p",
        **caps: float,
    ) -> AnnotationCounts:
        """A pass over these records; `caps` are those of the budget."""
        wanted = Wanted.of_frame(texts if isinstance(texts, pl.DataFrame) else frame(texts))
        occasion = Occasion(run_id, backfill_id, Budget(**caps))  # type: ignore[arg-type]
        return annotate(self.store, annotator or self.annotator(), wanted, partition_key, occasion=occasion)

    def panel(
        self, members: Sequence[Annotator], texts: Mapping[str, str] | Sequence[str], **settings: Any
    ) -> AnnotationCounts:
        """The same by several annotators; `budget`, `run_id` and `partition_key` aside, the settings are a panel's."""
        occasion = Occasion(settings.pop("run_id", "run"), None, settings.pop("budget", Budget()))
        partition_key = settings.pop("partition_key", "p")
        declared = PanelSettings(**settings)
        several = Panel(declared.combine, members, TASK, declared)
        return several.label(self.store, Wanted.of_frame(frame(texts)), partition_key, occasion=occasion)

    def rows(self, columns: str, table: str = "llm_labels", where: str = "true") -> list[tuple[Any, ...]]:
        """Columns of a table, in the order of the ids; of calls about one record in the order of their replies."""
        order = "record_id, called_at" if table == "llm_calls" else "record_id"
        found: list[tuple[Any, ...]] = self.store.query(
            f"SELECT {columns} FROM {table} WHERE {where} ORDER BY {order}"
        ).rows()
        return found

    def states(self, table: str = "llm_labels") -> dict[str, str]:
        """How each record ended."""
        return dict(self.rows("record_id, state", table))

    def spent(self, run_id: str | None = None) -> float:
        """What the ledger says that a run, or all, cost."""
        where = "run_id = $run" if run_id else "$run IS NULL"
        found = self.store.query(f"SELECT sum(cost_usd)::DOUBLE AS usd FROM llm_calls WHERE {where}", {"run": run_id})
        return float(found["usd"].item() or 0)


if __name__ == "__main__":
    store = Store(Path(sys.argv[1]))
    wanted = Wanted.of_frame(frame(numbered(3)))
    with Pending(store, wanted, table="llm_labels", annotator="a", fingerprint="f"):
        os.kill(os.getpid(), signal.SIGKILL)
