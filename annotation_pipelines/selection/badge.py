"""BADGE (Ash et al. 2020): records whose gradients are long and differ, so both doubtful and unlike one another.

The gradient of a linear head's loss, if its likeliest class were the label, is the outer product of the residual of the
probabilities and the record's features. It is never written out: the squared distance of two such products needs only
the products of the residuals and of the features.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from annotation_pipelines.selection.blocks import one_thread_each
from annotation_pipelines.selection.clustering import Ints, Vectors

MOST = 100_000
"""Of more records the first ones are looked at: a random sample, since they come in the order of their draws."""


def badge(vectors: Vectors, residuals: NDArray[np.float32], count: int, *, seed: int = 0) -> Ints:
    """Rows drawn as k-means++ draws its centres, among the gradients: the longest first, then by squared distance.

    Args:
        vectors: The features, shape (n, d), rows of length 1, in an order that says nothing about them.
        residuals: p - e(argmax p), shape (n, k).
        count: How many are wanted; at most n are given.
        seed: Of the draws.

    Returns:
        min(count, n) different rows, in the order of choice.

    Raises:
        ValueError: There are not as many residuals as vectors.
    """
    if len(vectors) != len(residuals):
        raise ValueError(f"expected {len(vectors)} residuals, found {len(residuals)}")
    count = min(count, len(vectors))
    if not count:
        return np.empty(0, dtype=np.int64)
    most = max(MOST, 2 * count)
    vectors, residuals = vectors[:most], residuals[:most]
    generator = np.random.default_rng(seed)
    lengths = np.square(residuals).sum(axis=1) * np.square(vectors).sum(axis=1)
    distance = np.full(len(vectors), np.inf, dtype=np.float32)
    free = np.ones(len(vectors), dtype=np.bool_)
    chosen = [int(lengths.argmax())]
    with one_thread_each():
        while len(chosen) < count:
            last = chosen[-1]
            free[last] = False
            alike = (residuals @ residuals[last]) * (vectors @ vectors[last])
            np.minimum(distance, lengths + lengths[last] - 2 * alike, out=distance)
            chosen.append(_drawn(generator, np.where(free, np.maximum(distance, 0), 0), free))
    return np.array(chosen, dtype=np.int64)


def _drawn(generator: np.random.Generator, weights: NDArray[np.float32], free: NDArray[np.bool_]) -> int:
    """A free row, drawn by weight; the first free one where none weighs anything."""
    cumulated = np.cumsum(weights, dtype=np.float64)
    if cumulated[-1] > 0:
        found = int(np.searchsorted(cumulated, generator.random() * cumulated[-1], side="right"))
        if found < len(free) and free[found]:
            return found
    return int(free.argmax())
