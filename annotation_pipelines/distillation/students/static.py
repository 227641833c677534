"""Static token vectors, linear head: no transformer, for very many records."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import polars as pl

from annotation_pipelines.distillation.embedding import Embedder
from annotation_pipelines.distillation.static_vectors import StaticVectors, distil
from annotation_pipelines.distillation.students.base import Examples, Predicted, Progress, TextVectors
from annotation_pipelines.distillation.students.linear import LinearStudent


class StaticStudent(LinearStudent):
    """Logistic regression on the mean of static token vectors, which are distilled from the project's encoder."""

    kind = "static"
    own_encoder = True
    static: StaticVectors

    def fit(self, examples: Examples, vectors: TextVectors, progress: Progress | None = None) -> Self:
        """Learn; see `Student.fit`. The encoder reads its vocabulary once; the table is kept beside the vectors."""
        kept = vectors.home / "static" if isinstance(vectors, Embedder) else None
        self.static = distil(vectors.encoder, kept)
        return super().fit(examples, self.static, progress)

    def predict(self, rows: pl.DataFrame, vectors: TextVectors, progress: Progress | None = None) -> Predicted:
        """The most probable label of every row; its vectors are the student's own."""
        return super().predict(rows, self.static, progress)

    def save(self, folder: Path) -> dict[str, Any]:
        """Write the table, the tokenizer and the head."""
        return {**super().save(folder), **self.static.save(folder)}

    def load(self, folder: Path, facts: Mapping[str, Any]) -> Self:
        """Read the table, the tokenizer and the head."""
        self.static = StaticVectors.load(folder, dict(facts))
        return super().load(folder, facts)

    def figures(self) -> dict[str, float | int | str | None]:
        """Those of the head, and the size of the table."""
        tokens, dimension = self.static.table.shape
        return {**super().figures(), "tokens": tokens, "dimension": dimension}
