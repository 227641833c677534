"""Frozen encoder, linear head: seconds to train, and the vectors are those that the store has."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl

from annotation_pipelines.distillation.linear_head import LinearHead
from annotation_pipelines.distillation.students.base import Examples, Predicted, Progress, Student, TextVectors

_HEAD_FILE = "model.safetensors"


class LinearStudent(Student):
    """Logistic regression on sentence vectors."""

    kind = "linear"
    head: LinearHead

    def fit(self, examples: Examples, vectors: TextVectors, progress: Progress | None = None) -> Self:
        """Learn; see `Student.fit`."""
        X = vectors.vectors(examples.rows.select("content_hash", "content"), progress)
        self.head = LinearHead(random_state=self.config.seed).fit(
            X, examples.labels, examples.weights, gold=examples.gold
        )
        return self

    def predict(self, rows: pl.DataFrame, vectors: TextVectors, progress: Progress | None = None) -> Predicted:
        """The most probable label of every row."""
        probabilities = self.head.predict_proba(vectors.vectors(rows, progress))
        best = probabilities.argmax(axis=1)
        return Predicted(
            [self.head.classes_[index] for index in best], probabilities[np.arange(len(best)), best], probabilities
        )

    def save(self, folder: Path) -> dict[str, Any]:
        """Write the head."""
        return self.head.save(folder / _HEAD_FILE)

    def load(self, folder: Path, facts: Mapping[str, Any]) -> Self:
        """Read the head."""
        self.head = LinearHead.load(folder / _HEAD_FILE, facts)
        return self

    def figures(self) -> dict[str, float | int | str | None]:
        """Classes, and agreement and log-loss in cross-validation."""
        return {
            "classes": len(self.head.classes_),
            "cv_agreement": self.head.cv_accuracy_,
            "cv_log_loss": self.head.cv_log_loss_,
        }
