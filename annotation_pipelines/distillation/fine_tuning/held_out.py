"""The validation part: which training rows are set aside, and how good logits are on them.

Early stopping, the choice between candidates and the temperature (Guo et al. 2017, arXiv 1706.04599) all go by the
log-loss at the best temperature: a network that is too sure of what it gets right is not stopped for it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from annotation_pipelines.distillation.softmax import log_softmax

LEAST_ROWS = 40
"""With fewer rows than this there is no validation part: all are trained on, all epochs are run."""
LEAST_GOLD = 40
"""With so many gold rows the validation part is made of gold alone."""

_SHARE, _LEAST, _MOST = 0.15, 20, 500
_TEMPERATURES = np.geomspace(0.05, 8.0, 103)
_LEAST_LOG = np.log(1e-6)

Array = NDArray[np.float64]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class HeldOut:
    """How good logits are.

    Attributes:
        loss: Log-loss against what is believed of the labels, at the temperature.
        temperature: What logits are to be divided by.
        agreement: The share of rows whose likeliest class is the one that is believed most.
    """

    loss: float
    temperature: float
    agreement: float


def validation_rows(classes: Rows, gold: NDArray[np.bool_], seed: int) -> Rows:
    """The rows to set aside, rising: 15% (20 to 500), in proportion to the classes; none of a class's last row.

    Gold alone where there is enough of it (as LLMaAA validates), and of it half at most: the rest is trained on, and
    weights are learned against it.

    Args:
        classes: Shape (n,): the class of each row.
        gold: Shape (n,): where people gave the label.
    """
    n = len(classes)
    if n < LEAST_ROWS:
        return np.zeros(0, dtype=np.int64)
    wanted = int(np.clip(round(_SHARE * n), _LEAST, _MOST))
    candidates = np.arange(n)
    if gold.sum() >= LEAST_GOLD:
        candidates = np.flatnonzero(gold)
    wanted = min(wanted, len(candidates) // 2)
    drawn = np.random.default_rng(seed).permutation(candidates)
    drawn = drawn[np.argsort(classes[drawn], kind="stable")]
    chosen = drawn[((np.arange(wanted) + 0.5) * len(drawn) / wanted).astype(np.int64)]
    trained = np.setdiff1d(np.arange(n), chosen)
    return np.sort(chosen[np.isin(classes[chosen], classes[trained])])


def judged(logits: Array, beliefs: Array) -> HeldOut:
    """How good logits are, shape (m, k), against what is believed of the classes, shape (m, k), rows that sum to 1."""
    losses = [
        float(-(np.maximum(log_softmax(logits / temperature), _LEAST_LOG) * beliefs).sum(axis=1).mean())
        for temperature in _TEMPERATURES
    ]
    best = int(np.argmin(losses))
    agrees = logits.argmax(axis=1) == beliefs.argmax(axis=1)
    return HeldOut(losses[best], float(_TEMPERATURES[best]), float(agrees.mean()))
