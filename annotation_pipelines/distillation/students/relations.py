"""Relations of marked pairs: frozen encoder, features of the pair (`pair_features`), linear head.

A pair is read as it stands in the text, the first mention first. So (e1,e2) and (e2,e1) of a label are exchanged where
e2 comes first, before the head learns and after it has answered: what "caused by" teaches holds whatever the names of
the mentions are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from annotation_pipelines.content import Content
from annotation_pipelines.distillation.encoder import Encoder
from annotation_pipelines.distillation.pair_features import VERSION, pair_features
from annotation_pipelines.distillation.softmax import LEAST_PROBABILITY
from annotation_pipelines.distillation.students.base import (
    Examples,
    Predicted,
    Progress,
    TextVectors,
    Vectors,
)
from annotation_pipelines.distillation.students.linear import LinearStudent
from annotation_pipelines.errors import TrainingError
from annotation_pipelines.tasks.base import Invalid
from annotation_pipelines.tasks.given_relations import GivenRelationsTask
from annotation_pipelines.tasks.marked_pair import MarkedPair

DIRECTIONS = 512
"""Of the space of the features at most so many directions are learned in."""

_SEEN = 2_048
_CHUNK = 1_024
_SWAPPED = {"(e1,e2)": "(e2,e1)", "(e2,e1)": "(e1,e2)"}


class RelationStudent(LinearStudent):
    """Logistic regression on what the encoder says of two mentions and of what stands between them."""

    kind = "linear"

    def fit(self, examples: Examples, vectors: TextVectors, progress: Progress | None = None) -> Self:
        """Learn; see `Student.fit`. Rows that mark no pair teach nothing."""
        examples = Examples(self._in_text_order(examples.rows), self._in_text_order(examples.audit))
        if examples.rows.is_empty():
            raise TrainingError("expected labelled records that mark a pair with <e1> and <e2>, found none")
        reduced = _Reduced(self, vectors.encoder)
        basis = reduced.learn(examples.rows, self.config.seed, progress)
        super().fit(examples, reduced)
        self.head.coef_ = np.ascontiguousarray(self.head.coef_ @ basis.T)
        self._close()
        return self

    def predict(self, rows: pl.DataFrame, vectors: TextVectors, progress: Progress | None = None) -> Predicted:
        """The most probable label of every row; a text that marks no pair gives all labels the same probability."""
        classes = self.head.classes_
        swapped = np.array([classes.index(self.swapped(label)) for label in classes])
        probabilities = np.full((rows.height, len(classes)), 1 / len(classes))
        for start in range(0, rows.height, _CHUNK):
            pairs = self.pairs(rows["content"][start : start + _CHUNK])
            marked = [(start + row, pair) for row, pair in enumerate(pairs) if pair is not None]
            if marked:
                found = self.head.predict_proba(pair_features(vectors.encoder, [pair for _, pair in marked]))
                for (row, pair), chances in zip(marked, found, strict=True):
                    probabilities[row] = chances[swapped] if _backwards(pair) else chances
            if progress is not None:
                progress(min(start + _CHUNK, rows.height), rows.height)
        best = probabilities.argmax(axis=1)
        return Predicted([classes[index] for index in best], probabilities[np.arange(len(best)), best], probabilities)

    def save(self, folder: Path) -> dict[str, Any]:
        """Write the head."""
        return {**super().save(folder), "features": VERSION}

    def load(self, folder: Path, facts: Mapping[str, Any]) -> Self:
        """Read the head."""
        if facts["features"] != VERSION:
            raise ValueError(f"it reads features of version {facts['features']}, this package makes {VERSION}")
        return super().load(folder, facts)

    def pairs(self, contents: Sequence[str] | pl.Series) -> list[MarkedPair | None]:
        """The pair that each stored content marks; None where it marks none."""
        assert isinstance(self.task, GivenRelationsTask)
        found: list[MarkedPair | None] = []
        for content in contents:
            try:
                found.append(self.task.pair(Content.read(content)))
            except Invalid:
                found.append(None)
        return found

    def swapped(self, label: str) -> str:
        """The label of the same pair if e1 were called e2; one without a direction stays."""
        assert isinstance(self.task, GivenRelationsTask)
        direction = label[-7:]
        if not self.task.directed or label == self.task.none or direction not in _SWAPPED:
            return label
        return label[:-7] + _SWAPPED[direction]

    def _in_text_order(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Rows that mark a pair, with labels as if the first mention were e1."""
        pairs = self.pairs(rows["content"])
        rows = rows.with_columns(
            _back=pl.Series([pair is not None and _backwards(pair) for pair in pairs], dtype=pl.Boolean)
        )
        rows = rows.filter(pl.Series([pair is not None for pair in pairs], dtype=pl.Boolean))
        for name in ("label", "given", "scores"):
            if name in rows.columns and rows["_back"].any():
                turn = self._swapped_scores if name == "scores" else self.swapped
                turned = pl.Series(
                    name,
                    [
                        turn(value) if back and value is not None else value
                        for value, back in rows.select(name, "_back").iter_rows()
                    ],
                    dtype=pl.String,
                )
                rows = rows.with_columns(turned)
        return rows.drop("_back")

    def _swapped_scores(self, scores: str) -> str:
        return json.dumps({self.swapped(label): score for label, score in json.loads(scores).items()})

    def _close(self) -> None:
        """Add classes that only differ in direction from those that were learned: a pair may stand the other way."""
        head = self.head
        new = sorted({self.swapped(label) for label in head.classes_} - set(head.classes_))
        if new:
            classes = [*head.classes_, *new]
            order = np.argsort(np.array(classes, dtype=object), kind="stable")
            coef = np.concatenate([head.coef_, np.zeros((len(new), head.coef_.shape[1]), dtype=np.float32)])
            never = np.full(len(new), np.log(LEAST_PROBABILITY), dtype=np.float32)
            intercept = np.concatenate([head.intercept_, never])
            head.classes_ = [classes[index] for index in order]
            head.coef_, head.intercept_ = coef[order], intercept[order]


class _Reduced:
    """The features in an orthonormal basis of the directions in which the training rows lie.

    With as many directions as rows nothing is lost: the head's coefficients are a sum of the rows it learned from. With
    more rows than DIRECTIONS those are kept along which the rows, or 2,048 of them, have the most. It is `TextVectors`
    to whoever teaches the head.
    """

    def __init__(self, student: RelationStudent, encoder: Encoder) -> None:
        self._student, self.encoder = student, encoder
        self._basis: Vectors | None = None
        self._known: dict[str, Vectors] = {}

    def learn(self, rows: pl.DataFrame, seed: int, progress: Progress | None) -> Vectors:
        """Find the basis, shape (features, directions), and remember the rows in it."""
        distinct = rows.unique("content", keep="first", maintain_order=True)["content"]
        drawn = np.random.default_rng(seed).permutation(len(distinct))[:_SEEN]
        seen = self._features(distinct.gather(np.sort(drawn)).to_list(), progress)
        gram = (seen @ seen.T).astype(np.float64)
        values, left = np.linalg.eigh(gram)
        kept = np.flatnonzero(values > values[-1] * 1e-7)[-DIRECTIONS:]
        basis: NDArray[np.float64] = seen.T.astype(np.float64) @ (left[:, kept] / np.sqrt(values[kept]))
        self._basis = basis.astype(np.float32)
        return self._basis

    def vectors(self, frame: pl.DataFrame, progress: Progress | None = None) -> Vectors:
        """Shape (n, directions), in the order of the frame's contents."""
        assert self._basis is not None
        contents = frame["content"].to_list()
        missing = [content for content in dict.fromkeys(contents) if content not in self._known]
        for start in range(0, len(missing), _CHUNK):
            chunk = missing[start : start + _CHUNK]
            reduced = self._features(chunk, progress) @ self._basis
            self._known |= dict(zip(chunk, reduced, strict=True))
        return np.stack([self._known[content] for content in contents])

    def _features(self, contents: Sequence[str], progress: Progress | None) -> Vectors:
        pairs = [pair for pair in self._student.pairs(contents) if pair is not None]
        return pair_features(self.encoder, pairs, progress)


def _backwards(pair: MarkedPair) -> bool:
    """Whether e2 stands before e1 in the text."""
    return pair.e2 < pair.e1
