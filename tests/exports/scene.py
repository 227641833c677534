"""A project with trusted labels, put into a real store as the stages above an export do."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from annotation_pipelines.annotators.factory import annotator_name
from annotation_pipelines.content import Content
from annotation_pipelines.exports.dataset import Exported, export_dataset
from annotation_pipelines.project import Declaration, Project
from annotation_pipelines.project.exports import Export
from annotation_pipelines.store.database import Store

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
LABELS = {"card": "about bank cards", "transfer": "about money transfers"}


def project(
    folder: Path,
    task: Mapping[str, Any] | None = None,
    *,
    parts: Sequence[str] = (),
    exports: Sequence[Any] = (),
    **changes: Any,
) -> Project:
    """A project declared as a user would; by default of two labels."""
    source: dict[str, Any] = {"csv": "records.csv", "gold": "gold"}
    if parts:
        source["parts"] = {name: f"{{{name}}}" for name in parts}
    declared = {"source": source, "task": task or {"classification": {"labels": LABELS}}, "exports": list(exports)}
    folder.mkdir(parents=True, exist_ok=True)
    return Project("bank", folder, Declaration.model_validate({**declared, **changes}))


def store(folder: Path) -> Store:
    """Its store."""
    return Store(folder / "bank")


def record(
    record_id: str,
    content: str | Mapping[str, str],
    label: str,
    *,
    origin: str = "silver",
    confidence: float | None = 0.9,
    rationale: str | None = None,
    synthetic: bool = False,
    given: str | None = None,
    day: int = 0,
) -> dict[str, Any]:
    """A record with its label; origin evaluation holds it out. `given` is the annotator's own label."""
    stored = content if isinstance(content, str) else Content.of_parts(content).stored
    return {
        "record_id": record_id,
        "content": stored,
        "label": label,
        "origin": origin,
        "confidence": confidence if origin == "silver" else None,
        "rationale": rationale,
        "synthetic": synthetic,
        "given": given or label,
        "first_seen": NOON + timedelta(days=day),
    }


def fill(store: Store, records: Sequence[Mapping[str, Any]], annotator: str = "embedded") -> None:
    """Put records and their labels into the tables, in the place of all that were there."""
    schema = {
        "record_id": pl.String,
        "content": pl.String,
        "label": pl.String,
        "origin": pl.String,
        "confidence": pl.Float64,
        "rationale": pl.String,
        "synthetic": pl.Boolean,
        "given": pl.String,
        "first_seen": pl.Datetime("us", "UTC"),
    }
    frame = pl.DataFrame(list(records), schema=schema).with_columns(
        content_hash=pl.col("content").hash().cast(pl.String), partition_key=pl.lit("all"), now=pl.lit(NOON)
    )
    held = frame.filter(pl.col("origin") == "evaluation")
    pool = frame.filter(pl.col("origin") != "evaluation")
    with store.transaction() as con:
        store.replace(
            con,
            "records",
            pool.select(
                "record_id",
                "content_hash",
                "content",
                "partition_key",
                "first_seen",
                "synthetic",
                updated_at="now",
            ),
        )
        trusted = pool.select(
            "record_id", "content_hash", "partition_key", "label", "origin", "confidence", trusted_at="now"
        ).with_columns(weight=pl.col("confidence").fill_null(1.0))
        store.replace(con, "trusted_labels", trusted)
        labels = pool.select(
            "record_id", "content_hash", "partition_key", "confidence", "rationale", label="given", labelled_at="now"
        ).with_columns(
            annotator=pl.lit(annotator), fingerprint=pl.lit("f" * 32), state=pl.lit("labelled"), reused=pl.lit(False)
        )
        store.replace(con, "llm_labels", labels)
        people = held.select(
            "record_id", "content_hash", "content", "label", role=pl.lit("evaluation"), origin=pl.lit("held_out")
        )
        store.replace(con, "human_labels", people)


def export(folder: Path, made: Project, records: Sequence[Mapping[str, Any]], **settings: Any) -> Exported:
    """The export of some records, in the format that `settings` declare."""
    where = store(folder / "storage")
    fill(where, records, annotator_name(made))
    return export_dataset(where, made, Export.model_validate(settings))


def lines(file: Path) -> list[Any]:
    """The JSON Lines of a file."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line]


def entries(exported: Exported) -> list[Any]:
    """The JSON Lines of all splits."""
    return [entry for file in sorted((exported.folder / "data").glob("*.jsonl")) for entry in lines(file)]
