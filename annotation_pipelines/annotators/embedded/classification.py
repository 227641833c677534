"""Classification by similarity to descriptions and to the nearest demonstrations."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from annotation_pipelines import project
from annotation_pipelines.annotators.embedded.similarity import (
    Array,
    Vectors,
    description_vectors,
    mixed_probabilities,
)
from annotation_pipelines.selection.demonstrations import same_record
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
        self._settings, self._task, self._embedder = settings, task, embedder
        self._labels = list(task.labels)
        self._demonstrations = demonstrations.filter(pl.col("label").is_in(self._labels))

    @property
    def version(self) -> object:
        """Method, and the labels with their descriptions."""
        return {"method": METHOD, "labels": list(self._task.labels.items())}

    def answers(self, records: pl.DataFrame) -> list[dict[str, Any]]:
        """label, confidence and scores of every record; a record that is a demonstration does not vote on itself."""
        probabilities = mixed_probabilities(
            self._embedder.vectors(records.select("content_hash", "content")),
            self._descriptions,
            self._demonstration_vectors,
            self._votes,
            neighbours=self._settings.neighbours,
            demonstration_weight=self._settings.demonstration_weight,
            exclude=same_record(records, self._demonstrations),
        )
        return [self._answer(row) for row in probabilities]

    def _answer(self, probabilities: Array) -> dict[str, Any]:
        scores = {label: round(float(p), 6) for label, p in zip(self._labels, probabilities, strict=True)}
        label = max(scores, key=lambda name: scores[name])
        return {"label": label, "confidence": scores[label], "scores": scores}

    @cached_property
    def _descriptions(self) -> Vectors:
        return description_vectors(self._embedder, self._task.labels)

    @cached_property
    def _demonstration_vectors(self) -> Vectors:
        return self._embedder.vectors(self._demonstrations.select("content_hash", "content"), share=True)

    @cached_property
    def _votes(self) -> Array:
        """Which label each demonstration votes for, shape (m, labels), one 1 a row."""
        position = {label: index for index, label in enumerate(self._labels)}
        votes = np.zeros((self._demonstrations.height, len(self._labels)))
        for row, label in enumerate(self._demonstrations["label"]):
            votes[row, position[label]] = 1.0
        return votes
