"""Co-teaching: two models choose for one another what they find easy (Han et al. 2018, arXiv 1804.06872).

Models learn clean labels first and wrong ones later. In every batch each of two models takes the share of examples
with the smallest losses, and the other is trained on them, so that neither feeds on its own mistakes. The share falls
from all to 1 - forget over the first epochs: in epoch T (from 0) it is 1 - forget * min(T / ramp, 1), the paper's
R(T) with its exponent c = 1; forget is the teacher's estimated rate of errors.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from annotation_pipelines.distillation.robust.reweighting import SoftmaxModel

Array = NDArray[np.float64]
Vectors = NDArray[np.float32]

RAMP = 10
"""Over so many epochs the share of examples that are forgotten rises to what is asked."""
MOST_FORGOTTEN = 0.5

_EPOCHS = 20
_BATCH = 64
_BATCHES = 64
_RATE = 0.5  # with vectors of length 1 and an intercept, descent diverges from 2 on


def kept_share(epoch: int, forget: float, ramp: int = RAMP) -> float:
    """The share of a batch that is learned from in an epoch, counted from 0."""
    return 1.0 - forget * min(epoch / ramp, 1.0)


def small_losses(losses: Array, share: float) -> NDArray[np.bool_]:
    """Where losses are among the smallest `share` of them, one at least: shape (b,), like the losses."""
    number = max(1, round(share * len(losses)))
    chosen = np.zeros(len(losses), dtype=np.bool_)
    chosen[np.argsort(losses, kind="stable")[:number]] = True
    return chosen


def forget_rate(errors: int, audited: int, weights: Array) -> float:
    """The teacher's rate of errors, at most 0.5.

    Args:
        errors: How many of the audited labels are wrong.
        audited: How many labels people have checked. What the weights say counts like ten more.
        weights: Shape (n,): of the silver labels, the probability that each is right.
    """
    stated = 1.0 - float(np.clip(weights, 0.0, 1.0).mean()) if len(weights) else 0.0
    return min(MOST_FORGOTTEN, (errors + 10 * stated) / (audited + 10))


def agreed_weights(
    X: Vectors,
    targets: Array,
    weights: Array,
    gold: NDArray[np.bool_],
    *,
    forget: float,
    strength: float = 3.0,
    epochs: int = _EPOCHS,
    seed: int = 0,
) -> Array:
    """A factor for the weight of every row, shape (n,): 1 for gold; for silver how often, 0 to 1, it was learned from.

    Counted are the epochs after the ramp and both linear models; from there the caller fits the convex problem to its
    minimum. The models start from different random coefficients.

    Args:
        X: Shape (n, d).
        targets: Shape (n, k).
        weights: Shape (n,).
        gold: Shape (n,): always learned from.
        forget: The share of silver that is forgotten in the end, 0 to 1.
        strength: As in `fit_softmax`.
        seed: Of the first coefficients and the batches.
    """
    n, d, k = *X.shape, targets.shape[1]
    generator = np.random.default_rng(seed)
    models = [SoftmaxModel(generator.normal(size=(k, d)), np.zeros(k)) for _ in range(2)]
    used = np.flatnonzero(weights > 0)
    batch = max(_BATCH, len(used) // _BATCHES)
    decay = 1.0 / (strength * weights[used].sum())
    chosen, counted = np.zeros(n), 0
    for epoch in range(epochs):
        share = kept_share(epoch, forget)
        order = generator.permutation(used)
        last = epoch >= min(RAMP, epochs - 1)
        counted += 2 * last
        for first in range(0, n, batch):
            rows = order[first : first + batch]
            if not len(rows):
                break
            errors = [model.errors(X[rows], targets[rows]) for model in models]
            easy = [_easy(found, targets[rows], gold[rows], share) for found in errors]
            # Each learns what the other finds easy.
            for model, found, of_peer in zip(models, errors, reversed(easy), strict=True):
                mass = weights[rows] * of_peer
                model.step(X[rows], found, mass / max(mass.sum(), 1e-12), _RATE, decay)
                if last:
                    chosen[rows] += of_peer
    return np.where(gold, 1.0, chosen / max(counted, 1))


def _easy(errors: Array, targets: Array, gold: NDArray[np.bool_], share: float) -> NDArray[np.bool_]:
    """Gold, and the share of silver with the smallest cross-entropy."""
    chosen = gold.copy()
    silver = np.flatnonzero(~gold)
    if len(silver):
        probabilities = np.maximum(errors + targets, 1e-12)
        losses = -(targets * np.log(probabilities)).sum(axis=1)
        chosen[silver] = small_losses(losses[silver], share)
    return chosen
