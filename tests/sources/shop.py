"""A small project for tests of the source: three columns, by day, two labels."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from annotation_pipelines.project import Declaration, Project
from annotation_pipelines.store.database import Store

NOW = datetime(2020, 3, 10, 12, tzinfo=UTC)
LATER = datetime(2020, 3, 11, 12, tzinfo=UTC)

Row = tuple[str | None, str | None, str | None, str | None]
"""id, text, at, tag."""

COLUMNS = ("id", "text", "at", "tag")


def project(folder: Path, source: dict[str, Any] | None = None, **attributes: Any) -> Project:
    """A project whose source is records.csv, by day from 2 March 2020 on; parts may be replaced."""
    columns = {"id": "id", "text": "{text}", "time": "at", "gold": "tag"}
    declared: dict[str, Any] = {
        "source": columns | {"csv": "records.csv"} if source is None else columns | source,
        "partitions": {"every": "day", "start": "2020-03-02"},
        "task": {"classification": {"labels": ["good", "bad"]}},
    }
    return Project("shop", folder, Declaration.model_validate(declared | attributes))


def unpartitioned(folder: Path, source: dict[str, Any] | None = None, **attributes: Any) -> Project:
    """The same without partitions and without time."""
    return project(folder, {"csv": "records.csv", "time": None, **(source or {})}, partitions={}, **attributes)


def write(folder: Path, *rows: Row, name: str = "records.csv", columns: tuple[str, ...] = COLUMNS) -> None:
    """Put these rows in the place of a CSV file's."""
    pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.String()), orient="row").write_csv(folder / name)


def store(folder: Path) -> Store:
    """The project's store."""
    return Store(folder / "storage" / "shop")


def stored(folder: Path, columns: str = "record_id, partition_key, content, deleted_at IS NOT NULL") -> list[Any]:
    """What `records` holds, by id."""
    return store(folder).query(f"SELECT {columns} FROM records ORDER BY record_id").rows()
