"""Which labels are shown with a record, where there are too many to show all of them in every prompt.

The likeliest ones by embedding: near to the record by their description, or by the demonstrations that carry them. What
is left out can hardly be answered, so the recall of the choice bounds what the annotator can get right: `recall`
measures it on gold.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from annotation_pipelines.annotators.embedded.similarity import LabelSimilarity
from annotation_pipelines.tasks.base import Task

if TYPE_CHECKING:
    from annotation_pipelines.distillation.embedding import Embedder

METHOD = 1
"""Raised when other labels would be shown."""

NEIGHBOURS = 30
"""So many of the nearest demonstrations speak for their labels: more than for an answer, since many labels are kept."""

DEMONSTRATION_WEIGHT = 0.5
"""The share of the demonstrations against the descriptions."""

_SCHEMA = {"record_id": pl.String, "content_hash": pl.String, "content": pl.String, "label": pl.String}


class Candidates:
    """Chooses the labels to show with each record.

    Args:
        count: How many; fewer than the task has.
        demonstrations: Gold records: record_id, content_hash, content, label. None or empty: the descriptions alone
            decide.
        embedder: Gives the vectors.
    """

    def __init__(self, task: Task, count: int, demonstrations: pl.DataFrame | None, embedder: Embedder) -> None:
        self._task, self._count, self._embedder = task, count, embedder
        self._labels = list(task.labels)
        found = pl.DataFrame(schema=_SCHEMA) if demonstrations is None else demonstrations.select(list(_SCHEMA))
        # A demonstration without a label speaks for none.
        named = [any(name in task.labels for name in task.named(label)) for label in found["label"]]
        self._demonstrations = found.filter(pl.Series(named, dtype=pl.Boolean)).sort("record_id")
        self._similarity = LabelSimilarity(
            task,
            self._demonstrations,
            embedder,
            neighbours=NEIGHBOURS,
            demonstration_weight=DEMONSTRATION_WEIGHT,
        )

    @property
    def version(self) -> object:
        """JSON-like: everything that decides which labels are shown, beside the record."""
        return {
            "method": METHOD,
            "count": self._count,
            "encoder": self._embedder.encoder.id,
            "labels": list(self._task.labels.items()),
            "demonstrations": self._demonstrations.select("record_id", "content_hash", "label").rows(),
        }

    def choose(self, records: pl.DataFrame, needed: Sequence[Collection[str]] | None = None) -> list[list[str]]:
        """The labels to show with each row of a frame with record_id, content_hash and content.

        Args:
            needed: For each row labels to show in any case, such as those of its demonstrations; the likeliest ones
                fill up what they leave. A label that the task does not have is left out.

        Returns:
            Lists in the order of the declaration, which tells nothing of what is likelier.

        Raises:
            DeclarationError: The encoder cannot be loaded.
            StoreError: The vectors cannot be kept.
        """
        if records.is_empty():
            return []
        order = np.argsort(-np.round(self._similarity.probabilities(records), 9), axis=1, kind="stable")
        chosen = []
        for row, ranked in enumerate(order.tolist()):
            wanted = set(needed[row]) if needed else set()
            kept = {place for place, name in enumerate(self._labels) if name in wanted}
            for place in ranked:
                if len(kept) >= self._count:
                    break
                kept.add(place)
            chosen.append([self._labels[place] for place in sorted(kept)])
        return chosen


def recall(task: Task, gold: Sequence[str], shown: Sequence[Collection[str]]) -> float | None:
    """The share of gold labels that were among those shown; None where no record has a label.

    Args:
        gold: n canonical labels; one that names several labels counts once for each.
        shown: The n sets of labels that were shown.
    """
    there = [name in kept for label, kept in zip(gold, shown, strict=True) for name in task.named(label)]
    return sum(there) / len(there) if there else None
