"""Logistic regression on what is seen and on vectors at once, in seconds on one core.

The objective is that of scikit-learn's LogisticRegression without an intercept: mean log-loss plus |w|^2 / (2 C n), C
being 1. What is seen is a sparse table and the vectors a dense one: scikit-learn would need both in one table, and took
ten times as long.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annotation_pipelines.annotators.embedded.span_features import Seen, columns

_ITERATIONS = 200
_GRADIENT = 1e-3
"""Where the largest entry of the gradient is below it, learning ends: more fits the noise of few examples."""

Array = NDArray[np.float64]
Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Table:
    """What is known of n rows.

    Attributes:
        seen: Names of what is there, a list a row.
        vectors: Shape (n, d).
    """

    seen: Sequence[Seen]
    vectors: Vectors

    def rows(self, rows: Sequence[int]) -> Table:
        """Some of the rows."""
        return Table([self.seen[row] for row in rows], self.vectors[rows])

    def scaled(self, scale: float) -> Table:
        """The same with vectors of another length."""
        return Table(self.seen, self.vectors * np.float32(scale))


class SoftmaxRegression:
    """A multinomial logistic regression.

    Args:
        table: n rows; one at least.
        classes: The class of each, shape (n,).

    Attributes:
        classes: The k classes that occur, in order.
    """

    def __init__(self, table: Table, classes: NDArray[np.int64]) -> None:
        from scipy.optimize import minimize
        from threadpoolctl import threadpool_limits

        self.classes, wanted = np.unique(classes, return_inverse=True)
        names = sorted({name for names in table.seen for name in names})
        self._columns = {name: column for column, name in enumerate(names)}
        sparse, dense = self._sparse(table), table.vectors
        n, p, k = len(wanted), len(names), len(self.classes)
        transposed = sparse.T.tocsr()
        rows = np.arange(n)

        def objective(flat: Array) -> tuple[float, Array]:
            weights = flat.reshape(-1, k)
            narrow = weights.astype(np.float32)
            scores = _log_softmax(sparse @ narrow[:p] + dense @ narrow[p:])
            errors = np.exp(scores)
            errors[rows, wanted] -= 1.0
            gradient = np.concatenate([transposed @ errors, dense.T @ errors]).astype(np.float64) / n
            loss = -float(scores[rows, wanted].mean(dtype=np.float64)) + 0.5 * float((weights**2).sum()) / n
            return loss, (gradient + weights / n).ravel()

        # On a busy machine several threads spin while they wait for one another, and the tables are small.
        with threadpool_limits(limits=1):
            found = minimize(
                objective,
                np.zeros((p + dense.shape[1]) * k),
                jac=True,
                method="L-BFGS-B",
                options={"maxiter": _ITERATIONS, "gtol": _GRADIENT},
            )
        self._weights = found.x.reshape(-1, k).astype(np.float32)

    def log_probabilities(self, table: Table) -> Array:
        """The log-probability of each class for each row, shape (n, k)."""
        p = len(self._columns)
        scores = self._sparse(table) @ self._weights[:p] + table.vectors @ self._weights[p:]
        return _log_softmax(scores).astype(np.float64)

    def _sparse(self, table: Table) -> Any:
        from scipy.sparse import csr_matrix

        indices, ends = columns(table.seen, self._columns)
        ones = np.ones(len(indices), dtype=np.float32)
        return csr_matrix((ones, indices, ends), shape=(len(table.seen), len(self._columns)))


def _log_softmax(scores: Vectors) -> Vectors:
    scores = scores - scores.max(axis=1, keepdims=True)
    normalised: Vectors = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    return normalised
