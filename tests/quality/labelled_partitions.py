"""A store with partitions in which all is well, for tests to spoil."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from annotation_pipelines.project import Declaration, Project
from annotation_pipelines.store.database import Store

NOW = datetime(2026, 11, 20, tzinfo=UTC)
ANNOTATOR = "openai:gpt-4o"
LABELS = ("red", "green", "blue")


def declare(**quality: Any) -> Declaration:
    """A declaration with three labels and these settings of `quality`."""
    return Declaration.model_validate(
        {
            "source": {"csv": "records.csv"},
            "task": {"classification": {"labels": list(LABELS)}},
            "quality": quality,
        }
    )


def make_project(folder: Path, **quality: Any) -> Project:
    """A project named colours."""
    return Project("colours", folder, declare(**quality))


def make_store(folder: Path) -> Store:
    """An empty store."""
    return Store(folder / "colours")


def fill(
    store: Store,
    partition_key: str,
    records: int = 30,
    labels: Sequence[str] = LABELS,
    **changes: Any,
) -> list[str]:
    """Add a partition of records that are all selected and labelled; returns their ids.

    Args:
        labels: Given in turn.
        changes: Columns of llm_labels to set otherwise, for all rows.
    """
    ids = [f"{partition_key}/{number:04}" for number in range(records)]
    base = pl.DataFrame(
        {"record_id": ids, "content_hash": [f"hash of {i}" for i in ids]},
        schema={"record_id": pl.String, "content_hash": pl.String},
    ).with_columns(partition_key=pl.lit(partition_key))
    with store.transaction() as con:
        store.append(
            con,
            "records",
            base.with_columns(
                content=pl.format("A text about {}", "record_id"),
                attributes=pl.lit('{"language": "en"}'),
                first_seen=pl.lit(NOW),
                updated_at=pl.lit(NOW),
            ),
        )
        store.append(
            con,
            "selected_records",
            base.with_columns(state=pl.lit("selected"), strategy=pl.lit("all"), selected_at=pl.lit(NOW)),
        )
        given = [labels[number % len(labels)] for number in range(records)]
        store.append(
            con,
            "llm_labels",
            base.with_columns(
                annotator=pl.lit(ANNOTATOR),
                fingerprint=pl.lit("f"),
                state=pl.lit("labelled"),
                label=pl.Series(given, dtype=pl.String),
                confidence=pl.lit(0.8),
                reused=pl.lit(False),
                labelled_at=pl.lit(NOW),
            ).with_columns(**{name: pl.lit(value) for name, value in changes.items()}),
        )
    return ids


def change(store: Store, sql: str, *params: Any) -> None:
    """Spoil something."""
    with store.transaction() as con:
        con.execute(sql, list(params))


def human_label(store: Store, record_id: str, label: str, role: str, content_hash: str | None = None) -> None:
    """Add what a person said of a record."""
    row = {
        "record_id": record_id,
        "content_hash": content_hash or f"hash of {record_id}",
        "content": f"A text about {record_id}",
        "label": label,
        "role": role,
        "origin": "source",
    }
    with store.transaction() as con:
        store.append(con, "human_labels", pl.DataFrame([row]))
