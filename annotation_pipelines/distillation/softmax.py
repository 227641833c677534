"""Multinomial logistic regression on soft targets: what every linear head of this package is fitted with.

The loss is that of scikit-learn's `LogisticRegression` with the targets' cross-entropy in the place of the log-loss:

    strength * sum_i w_i * CE(t_i, softmax(x_i A' + b)) + |A|^2 / 2

It is convex. L-BFGS minimises it in coordinates in which its curvature is near to the identity: that of the softmax is
bounded by a multiple of X'WX (Boehning 1992, Ann. Inst. Stat. Math. 44), whose Cholesky factor gives the coordinates.
That takes a quarter of the steps or fewer, and leaves the minimum where it is.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Vectors = NDArray[np.float32]
Rows = NDArray[np.int64]

LEAST_PROBABILITY = 1e-6
"""What a class without a row gets."""

TOLERANCE = 1e-6
_ROUGH = 1e-5

_ITERATIONS = 200
_BLOCK = 8_192
_FREE = 1e-6  # intercepts are not penalised; this keeps the factor regular


def fit_softmax(
    X: Vectors,
    targets: Array,
    weights: Array,
    strength: float,
    *,
    start: tuple[Vectors, Vectors] | None = None,
    tolerance: float = TOLERANCE,
) -> tuple[Vectors, Vectors]:
    """Coefficients, shape (k, d), and intercepts, shape (k,), that minimise the loss.

    A class without mass in the targets gets coefficients of 0 and an intercept of log(1e-6) below the others.

    Args:
        X: float32, shape (n, d).
        targets: Shape (n, k), rows that sum to 1.
        weights: Shape (n,), 0 or more, not all 0.
        strength: Inverse strength of the penalty: C of scikit-learn.
        start: Coefficients and intercepts to begin with, those for another strength for instance.
        tolerance: The search ends when a step lowers the loss by less than this share of it. Products are in float32,
            so nothing below 1e-7 is to be had.
    """
    from scipy.linalg import solve_triangular
    from scipy.optimize import minimize

    k, d = targets.shape[1], X.shape[1]
    present = np.flatnonzero(weights @ targets > LEAST_PROBABILITY)
    coef = np.zeros((k, d), dtype=np.float32)
    intercept = np.full(k, np.log(LEAST_PROBABILITY), dtype=np.float32)
    wanted = np.ascontiguousarray(targets[:, present], dtype=np.float32)
    total, classes = float(weights.sum()), len(present)
    mass = weights.astype(np.float32)
    ridge = 1.0 / (strength * total)
    factor = _factor(X, mass, ridge, classes, total)

    def unfold(flat: Array) -> Array:
        """A point of the search as coefficients and intercepts, shape (classes, d + 1)."""
        unfolded: Array = solve_triangular(factor, flat.reshape(classes, d + 1).T, lower=True, trans="T").T
        return unfolded

    def loss(flat: Array) -> tuple[float, Array]:
        point = unfold(flat)
        narrow = point.astype(np.float32)
        value, slope = 0.0, np.zeros_like(point)
        for first in range(0, len(X), _BLOCK):
            block = slice(first, first + _BLOCK)
            logits = X[block] @ narrow[:, :d].T + narrow[:, d]
            logits -= logits.max(axis=1, keepdims=True)
            chances = np.exp(logits)
            sums = chances.sum(axis=1, keepdims=True)
            losses = np.log(sums[:, 0]) - np.einsum("nk,nk->n", wanted[block], logits)
            value += float(losses @ mass[block])
            chances /= sums
            chances -= wanted[block]
            chances *= mass[block, None]
            slope[:, :d] += chances.T @ X[block]
            slope[:, d] += chances.sum(axis=0)
        slope /= total
        slope[:, :d] += ridge * point[:, :d]
        folded: Array = solve_triangular(factor, slope.T, lower=True).T
        return value / total + 0.5 * ridge * float((point[:, :d] ** 2).sum()), folded.ravel()

    first = np.zeros((classes, d + 1))
    if start is not None:
        first[:, :d], first[:, d] = start[0][present], start[1][present]
    found: Any = minimize(
        loss,
        (first @ factor).ravel(),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": _ITERATIONS, "maxcor": 12, "ftol": tolerance, "gtol": 1e-7},
    )
    point = unfold(found.x)
    # A constant on all intercepts changes nothing: with a mean of 0 the absent classes lie below the present ones.
    coef[present], intercept[present] = point[:, :d], point[:, d] - point[:, d].mean()
    return coef, intercept


def one_thread() -> AbstractContextManager[object]:
    """One thread for matrix products: on two busy cores several make each product up to 20 times as slow.

    The products here are of blocks that one core is through with in milliseconds.
    """
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[object] = threadpool_limits(limits=1)
    return limits


def _factor(X: Vectors, weights: Vectors, ridge: float, classes: int, total: float) -> Array:
    """The Cholesky factor, lower, shape (d + 1, d + 1), of curvature * X'WX / total + ridge, intercept last."""
    d = X.shape[1]
    moments = np.zeros((d + 1, d + 1))
    for first in range(0, len(X), _BLOCK):
        block, mass = X[first : first + _BLOCK], weights[first : first + _BLOCK]
        weighed = block * mass[:, None]
        moments[:d, :d] += weighed.T @ block
        moments[d, :d] += weighed.sum(axis=0)
        moments[d, d] += mass.sum()
    moments[:d, d] = moments[d, :d]
    curvature = (1 - 1 / classes) / classes if classes > 1 else 0.25
    moments *= curvature / total
    moments[np.arange(d), np.arange(d)] += ridge
    moments[d, d] += _FREE
    factor: Array = np.linalg.cholesky(moments)
    return factor


def logits_of(X: Vectors, model: tuple[Vectors, Vectors]) -> Array:
    """Logits, shape (n, k), of vectors, shape (n, d), by coefficients and intercepts."""
    logits: Array = (X @ model[0].T + model[1]).astype(np.float64)
    return logits


def log_softmax(logits: Array) -> Array:
    """Logarithms of the probabilities of logits, shape (n, k)."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    logs: Array = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return logs


def softmax(logits: Array) -> Array:
    """The probabilities of logits, shape (n, k)."""
    return np.exp(log_softmax(logits))


def folds(classes: NDArray[np.int64], number: int, seed: int) -> list[tuple[Rows, Rows]]:
    """Training and test rows of each stratified fold; none where fewer than two classes have two rows.

    Each class is dealt out over the folds in turn, in a random order. A class with fewer rows than folds is missing
    from some of them, and a fold whose training part has one class only is left out.
    """
    counts = np.sort(np.bincount(classes))[::-1]
    number = min(number, int(counts[1]) if len(counts) > 1 else 0)
    if number < 2:
        return []
    drawn = np.random.default_rng(seed).permutation(len(classes))
    place = np.empty(len(classes), dtype=np.int64)
    # Rows in order of their class, at random within: dealing them in turn splits each class as evenly as it goes.
    place[drawn[np.argsort(classes[drawn], kind="stable")]] = np.arange(len(classes)) % number
    splits = [(np.flatnonzero(place != fold), np.flatnonzero(place == fold)) for fold in range(number)]
    return [(train, test) for train, test in splits if len(np.unique(classes[train])) > 1]


def cross_validated(
    X: Vectors,
    targets: Array,
    weights: Array,
    *,
    strength: float,
    number: int = 5,
    seed: int = 0,
    groups: Sequence[Hashable] | None = None,
    most: int | None = None,
) -> Array | None:
    """The probabilities of every row by a model that was fitted without it: shape (n, k); None with too few rows.

    Args:
        X: float32, shape (n, d).
        targets: Shape (n, k).
        weights: Shape (n,). Rows that weigh 0 are tested only.
        strength: As in `fit_softmax`.
        number: Of folds, at most.
        seed: Decides the folds.
        groups: n values: no row is tested by a model that has seen another with the same value.
        most: Each model is fitted to so many rows at most, drawn by the seed; None for all.
    """
    keys = range(len(X)) if groups is None else groups
    first: dict[Hashable, int] = {}
    of_group = np.array([first.setdefault(key, len(first)) for key in keys], dtype=np.int64)
    leaders = np.unique(of_group, return_index=True)[1]
    splits = folds(targets.argmax(axis=1)[leaders], number, seed)
    if not splits:
        return None
    predicted = np.tile(weights @ targets / weights.sum(), (len(X), 1))
    model: tuple[Vectors, Vectors] | None = None
    for _, tested in splits:
        out = np.isin(of_group, tested)
        train = np.flatnonzero(~out & (weights > 0))
        if not len(train):
            continue
        if most is not None and len(train) > most:
            train = np.sort(np.random.default_rng(seed).choice(train, most, replace=False))
        model = fit_softmax(X[train], targets[train], weights[train], strength, start=model, tolerance=_ROUGH)
        predicted[out] = softmax(logits_of(X[out], model))
    return predicted
