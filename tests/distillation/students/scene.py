"""A project of any task with a store: records, trusted labels and held-out gold on request."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from annotation_pipelines.content import Content
from annotation_pipelines.distillation.embedding import Embedder
from annotation_pipelines.distillation.students.base import Examples
from annotation_pipelines.project import Declaration, Project
from annotation_pipelines.store.database import Store

ROOT = Path(__file__).parents[3]
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Scene:
    """Records with labels; ids r0, r1, ...

    Args:
        source: Further keys of the source's declaration.
        declared: Further keys of the declaration.
    """

    def __init__(
        self,
        folder: Path,
        task: dict[str, Any],
        source: dict[str, Any] | None = None,
        declared: dict[str, Any] | None = None,
        **distillation: object,
    ) -> None:
        document = {
            "source": {"csv": "records.csv", "gold": "gold", **(source or {})},
            "task": task,
            "distillation": distillation,
            **(declared or {}),
        }
        self.project = Project("scene", folder, Declaration.model_validate(document))
        self.store = Store(folder / "scene")
        self.embedder = Embedder.for_project(self.project, self.store)
        self.known = 0

    def add(self, contents: Sequence[str]) -> pl.DataFrame:
        """Further records; their rows."""
        rows = pl.DataFrame(
            {
                "record_id": [f"r{self.known + place}" for place in range(len(contents))],
                "content_hash": [f"h{self.known + place}" for place in range(len(contents))],
                "content": list(contents),
                "partition_key": "all",
                "first_seen": NOW,
                "updated_at": NOW,
            }
        )
        self.known += len(contents)
        with self.store.transaction() as con:
            self.store.append(con, "records", rows)
        return rows

    def trust(self, rows: pl.DataFrame, labels: Sequence[str], *, origin: str = "silver", weight: float = 0.8) -> None:
        """Give records trusted labels."""
        frame = rows.select(
            "record_id",
            "content_hash",
            "partition_key",
            label=pl.Series(labels),
            origin=pl.lit(origin),
            weight=pl.lit(weight),
            trusted_at=pl.lit(NOW),
        )
        with self.store.transaction() as con:
            self.store.upsert(con, "trusted_labels", frame)

    def hold_out(self, rows: pl.DataFrame, labels: Sequence[str], *, role: str = "evaluation") -> None:
        """Make records gold of a role."""
        frame = rows.select(
            "record_id",
            "content_hash",
            "content",
            label=pl.Series(labels),
            role=pl.lit(role),
            origin=pl.lit("held_out"),
        )
        with self.store.transaction() as con:
            self.store.upsert(con, "human_labels", frame)


def examples(
    contents: Sequence[str],
    labels: Sequence[str],
    *,
    gold: Sequence[bool] | None = None,
    weights: Sequence[float] | None = None,
    audit: pl.DataFrame | None = None,
) -> Examples:
    """What there is to learn from; gold with weight 1 unless said otherwise."""
    rows = pl.DataFrame(
        {
            "record_id": [f"r{place}" for place in range(len(contents))],
            "content_hash": [f"h{place}" for place in range(len(contents))],
            "content": list(contents),
            "label": list(labels),
            "origin": ["gold" if one else "silver" for one in (gold or [True] * len(contents))],
            "weight": list(weights or [1.0] * len(contents)),
        }
    )
    return Examples.of(rows, audit)


def asked(contents: Sequence[str]) -> pl.DataFrame:
    """Rows as `Student.predict` takes them."""
    return pl.DataFrame(
        {"content_hash": [f"asked {place}" for place in range(len(contents))], "content": list(contents)},
        schema={"content_hash": pl.String, "content": pl.String},
    )


def source_rows(example: str) -> list[dict[str, Any]]:
    """The rows that an example's source yields."""
    namespace: dict[str, Any] = {"__file__": str(ROOT / "examples" / example / "source.py"), "__name__": "source"}
    code = (ROOT / "examples" / example / "source.py").read_text(encoding="utf-8")
    exec(compile(code, namespace["__file__"], "exec"), namespace)
    return list(namespace["records"](None, None))


def part_content(**parts: str) -> str:
    """The stored content of a record of several parts."""
    return Content.of_parts(parts).stored
