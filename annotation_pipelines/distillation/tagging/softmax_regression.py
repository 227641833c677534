"""Logistic regression on what is seen and on vectors at once.

The loss is that of scikit-learn's LogisticRegression without an intercept, with soft targets: the weighted sum of
cross-entropies, divided by n, plus |w|^2 / (2 n). What is seen is a sparse table and the vectors a dense one:
scikit-learn would need both in one table, and took ten times as long.

Memory: of what is seen at most 200,000 columns are kept, those that most rows have; vectors may be float16, and are
widened block by block.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from annotation_pipelines.distillation.tagging.features import COLUMNS, Seen, hashed

MOST_COLUMNS = 200_000

_ITERATIONS = 200
_GRADIENT = 1e-3
"""Where the largest entry of the gradient is below it, learning ends: more fits the noise of few examples."""
_BLOCK = 16_384
_ABSENT = -50.0
"""The log-probability of a class that no row has."""

Array = NDArray[np.float64]
Vectors = NDArray[np.float32]
Rows = NDArray[np.int64]
_Number = TypeVar("_Number", bound=np.floating[Any])


@dataclass(frozen=True)
class Table:
    """What is known of n rows.

    Attributes:
        columns: The hashed columns that are 1, row after row.
        ends: Where each row ends among them, shape (n + 1,), from 0.
        vectors: Shape (n, d), float32 or float16.
        scale: What vectors are multiplied by.
    """

    columns: NDArray[np.int32]
    ends: Rows
    vectors: NDArray[np.floating[Any]]
    scale: float = 1.0

    @classmethod
    def of(cls, seen: Iterable[Seen], vectors: NDArray[np.floating[Any]], scale: float = 1.0) -> Table:
        """The table of names of what is there, a list a row, and of vectors."""
        found = [hashed(names) for names in seen]
        ends = np.cumsum([0, *map(len, found)], dtype=np.int64)
        return cls(np.concatenate([np.zeros(0, dtype=np.int32), *found]), ends, vectors, scale)

    def __len__(self) -> int:
        return len(self.ends) - 1

    def rows(self, rows: Rows) -> Table:
        """Some of the rows, in order."""
        lengths = np.diff(self.ends)[rows]
        ends = np.cumsum([0, *lengths], dtype=np.int64)
        places = np.arange(ends[-1]) + np.repeat(self.ends[rows] - ends[:-1], lengths)
        return Table(self.columns[places], ends, self.vectors[rows], self.scale)

    def scaled(self, scale: float) -> Table:
        """The same with vectors of another length."""
        return replace(self, scale=scale)

    def sparse(self, known: NDArray[np.int32]) -> Any:
        """What is seen, as compressed sparse rows of shape (n, known): columns that are not known are left out."""
        from scipy.sparse import csr_matrix

        if not len(known):
            return csr_matrix((len(self), 0), dtype=np.float32)
        places = np.minimum(np.searchsorted(known, self.columns), len(known) - 1).astype(np.int32)
        there = known[places] == self.columns
        ends = np.concatenate([[0], np.cumsum(there)])[self.ends]
        ones = np.ones(int(ends[-1]), dtype=np.float32)
        return csr_matrix((ones, places[there], ends), shape=(len(self), len(known)))


class SoftmaxRegression:
    """A multinomial logistic regression over k classes.

    Attributes:
        columns: The hashed columns that it knows, p of them in order.
        weights: float32, shape (p + d, k).
        present: Which classes some row had, shape (k,).
    """

    def __init__(self, columns: NDArray[np.int32], weights: Vectors, present: NDArray[np.bool_]) -> None:
        self.columns, self.weights, self.present = columns, weights, present

    @classmethod
    def fit(cls, table: Table, targets: NDArray[np.floating[Any]], weights: Array | None = None) -> SoftmaxRegression:
        """Learn.

        Args:
            table: n rows; one at least.
            targets: The probability of each class for each row, shape (n, k).
            weights: Shape (n,), 0 or more, not all 0; default: 1 each.
        """
        from scipy.optimize import minimize
        from threadpoolctl import threadpool_limits

        mass = np.ones(len(table)) if weights is None else np.asarray(weights, dtype=np.float64)
        present = mass @ targets > 0
        wanted = np.ascontiguousarray(targets[:, present], dtype=np.float32)
        narrow_mass = mass.astype(np.float32)
        columns = _columns(table)
        sparse = table.sparse(columns)
        transposed = sparse.T.tocsr()
        n, p, d, k = len(table), len(columns), table.vectors.shape[1], wanted.shape[1]

        def objective(flat: Array) -> tuple[float, Array]:
            point = flat.reshape(-1, k)
            narrow = point.astype(np.float32)
            scores = sparse @ narrow[:p]
            dense = np.zeros((d, k), dtype=np.float64)
            loss = 0.0
            for block, vectors in _blocks(table):
                scores[block] += vectors @ narrow[p:]
                logs = log_softmax(scores[block])
                loss -= float(np.einsum("nk,nk->n", wanted[block], logs) @ mass[block])
                errors = (np.exp(logs) - wanted[block]) * narrow_mass[block, None]
                scores[block] = errors
                dense += vectors.T @ errors
            gradient = np.concatenate([transposed @ scores, dense]).astype(np.float64) / n
            return loss / n + 0.5 * float((point**2).sum()) / n, (gradient + point / n).ravel()

        # On a busy machine several threads spin while they wait for one another, and the tables are small.
        with threadpool_limits(limits=1):
            found = minimize(
                objective,
                np.zeros((p + d) * k),
                jac=True,
                method="L-BFGS-B",
                options={"maxiter": _ITERATIONS, "gtol": _GRADIENT},
            )
        all_weights = np.zeros((p + d, len(present)), dtype=np.float32)
        all_weights[:, present] = found.x.reshape(-1, k)
        return cls(columns, all_weights, present)

    def log_probabilities(self, table: Table) -> Array:
        """The log-probability of each class for each row, shape (n, k)."""
        p = len(self.columns)
        known = self.weights[:, self.present]
        scores = table.sparse(self.columns) @ known[:p]
        for block, vectors in _blocks(table):
            scores[block] += vectors @ known[p:]
        logs = np.full((len(table), len(self.present)), _ABSENT)
        logs[:, self.present] = log_softmax(scores)
        return logs

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What `of_arrays` needs, by name."""
        return {"columns": self.columns, "weights": self.weights, "present": self.present.astype(np.uint8)}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> SoftmaxRegression:
        """What `arrays` gave.

        Raises:
            ValueError, KeyError: It is not.
        """
        columns, weights, present = arrays["columns"], arrays["weights"], arrays["present"].astype(np.bool_)
        if weights.ndim != 2 or weights.shape[1] != len(present) or len(weights) < len(columns):
            raise ValueError("columns, weights and classes do not fit")
        return cls(columns, weights, present)


def _columns(table: Table) -> NDArray[np.int32]:
    """The columns that are kept: of many those that most rows have."""
    there: NDArray[np.integer[Any]]
    if len(table.columns) < COLUMNS:
        there, counts = np.unique(table.columns, return_counts=True)
    else:
        every = np.bincount(table.columns, minlength=COLUMNS)
        there = np.flatnonzero(every)
        counts = every[there]
    if len(there) > MOST_COLUMNS:
        there = np.sort(there[np.argsort(-counts, kind="stable")[:MOST_COLUMNS]])
    return there.astype(np.int32)


def _blocks(table: Table) -> Iterable[tuple[slice, Vectors]]:
    """The vectors in blocks of rows, scaled, as float32; without any where there are none."""
    for first, last in pairwise([*range(0, len(table), _BLOCK), len(table)]):
        block = slice(first, last)
        yield block, table.vectors[block].astype(np.float32) * np.float32(table.scale)


def log_softmax(scores: NDArray[_Number]) -> NDArray[_Number]:
    """Logarithms of the probabilities of scores, shape (n, k)."""
    shifted = scores - scores.max(axis=1, keepdims=True)
    normalised: NDArray[_Number] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return normalised
