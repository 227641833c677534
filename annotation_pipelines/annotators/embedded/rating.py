"""Ratings by the nearest demonstrations and by the descriptions of the scale.

Two voices place a record on the scale, and the declaration says how much each counts. One is the mean rating of the
nearest demonstrations, weighted by similarity (Nadaraya 1964 and Watson 1964, over the k nearest). The other is the
mean of the described values, weighted by the similarity of the text to their descriptions. Similarities are taken
relative to the mean demonstration, as in `similarity`.

The sharpness was set on the headlines of Snow et al. 2008 with 50 demonstrations, by Spearman's correlation over
several draws of them.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import polars as pl

from annotation_pipelines import project
from annotation_pipelines.annotators.embedded.similarity import (
    LABEL_BIAS_REMOVED,
    PRIOR_DEMONSTRATIONS,
    TEMPERATURE,
    Array,
    Vectors,
    description_vectors,
)
from annotation_pipelines.errors import DeclarationError
from annotation_pipelines.selection.demonstrations import nearest_demonstrations, same_record
from annotation_pipelines.tasks.base import Task
from annotation_pipelines.tasks.rating import RatingTask

if TYPE_CHECKING:
    from annotation_pipelines.distillation.embedding import Embedder

METHOD = 1
"""Raised when the same record would get another answer: every label is stale then."""

SHARPNESS = 6.0
"""A demonstration that is nearer by 0.1 counts 1.8 times as much."""


class RatingAnswerer:
    """Places every record on the scale.

    Raises:
        DeclarationError: There are neither demonstrations nor two described values: nothing tells the ends apart.
    """

    def __init__(
        self, settings: project.EmbeddedAnnotator, task: Task, demonstrations: pl.DataFrame, embedder: Embedder
    ) -> None:
        self._settings, self._task, self._embedder = settings, cast("RatingTask", task), embedder
        self._demonstrations = demonstrations
        self._anchors = dict(self._task.anchors) if len(self._task.anchors) > 1 else {}
        if not self._anchors and not demonstrations.height:
            raise DeclarationError(
                "expected demonstrations, or two described values of the scale, found neither",
                where="annotators: embedded",
                todo="Describe the ends under task: rating: anchors, or give source: gold and demonstrations",
            )

    @property
    def version(self) -> object:
        """Method, scale and descriptions."""
        return {
            "method": METHOD,
            "scale": [*self._task.ends, self._task.step],
            "anchors": list(self._task.anchors.items()),
        }

    def answers(self, records: pl.DataFrame) -> list[dict[str, Any]]:
        """rating and confidence of every record; a record that is a demonstration does not count for itself.

        The confidence is one less the mean distance of the voices from the rating, as a share of half the scale.
        """
        vectors = self._embedder.vectors(records.select("content_hash", "content"))
        values, weights = self._voices(vectors, same_record(records, self._demonstrations))
        means = (values * weights).sum(axis=1)
        labels = [self._task.at(float(mean)) for mean in means]
        places = np.array([self._task.position(label) for label in labels])
        lowest, highest = self._task.ends
        distances = (np.abs(values - places[:, None]) * weights).sum(axis=1) / ((highest - lowest) / 2)
        return [
            {"rating": label, "confidence": round(float(max(0.0, 1 - distance)), 6)}
            for label, distance in zip(labels, distances, strict=True)
        ]

    def _voices(self, vectors: Vectors, exclude: np.ndarray) -> tuple[Array, Array]:
        """What speaks for each record: values and their weights, both (n, anchors + neighbours); weights sum to 1."""
        shown = self._demonstration_vectors
        centre = shown.sum(axis=0) / (len(shown) + PRIOR_DEMONSTRATIONS)
        described = self._described(vectors, centre)
        values = np.tile(self._anchor_places, (len(vectors), 1))
        if not len(shown):
            return values, described
        centred, directions = _directions(vectors - centre), _directions(shown - centre)
        nearest = nearest_demonstrations(centred, directions, self._settings.neighbours, exclude)
        cosines = np.einsum("nd,nkd->nk", centred, directions[nearest]).astype(np.float64)
        near = np.where(nearest >= 0, np.exp(SHARPNESS * (cosines - 1)), 0.0)
        total = near.sum(axis=1, keepdims=True)
        # A record without any other demonstration goes by the descriptions, or by the middle where there are none.
        share = np.where(total > 0, self._settings.demonstration_weight if self._anchors else 1.0, 0.0)
        near = share * near / np.where(total > 0, total, 1.0)
        if not self._anchors:
            values, described = np.full((len(vectors), 1), sum(self._task.ends) / 2), np.ones((len(vectors), 1))
        return np.hstack([values, self._ratings[nearest]]), np.hstack([(1 - share) * described, near])

    def _described(self, vectors: Vectors, centre: Vectors) -> Array:
        """The weight of every described value, shape (n, anchors); rows sum to 1."""
        if not self._anchors:
            return np.zeros((len(vectors), 0))
        descriptions = description_vectors(self._embedder, self._anchors)
        similarity = vectors @ descriptions.T - LABEL_BIAS_REMOVED * (descriptions @ centre)
        logits = similarity.astype(np.float64) / TEMPERATURE
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        weights: Array = powers / powers.sum(axis=1, keepdims=True)
        return weights

    @cached_property
    def _anchor_places(self) -> Array:
        return np.array([self._task.position(anchor) for anchor in self._anchors], dtype=np.float64)

    @cached_property
    def _demonstration_vectors(self) -> Vectors:
        return self._embedder.vectors(self._demonstrations.select("content_hash", "content"), share=True)

    @cached_property
    def _ratings(self) -> Array:
        return np.array([self._task.position(label) for label in self._demonstrations["label"]], dtype=np.float64)


def _directions(vectors: Vectors) -> Vectors:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    directions: Vectors = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return directions
