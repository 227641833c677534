"""Learning to reweight examples by one-step meta-gradients (Ren et al. 2018, arXiv 1803.09050), as LLMaAA does.

In every batch a virtual step is taken on `sum_i eps_i * loss_i`. The derivative of the gold loss after it with respect
to eps_i, at eps = 0, says whether example i helps: its weight is what is above 0 of minus that derivative, normalised
to sum 1. At eps = 0 the virtual step goes nowhere, so with gradients g the derivative is

    d gold_loss(theta - rate * sum_i eps_i g_i) / d eps_i = -rate * <g_gold, g_i>,

an inner product. For a linear softmax head g_i is the outer product of the error p_i - t_i and the vector x_i, and all
inner products of a batch are two small matrix products: nothing is differentiated numerically or by a graph.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from annotation_pipelines.distillation.softmax import folds, softmax

Array = NDArray[np.float64]
Vectors = NDArray[np.float32]
Rows = NDArray[np.int64]

_EPOCHS = 20
_BATCH = 64
_BATCHES = 64
_JUDGES = 256
_RATE = 0.5  # with vectors of length 1 and an intercept, descent diverges from 2 on
_MOST = 5.0


@dataclass
class SoftmaxModel:
    """A linear softmax head that is trained step by step: coefficients, shape (k, d), intercepts, shape (k,)."""

    coef: Array
    intercept: Array

    def errors(self, X: Vectors, targets: Array) -> Array:
        """p - t of every row, shape (n, k): the derivative of its cross-entropy with respect to its logits."""
        return softmax(X @ self.coef.T + self.intercept) - targets

    def step(self, X: Vectors, errors: Array, weights: Array, rate: float, decay: float) -> None:
        """One step of gradient descent on the weighted sum of the rows' losses, and an L2 penalty on coefficients."""
        weighed = errors * weights[:, None]
        self.coef -= rate * (weighed.T @ X + decay * self.coef)
        self.intercept -= rate * weighed.sum(axis=0)


def gradient(X: Vectors, errors: Array) -> tuple[Array, Array]:
    """The mean gradient of the cross-entropy over rows: for coefficients, shape (k, d), and intercepts, shape (k,)."""
    return errors.T @ X / len(X), errors.mean(axis=0)


def alignment(X: Vectors, errors: Array, gold: tuple[Array, Array]) -> Array:
    """The inner product of each row's gradient with the gold gradient, shape (n,).

    Args:
        X: Shape (n, d).
        errors: Shape (n, k), as by `SoftmaxModel.errors`.
        gold: As by `gradient`.
    """
    products: Array = np.einsum("nk,nk->n", errors, X @ gold[0].T + gold[1])
    return products


def weights_from_alignment(aligned: Array) -> Array:
    """What is above 0, normalised to sum 1; all 0 where nothing is: the step is skipped then. Shape (b,)."""
    positive = np.maximum(aligned, 0.0)
    total = positive.sum()
    return positive / total if total > 0 else positive


def learned_weights(
    X: Vectors,
    targets: Array,
    weights: Array,
    gold: NDArray[np.bool_],
    *,
    strength: float = 3.0,
    epochs: int = _EPOCHS,
    seed: int = 0,
) -> Array:
    """A factor for the weight of every row: 1 for gold, 0 to 5 with a mean of 1 for silver.

    The gold rows are split in two halves. A head is trained in batches on silver and one half, and the other half
    judges, so that no gold row judges a head that has fitted it; then the halves change places. A silver row's factor
    is its mean weight, relative to its batch, over both and over the second half of the epochs: from there the caller
    fits the convex problem to its minimum.

    Args:
        X: Shape (n, d).
        targets: Shape (n, k).
        weights: Shape (n,): a row's own weight multiplies what is learned.
        gold: Shape (n,). With fewer than four gold rows, or no silver, all factors are 1.
        strength: As in `fit_softmax`.
        seed: Of halves, batches and judges.
    """
    factors = np.ones(len(X))
    people, silver = np.flatnonzero(gold & (weights > 0)), np.flatnonzero(~gold & (weights > 0))
    if len(people) < 4 or not len(silver):
        return factors
    halves = folds(targets[people].argmax(axis=1), 2, seed)
    if len(halves) < 2:
        drawn = np.random.default_rng(seed).permutation(len(people))
        halves = [(drawn[::2], drawn[1::2]), (drawn[1::2], drawn[::2])]
    sums = np.zeros(len(X))
    for number, (fitted, judges) in enumerate(halves):
        generator = np.random.default_rng([seed, number])
        train = np.concatenate([silver, people[fitted]])
        sums += _epochs(X, targets, weights, gold, train, people[judges], strength, epochs, generator)
    learned = sums[silver]
    if learned.sum() > 0:
        factors[silver] = np.minimum(learned / learned.mean(), _MOST)
    return factors


def _epochs(
    X: Vectors,
    targets: Array,
    weights: Array,
    gold: NDArray[np.bool_],
    train: Rows,
    judges: Rows,
    strength: float,
    epochs: int,
    generator: np.random.Generator,
) -> Array:
    """The learned weights of the rows, relative to their batches, summed over the second half of the epochs."""
    d, k = X.shape[1], targets.shape[1]
    model = SoftmaxModel(np.zeros((k, d)), np.zeros(k))
    batch = max(_BATCH, len(train) // _BATCHES)
    decay = 1.0 / (strength * weights[train].sum())
    sums = np.zeros(len(X))
    for epoch in range(epochs):
        order = generator.permutation(train)
        for first in range(0, len(order), batch):
            rows = order[first : first + batch]
            jury = judges if len(judges) <= _JUDGES else generator.choice(judges, _JUDGES, replace=False)
            verdict = gradient(X[jury], model.errors(X[jury], targets[jury]))
            errors = model.errors(X[rows], targets[rows])
            learned = weights_from_alignment(alignment(X[rows], errors, verdict)) * len(rows)
            if epoch >= epochs // 2:
                sums[rows] += learned
            # People's labels are not weighed: they count as a mean row does.
            counted = np.where(gold[rows], 1.0, np.minimum(learned, _MOST)) * weights[rows]
            if counted.sum() > 0:
                model.step(X[rows], errors, counted / counted.sum(), _RATE, decay)
    return sums
