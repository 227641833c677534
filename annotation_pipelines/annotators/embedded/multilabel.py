"""Sets of labels by similarity to descriptions and to the demonstrations.

Two voices give each label a score, as in classification. The demonstrations speak by kernel ridge regression, a vote
of all of them that discounts those that say the same: with records that carry one label or two out of many, the
nearest few hold too little. Leaving a demonstration out has a closed form there (Rasmussen and Williams 2006, section
5.4.2), so that the threshold above which a label is given, and what a score is worth, are learned from what the
demonstrations would have been given without themselves.

The constants were set on GoEmotions with 100 and 300 demonstrations, by micro and macro F1 over several draws.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from annotation_pipelines import project
from annotation_pipelines.annotators.embedded.similarity import (
    PRIOR_DEMONSTRATIONS,
    Array,
    Vectors,
    description_vectors,
    mixed_probabilities,
)
from annotation_pipelines.selection.demonstrations import same_record
from annotation_pipelines.tasks.base import Task
from annotation_pipelines.tasks.multilabel import MultilabelTask

if TYPE_CHECKING:
    from annotation_pipelines.distillation.embedding import Embedder

METHOD = 1
"""Raised when the same record would get another answer: every label is stale then."""

RIDGE = 3.0
"""What is added to the kernel's diagonal, where a vector's product with itself is 1."""

DESCRIPTION_SCALE = 0.4
"""Of the descriptions' probabilities: the softmax is surer of itself than a ridge regression on few records."""

THRESHOLD = 0.3
"""Without demonstrations: of the descriptions' probability. The likeliest label is given in any case."""


class MultilabelAnswerer:
    """Gives every record its labels, with a probability for each as scores; `neighbours` does not apply.

    Where every demonstration has a label, so has every record, and none has more than the demonstration with the most.
    """

    def __init__(
        self, settings: project.EmbeddedAnnotator, task: Task, demonstrations: pl.DataFrame, embedder: Embedder
    ) -> None:
        assert isinstance(task, MultilabelTask)
        self._settings, self._task, self._embedder = settings, task, embedder
        self._labels = list(task.labels)
        self._demonstrations = demonstrations

    @property
    def version(self) -> object:
        """Method, the labels with their descriptions, and how many of them a record may have."""
        numbers = [self._task.min_labels, self._task.max_labels]
        return {"method": METHOD, "labels": list(self._task.labels.items()), "numbers": numbers}

    def answers(self, records: pl.DataFrame) -> list[dict[str, Any]]:
        """labels, confidence and scores of every record; a record that is a demonstration does not vote on itself."""
        vectors = self._embedder.vectors(records.select("content_hash", "content"))
        scores = self._by_description(vectors)
        if self._voters:
            weight = self._settings.demonstration_weight
            votes = self._voters.scores(vectors, same_record(records, self._demonstrations))
            scores = weight * votes + (1 - weight) * DESCRIPTION_SCALE * scores
        return [self._answer(row, chance) for row, chance in zip(scores, self._decision.chances(scores), strict=True)]

    def _answer(self, scores: Array, chances: Array) -> dict[str, Any]:
        ranked = sorted(range(len(self._labels)), key=lambda place: (-round(float(scores[place]), 6), place))
        enough = sum(round(float(score), 6) >= self._decision.threshold for score in scores)
        given = ranked[: min(max(enough, self._decision.least), self._decision.most)]
        # Without a label the chance that there is none to give.
        sure = float(np.mean(chances[given])) if given else float(np.prod(1 - chances))
        return {
            "labels": [self._labels[place] for place in sorted(given)],
            "confidence": round(sure, 6),
            "scores": {name: round(float(p), 6) for name, p in zip(self._labels, chances, strict=True)},
        }

    def _by_description(self, vectors: Vectors) -> Array:
        """The probability of every label by the descriptions alone, shape (n, labels)."""
        return mixed_probabilities(
            vectors,
            self._descriptions,
            self._demonstration_vectors,
            self._votes,
            neighbours=1,
            demonstration_weight=0.0,
            exclude=np.zeros((len(vectors), self._demonstrations.height), dtype=np.bool_),
        )

    @cached_property
    def _voters(self) -> _Voters | None:
        return _Voters(self._demonstration_vectors, self._votes) if self._demonstrations.height else None

    @cached_property
    def _decision(self) -> _Decision:
        fewest, most = self._task.min_labels, self._task.max_labels or len(self._labels)
        if not self._voters:
            return _Decision(THRESHOLD, max(fewest, 1), most, None, None)
        weight = self._settings.demonstration_weight
        described = DESCRIPTION_SCALE * self._by_description(self._demonstration_vectors)
        scores = weight * self._voters.left_out() + (1 - weight) * described
        counts = self._votes.sum(axis=1).astype(int)
        least, most = max(fewest, min(int(counts.min()), 1)), min(most, int(counts.max()))
        return learn_decision(scores, self._votes, least=least, most=max(least, most))

    @cached_property
    def _descriptions(self) -> Vectors:
        return description_vectors(self._embedder, self._task.labels)

    @cached_property
    def _demonstration_vectors(self) -> Vectors:
        return self._embedder.vectors(self._demonstrations.select("content_hash", "content"), share=True)

    @cached_property
    def _votes(self) -> Array:
        """Which labels each demonstration votes for, shape (m, labels)."""
        return label_table(self._task, self._demonstrations["label"])


def label_table(task: Task, labels: pl.Series) -> Array:
    """Which of a task's labels each annotation names, shape (n, labels), 1 where it does."""
    position = {label: index for index, label in enumerate(task.labels)}
    table = np.zeros((len(labels), len(position)))
    for row, label in enumerate(labels):
        table[row, [position[name] for name in task.named(label) if name in position]] = 1.0
    return table


class _Voters:
    """Kernel ridge regression of the labels on the demonstrations' vectors, relative to their mean.

    Args:
        vectors: Shape (m, d), rows of length 1.
        votes: Shape (m, labels).
    """

    def __init__(self, vectors: Vectors, votes: Array) -> None:
        self._votes = votes
        self._centre = vectors.sum(axis=0, dtype=np.float64) / (len(vectors) + PRIOR_DEMONSTRATIONS)
        self._shown = self._directions(vectors)
        self._inverse = np.linalg.inv(self._kernel(self._shown) + RIDGE * np.eye(len(vectors)))
        self._weights: Array = self._inverse @ votes

    def scores(self, vectors: Vectors, exclude: NDArray[np.bool_]) -> Array:
        """What the demonstrations say of every label, shape (n, labels); about 0 to 1.

        Args:
            vectors: Shape (n, d).
            exclude: Shape (n, m); true where a demonstration may not vote.
        """
        kernel = self._kernel(self._directions(vectors))
        scores: Array = kernel @ self._weights
        for row in np.flatnonzero(exclude.any(axis=1)):
            out = np.flatnonzero(exclude[row])
            lost = np.linalg.solve(self._inverse[np.ix_(out, out)], self._weights[out])
            scores[row] = kernel[row] @ (self._weights - self._inverse[:, out] @ lost)
        return scores

    def left_out(self) -> Array:
        """What the others say of each demonstration, shape (m, labels)."""
        said: Array = self._votes - self._weights / np.diag(self._inverse)[:, None]
        return said

    def _directions(self, vectors: Vectors) -> Array:
        centred = vectors.astype(np.float64) - self._centre
        lengths = np.linalg.norm(centred, axis=1, keepdims=True)
        directions: Array = np.divide(centred, lengths, out=np.zeros_like(centred), where=lengths > 0)
        return directions

    def _kernel(self, directions: Array) -> Array:
        # The constant stands for how frequent each label is, wherever a record lies.
        kernel: Array = directions @ self._shown.T + 1.0
        return kernel


@dataclass(frozen=True)
class _Decision:
    """Which labels are given, and what their scores are worth.

    Attributes:
        threshold: The least score of a label that is given.
        least, most: So many labels are given, those with the highest scores.
        steps, levels: A score of at least steps[i] has the chance levels[i]; None where scores are chances already.
    """

    threshold: float
    least: int
    most: int
    steps: Array | None
    levels: Array | None

    def chances(self, scores: Array) -> Array:
        """The chance that each label applies, in the scores' shape, 0 to 1; higher scores have no lower ones."""
        if self.steps is None or self.levels is None:
            return np.clip(scores, 0.0, 1.0)
        chances: Array = np.interp(scores, self.steps, self.levels)
        return chances


def learn_decision(scores: Array, votes: Array, *, least: int, most: int) -> _Decision:
    """The threshold with the best micro F1 on records whose labels are known, and the chances by isotonic regression.

    Args:
        scores: Shape (m, labels); those of a record made without its own labels.
        votes: The labels, shape (m, labels).
        least, most: How many labels are given.
    """
    from sklearn.isotonic import IsotonicRegression

    flat, applies = np.round(scores.ravel(), 6), votes.ravel()
    order = np.argsort(-flat, kind="stable")
    ranked, hits = flat[order], np.cumsum(applies[order])
    f1 = 2 * hits / (np.arange(1, len(ranked) + 1) + applies.sum())
    f1[:-1][ranked[:-1] == ranked[1:]] = -1.0  # equal scores are given together
    best = int(np.argmax(f1))
    below = ranked[best + 1] if best + 1 < len(ranked) else ranked[best] - 1e-6
    threshold = float((ranked[best] + below) / 2) if applies.any() else np.inf
    # A label in ten thousand and all of them at once are no certainties on so few records.
    isotonic = IsotonicRegression(y_min=0.001, y_max=0.99).fit(flat, applies)
    return _Decision(threshold, least, most, np.asarray(isotonic.X_thresholds_), np.asarray(isotonic.y_thresholds_))
