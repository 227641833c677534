"""How unsure a student is of a record, from its probabilities: the records it is least sure of teach it most.

All figures are 0 where the student is certain and grow with its doubt. Those of one decision end at 1; those of a
record that is decided token by token are reduced over its tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from annotation_pipelines.project import Strategy

Array = NDArray[np.float64]
Reduction = Literal["mean", "sum", "max"]


def least_confidence(probabilities: Array) -> Array:
    """1 minus the probability of the likeliest class (Lewis and Gale 1994): shape (n, k) in, (n,) out."""
    _check(probabilities)
    return np.asarray(1 - probabilities.max(axis=1, initial=0.0), dtype=np.float64)


def margin(probabilities: Array) -> Array:
    """1 minus the distance of the two likeliest classes (Scheffer et al. 2001): shape (n, k) in, (n,) out."""
    _check(probabilities)
    if probabilities.shape[1] < 2:
        return least_confidence(probabilities)
    two = np.partition(probabilities, -2, axis=1)[:, -2:]
    return np.asarray(1 - (two[:, 1] - two[:, 0]), dtype=np.float64)


def entropy(probabilities: Array) -> Array:
    """The entropy of the classes (Shannon 1948) over that of k equally likely ones: shape (n, k) in, (n,) out."""
    _check(probabilities)
    classes = probabilities.shape[1]
    if classes < 2:
        return np.zeros(len(probabilities))
    logarithms = np.log(np.where(probabilities > 0, probabilities, 1.0))
    return np.asarray(-(probabilities * logarithms).sum(axis=1) / np.log(classes), dtype=np.float64)


MEASURES: Mapping[Strategy, Callable[[Array], Array]] = {
    "least_confidence": least_confidence,
    "margin": margin,
    "entropy": entropy,
}
"""The measures of uncertainty, by the name of their strategy."""


def uncertainties(
    probabilities: Array | Sequence[Array], strategy: Strategy, reduce: Reduction = "mean"
) -> NDArray[np.float64]:
    """How unsure a student is of each of n records.

    Args:
        probabilities: Of every class, shape (n, k); or one array of shape (tokens, k) for each record.
        strategy: A name in MEASURES.
        reduce: How the tokens of a record become one figure. A sum prefers long records, a mean does not, the maximum
            looks for one doubtful place. A record without tokens gets 0.

    Returns:
        Shape (n,).

    Raises:
        ValueError: An array has another number of dimensions.
    """
    measure = MEASURES[strategy]
    if isinstance(probabilities, np.ndarray):
        return measure(probabilities)
    return reduced([measure(tokens) for tokens in probabilities], reduce)


def reduced(figures: Sequence[Array], reduce: Reduction) -> Array:
    """The figures of each record's tokens as one: n arrays of shape (tokens,) in, shape (n,) out."""
    lengths = np.array([len(of_record) for of_record in figures], dtype=np.int64)
    one = np.zeros(len(figures))
    filled = lengths > 0
    if not filled.any():
        return one
    every = np.concatenate([of_record for of_record in figures if len(of_record)])
    starts = np.concatenate([[0], np.cumsum(lengths[filled])[:-1]])
    if reduce == "max":
        one[filled] = np.maximum.reduceat(every, starts)
    else:
        one[filled] = np.add.reduceat(every, starts)
    if reduce == "mean":
        one[filled] /= lengths[filled]
    return one


def residuals(probabilities: Array | Sequence[Array], reduce: Reduction = "mean") -> NDArray[np.float32]:
    """The gradient of the loss in the logits, if each record's likeliest class were its label: p - e(argmax p).

    It is what BADGE (Ash et al. 2020) multiplies with a record's features. Tokens that share the features of their
    record share the product, so their residuals are summed or averaged; with max the token with the longest one counts.

    Args:
        probabilities: As for `uncertainties`.

    Returns:
        Shape (n, k).
    """
    if isinstance(probabilities, np.ndarray):
        return _residual(probabilities)
    width = max((tokens.shape[1] for tokens in probabilities), default=0)
    rows = np.zeros((len(probabilities), width), dtype=np.float32)
    for row, tokens in enumerate(probabilities):
        if not len(tokens):
            continue
        each = _residual(tokens)
        if reduce == "max":
            rows[row, : each.shape[1]] = each[np.linalg.norm(each, axis=1).argmax()]
        else:
            rows[row, : each.shape[1]] = each.sum(axis=0) if reduce == "sum" else each.mean(axis=0)
    return rows


def _residual(probabilities: Array) -> NDArray[np.float32]:
    _check(probabilities)
    rows = probabilities.astype(np.float32)
    if rows.size:
        rows[np.arange(len(rows)), rows.argmax(axis=1)] -= 1
    return rows


def _check(probabilities: Array) -> None:
    if probabilities.ndim != 2:
        raise ValueError(f"expected probabilities of shape (n, k), found {probabilities.shape}")
