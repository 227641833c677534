"""The probability of every label of a closed set, from the vectors of texts, descriptions and demonstrations.

Two voices give each label a probability, and the declaration says how much each counts. One is the similarity of the
text to the label's description. The other is a vote of the nearest demonstrations, weighted by similarity. Both are
taken relative to the demonstrations' mean vector where there are some: a sentence encoder puts all texts of one domain
into a narrow cone, and what they have in common says nothing about the label (Mu and Viswanath 2018, arXiv 1702.01417).

The constants were set on three data sets (Made With ML, banking77, climate stance) with 100 demonstrations, by accuracy
and log-loss over several draws of them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from annotation_pipelines.selection.demonstrations import nearest_demonstrations, same_record
from annotation_pipelines.tasks.base import Task

if TYPE_CHECKING:
    from annotation_pipelines.distillation.embedding import Embedder

TEMPERATURE = 0.06
"""Of the softmax over cosines to the descriptions."""

SHARPNESS = 12.0
"""A demonstration that is nearer by 0.1 counts 3.3 times as much."""

LABEL_BIAS_REMOVED = 0.5
"""The share of a description's similarity to the mean demonstration that is taken off: some descriptions are near to
everything. All of it would pretend that the labels are equally frequent."""

PRIOR_DEMONSTRATIONS = 10
"""The mean of few demonstrations is pulled to zero, as if so many were at the origin."""

Array = NDArray[np.float64]
Vectors = NDArray[np.float32]


def description_vectors(embedder: Embedder, labels: Mapping[str, str]) -> Vectors:
    """What stands for each label in the encoder's space, shape (labels, d)."""
    texts = label_texts(labels)
    hashes = [f"description:{hashlib.blake2b(text.encode(), digest_size=16).hexdigest()}" for text in texts]
    return embedder.vectors(pl.DataFrame({"content_hash": hashes, "content": texts}))


class LabelSimilarity:
    """How likely each label of a task is for a record, by its descriptions and the nearest demonstrations.

    Args:
        demonstrations: record_id, content_hash, content, label. One that names several labels shares its vote among
            them; one that names none has none.
        neighbours, demonstration_weight: As in `mixed_probabilities`.
    """

    def __init__(
        self,
        task: Task,
        demonstrations: pl.DataFrame,
        embedder: Embedder,
        *,
        neighbours: int,
        demonstration_weight: float,
    ) -> None:
        self._task, self._demonstrations, self._embedder = task, demonstrations, embedder
        self._neighbours, self._weight = neighbours, demonstration_weight
        self.labels = list(task.labels)

    def probabilities(self, records: pl.DataFrame) -> Array:
        """Shape (n, labels); a record that is a demonstration does not vote on itself.

        Args:
            records: record_id, content_hash and content of n records.
        """
        return mixed_probabilities(
            self._embedder.vectors(records.select("content_hash", "content")),
            self._descriptions,
            self._demonstration_vectors,
            self._votes,
            neighbours=self._neighbours,
            demonstration_weight=self._weight,
            exclude=same_record(records, self._demonstrations),
        )

    @cached_property
    def _descriptions(self) -> Vectors:
        return description_vectors(self._embedder, self._task.labels)

    @cached_property
    def _demonstration_vectors(self) -> Vectors:
        return self._embedder.vectors(self._demonstrations.select("content_hash", "content"), share=True)

    @cached_property
    def _votes(self) -> Array:
        """Which labels each demonstration speaks for, shape (m, labels), rows that sum to 1, or to 0 without any."""
        position = {label: index for index, label in enumerate(self.labels)}
        votes = np.zeros((self._demonstrations.height, len(self.labels)))
        for row, label in enumerate(self._demonstrations["label"]):
            votes[row, [position[name] for name in self._task.named(label) if name in position]] = 1.0
        shares: Array = votes / np.maximum(votes.sum(axis=1, keepdims=True), 1.0)
        return shares


def label_texts(labels: Mapping[str, str]) -> list[str]:
    """What stands for each label in the encoder's space: its description, or its name in words where it has none."""
    return [
        re.sub(r"[_\-]+", " ", name).strip() or name if text.strip() in ("", name) else text
        for name, text in labels.items()
    ]


def mixed_probabilities(
    vectors: Vectors,
    descriptions: Vectors,
    demonstrations: Vectors,
    votes: Array,
    *,
    neighbours: int,
    demonstration_weight: float,
    exclude: NDArray[np.bool_],
) -> Array:
    """The probability of every label: descriptions and demonstrations, mixed.

    Args:
        vectors: The records, shape (n, d), rows of length 1, as all vectors here.
        descriptions: The labels' descriptions, shape (c, d).
        demonstrations: Shape (m, d); m may be 0.
        votes: The demonstrations' labels, shape (m, c), one 1 a row.
        neighbours: How many demonstrations vote on a record.
        demonstration_weight: Their share, 0 to 1; a record without any demonstration goes by the descriptions alone.
        exclude: Shape (n, m); true where a demonstration may not vote.

    Returns:
        Shape (n, c); rows sum to 1.
    """
    centre = demonstrations.sum(axis=0) / (len(demonstrations) + PRIOR_DEMONSTRATIONS)
    similarity = vectors @ descriptions.T - LABEL_BIAS_REMOVED * (descriptions @ centre)
    by_description = _softmax(similarity.astype(np.float64) / TEMPERATURE)
    if not len(demonstrations) or demonstration_weight == 0:
        return by_description
    centred, shown = _directions(vectors - centre), _directions(demonstrations - centre)
    nearest = nearest_demonstrations(centred, shown, neighbours, exclude)
    cosines = np.einsum("nd,nkd->nk", centred, shown[nearest]).astype(np.float64)
    weights = np.where(nearest >= 0, np.exp(SHARPNESS * (cosines - 1)), 0.0)
    vote = np.einsum("nk,nkc->nc", weights, votes[nearest])
    total = vote.sum(axis=1, keepdims=True)
    share = np.where(total > 0, demonstration_weight, 0.0)
    mixed: Array = (1 - share) * by_description + share * vote / np.where(total > 0, total, 1.0)
    return mixed


def _directions(vectors: Vectors) -> Vectors:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    directions: Vectors = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return directions


def _softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: Array = powers / powers.sum(axis=1, keepdims=True)
    return probabilities
