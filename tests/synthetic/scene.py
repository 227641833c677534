"""A project that generates, its store and a mock endpoint that judges and labels, for tests of the checks."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from annotation_pipelines.annotators.counts import Occasion
from annotation_pipelines.annotators.fence import unfence_parts
from annotation_pipelines.content import Content
from annotation_pipelines.project import Budget, Declaration, Project
from annotation_pipelines.project.synthetic import Synthetic
from annotation_pipelines.sources.records import content_hashes
from annotation_pipelines.store.database import Store
from annotation_pipelines.synthetic.check import SyntheticCounts, check_generated
from annotation_pipelines.tasks.generation import GenerationTask
from tests.mock_endpoint import Act, Call, answer, completion

NOW = datetime(2026, 1, 5, tzinfo=UTC)
PRICE = {"input": 10, "output": 10}

Score = Callable[[str], float | None]


def is_judge(call: Call) -> bool:
    """Whether a request asks for a rating."""
    return '"rating"' in call.body["messages"][0]["content"]


def text_of(call: Call) -> str:
    """The record of a request without the tags of its parts."""
    parts = unfence_parts(call.text)
    return "\n".join(parts.values()) if parts else call.text


def rating(score: float | None) -> Act:
    """A judge's answer; None is one that cannot be read."""
    return completion("I would rather not say" if score is None else json.dumps({"rating": score, "confidence": 0.9}))


def checker(score: Score = lambda text: 5, label: Callable[[str], str] = lambda text: "a") -> Callable[[Call], Act]:
    """An endpoint that judges by `score` and labels by `label`."""
    return lambda call: rating(score(text_of(call))) if is_judge(call) else answer(label(text_of(call)))


class Scene:
    """What tests of the checks work on: records and annotations are put in as they would stand in the tables."""

    def __init__(self, folder: Path, url: str = "http://127.0.0.1:9/v1", **generation: Any) -> None:
        generation = generation or {"self_instruct": {}}
        declared = {"model": "mock", "base_url": url, "timeout": 5, "max_retries": 0, "repairs": 0, "price": PRICE}
        self.declaration = Declaration.model_validate(
            {
                "source": {"csv": "seeds.csv"},
                "task": {"generation": generation},
                "annotators": [{"openai": declared, "name": "writer"}],
            }
        )
        self.project = Project("seeds", folder, self.declaration)
        self.store = Store(folder / "storage")
        task = self.project.task
        assert isinstance(task, GenerationTask)
        self.task = task

    def records(self, contents: Mapping[str, Content], partition_key: str = "p") -> None:
        """Put records in, as ingest would."""
        stored = [content.stored for content in contents.values()]
        frame = pl.DataFrame({"record_id": list(contents), "content": stored}).with_columns(
            content_hashes(pl.Series(stored)),
            partition_key=pl.lit(partition_key),
            first_seen=pl.lit(NOW),
            updated_at=pl.lit(NOW),
        )
        with self.store.transaction() as con:
            self.store.upsert(con, "records", frame)

    def generated(
        self, answers: Mapping[str, Sequence[dict[str, Any]]], partition_key: str = "p", state: str = "labelled"
    ) -> None:
        """Put annotations in, as the annotator would; the records are there."""
        known = self.store.query("SELECT record_id, content_hash, content FROM records")
        contents = {id: (hash, content) for id, hash, content in known.iter_rows()}
        rows = [
            {
                "record_id": record_id,
                "content_hash": contents[record_id][0],
                "partition_key": partition_key,
                "annotator": "writer",
                "fingerprint": "f",
                "state": state,
                "label": self.task.parse(
                    json.dumps({"generated": list(entries)}), Content.read(contents[record_id][1])
                ).label,
                "reused": False,
                "labelled_at": NOW,
            }
            for record_id, entries in answers.items()
        ]
        assert all(row["label"] for row in rows)
        with self.store.transaction() as con:
            self.store.upsert(con, "llm_labels", pl.DataFrame(rows))

    def check(self, partition_key: str = "p", budget: Budget | None = None, **settings: Any) -> SyntheticCounts:
        """Check what was generated."""
        return check_generated(
            self.store,
            self.project,
            partition_key,
            "writer",
            Synthetic.model_validate(settings),
            occasion=Occasion("run", None, budget or Budget()),
        )

    def rows(self, columns: str, table: str = "synthetic_records", where: str = "true") -> list[tuple[Any, ...]]:
        """Columns of a table, in the order of what was generated."""
        order = "seed_record_id, content" if table == "synthetic_records" else "1"
        found: list[tuple[Any, ...]] = self.store.query(
            f"SELECT {columns} FROM {table} WHERE {where} ORDER BY {order}"
        ).rows()
        return found
