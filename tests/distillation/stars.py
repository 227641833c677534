"""A project whose vectors are known: three clusters on a sphere, written into the cache, so that nothing is encoded."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl

from annotation_pipelines.distillation.embedding import Embedder
from annotation_pipelines.project import Declaration, Project
from annotation_pipelines.store.database import Store
from annotation_pipelines.store.vectors import as_frame

LABELS = ("sun", "moon", "star")
DIMENSION = 384
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def star_declaration(promotion: dict[str, object] | None = None, **distillation: object) -> dict[str, object]:
    """Three labels; unless it is said, no text is encoded to see how a model behaves."""
    return {
        "source": {"csv": "records.csv", "gold": "tag"},
        "task": {"classification": {"labels": {name: f"about the {name}" for name in LABELS}}},
        # What makes silver robust takes most of the time of training, and has tests of its own.
        "distillation": {"robust": {"soft_labels": "none"}, **distillation},
        "promotion": {"texts": 0, **(promotion or {})},
    }


def star_project(folder: Path, *, promotion: dict[str, object] | None = None, **distillation: object) -> Project:
    """The project that is so declared."""
    return Project("stars", folder, Declaration.model_validate(star_declaration(promotion, **distillation)))


def clusters(n: int, *, seed: int = 0, spread: float = 0.6) -> tuple[np.ndarray, list[str]]:
    """n unit vectors around three directions, and the label of each."""
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(42).normal(size=(len(LABELS), DIMENSION))
    classes = np.arange(n) % len(LABELS)
    vectors = centres[classes] / np.sqrt(DIMENSION) + generator.normal(size=(n, DIMENSION)) * spread / np.sqrt(
        DIMENSION
    )
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32), [LABELS[index] for index in classes]


def text(number: int) -> str:
    """The text of a record: no two are near-duplicates."""
    return "Text " + hashlib.blake2b(str(number).encode(), digest_size=12).hexdigest()


def records(start: int, n: int, *, partition: str = "all") -> pl.DataFrame:
    """Rows of the table records: ids r0, r1, ..., each content its own."""
    return pl.DataFrame(
        {
            "record_id": [f"r{i}" for i in range(start, start + n)],
            "content_hash": [f"h{i}" for i in range(start, start + n)],
            "content": [text(i) for i in range(start, start + n)],
            "partition_key": [partition] * n,
            "first_seen": [NOW] * n,
            "updated_at": [NOW] * n,
        }
    )


class Stars:
    """The project with its store: records, trusted labels and held-out gold on request."""

    def __init__(self, folder: Path, *, promotion: dict[str, object] | None = None, **distillation: object) -> None:
        self.project = star_project(folder, promotion=promotion, **distillation)
        self.store = Store(folder / "stars")
        self.embedder = Embedder.for_project(self.project, self.store)
        self.known = 0

    def add(
        self, n: int, *, partition: str = "all", seed: int = 0, spread: float = 0.6
    ) -> tuple[pl.DataFrame, list[str]]:
        """n further records with their vectors; their rows and true labels."""
        rows = records(self.known, n, partition=partition)
        vectors, truth = clusters(n, seed=seed, spread=spread)
        self.embedder.cache.write(f"{partition}-{self.known}", as_frame(rows["content_hash"], vectors))
        self.known += n
        with self.store.transaction() as con:
            self.store.append(con, "records", rows)
        return rows, truth

    def trust(self, rows: pl.DataFrame, labels: list[str], *, origin: str = "silver", weight: float = 0.8) -> None:
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

    def hold_out(self, rows: pl.DataFrame, labels: list[str], *, role: str = "evaluation") -> None:
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

    def teach(
        self,
        rows: pl.DataFrame,
        labels: list[str | None],
        *,
        partition: str = "held_out",
        confidence: list[float] | None = None,
    ) -> None:
        """What the annotator said; None: it abstained."""
        frame = rows.select(
            "record_id",
            "content_hash",
            partition_key=pl.lit(partition),
            annotator=pl.lit("embedded"),
            fingerprint=pl.lit("f"),
            state=pl.Series(["abstained" if label is None else "labelled" for label in labels]),
            label=pl.Series(labels, dtype=pl.String),
            confidence=pl.Series(confidence or [None] * len(labels), dtype=pl.Float64),
            reused=pl.lit(False),
            labelled_at=pl.lit(NOW),
        )
        with self.store.transaction() as con:
            self.store.upsert(con, "llm_labels", frame)
