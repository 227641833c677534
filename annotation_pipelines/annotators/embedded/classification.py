"""Classification by similarity to descriptions and to the nearest demonstrations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from annotation_pipelines import project
from annotation_pipelines.annotators.embedded.similarity import Array, LabelSimilarity
from annotation_pipelines.tasks.base import Task

if TYPE_CHECKING:
    from annotation_pipelines.distillation.embedding import Embedder

METHOD = 1
"""Raised when the same record would get another answer: every label is stale then."""


class ClassificationAnswerer:
    """Gives every record its likeliest label, with the probabilities of all as scores.

    Demonstrations with labels that the task does not have are left out. Without any, the descriptions alone decide.
    """

    def __init__(
        self, settings: project.EmbeddedAnnotator, task: Task, demonstrations: pl.DataFrame, embedder: Embedder
    ) -> None:
        self._task = task
        self._similarity = LabelSimilarity(
            task,
            demonstrations.filter(pl.col("label").is_in(list(task.labels))),
            embedder,
            neighbours=settings.neighbours,
            demonstration_weight=settings.demonstration_weight,
        )

    @property
    def version(self) -> object:
        """Method, and the labels with their descriptions."""
        return {"method": METHOD, "labels": list(self._task.labels.items())}

    def answers(self, records: pl.DataFrame) -> list[dict[str, Any]]:
        """label, confidence and scores of every record; a record that is a demonstration does not vote on itself."""
        return [self._answer(row) for row in self._similarity.probabilities(records)]

    def _answer(self, probabilities: Array) -> dict[str, Any]:
        scores = {label: round(float(p), 6) for label, p in zip(self._similarity.labels, probabilities, strict=True)}
        label = max(scores, key=lambda name: scores[name])
        return {"label": label, "confidence": scores[label], "scores": scores}
