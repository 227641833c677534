"""k-means over many vectors: centres are learned on a part of them, then every vector goes to its nearest centre.

Lloyd's algorithm after a start by k-means++ (Arthur and Vassilvitskii 2007), on the first vectors: at most 32 a centre,
at least 20,000. The callers bring vectors in a random order that depends on seed and record ids, so the first ones are
a sample. A million vectors and a thousand centres so take one pass over all of them instead of thirty. Where there are
few vectors and centres, the best of five starts counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from annotation_pipelines.selection.blocks import by_blocks, one_thread_each

Vectors = NDArray[np.float32]
Ints = NDArray[np.int64]
Array = NDArray[np.float64]

_PER_CENTRE = 32
_AT_LEAST = 20_000
_STARTS_PER_CENTRE = 16
_ROUNDS = 25
_STILL = 1e-4
_TRIES = 5
_EASY = 500_000
_SEEDS_APART = 1_000_003


@dataclass(frozen=True)
class Clusters:
    """Where each of n vectors belongs.

    Attributes:
        centres: Shape (k, d): the mean of each cluster.
        of_row: Shape (n,): the number of its cluster.
        distance: Shape (n,): the squared distance from its centre.
    """

    centres: Vectors
    of_row: Ints
    distance: Array

    def nearest_rows(self) -> Ints:
        """Of each cluster that has any the row nearest its centre, the largest clusters first; at most k rows."""
        order = np.lexsort((np.arange(len(self.of_row)), self.distance, self.of_row))
        clusters, first = np.unique(self.of_row[order], return_index=True)
        sizes = np.bincount(self.of_row, minlength=len(self.centres))[clusters]
        return order[first][np.argsort(-sizes, kind="stable")]


def kmeans(
    vectors: Vectors, k: int, *, weights: Array | None = None, also: Vectors | None = None, seed: int = 0
) -> Clusters:
    """Put n vectors into k clusters.

    Args:
        vectors: Shape (n, d), in an order that says nothing: the first ones stand for all.
        k: How many clusters; with n vectors or fewer each is its own.
        weights: Shape (n,), not negative: how much each vector pulls its centre; default: all the same.
        also: Shape (m, d): vectors that take part in making the centres, but are put nowhere.
        seed: Of the start.

    Raises:
        ValueError: k is below 1, or there are no vectors.
    """
    n = len(vectors)
    if k < 1 or not n:
        raise ValueError(f"expected a cluster or more and some vectors, found {k} clusters and {n} vectors")
    if n <= k and not (also is not None and len(also)):
        return Clusters(np.array(vectors), np.arange(n), np.zeros(n))
    sample = vectors[: max(_AT_LEAST, _PER_CENTRE * k)]
    pull = np.ones(len(sample)) if weights is None else np.asarray(weights[: len(sample)], dtype=np.float64)
    if also is not None and len(also):
        sample = np.concatenate([sample, also[: len(sample)]])
        pull = np.concatenate([pull, np.ones(len(sample) - len(pull))])
    tries = _TRIES if len(sample) * k <= _EASY else 1
    with one_thread_each():
        tried = [_learned(sample, k, pull, seed + number * _SEEDS_APART) for number in range(tries)]
        if tries > 1:
            loss = [float((pull * assigned(sample, centres)[1]).sum()) for centres in tried]
            tried = [tried[int(np.argmin(loss))]]
        of_row, distance = assigned(vectors, tried[0])
    return Clusters(tried[0], of_row, distance)


def _learned(sample: Vectors, k: int, pull: Array, seed: int) -> Vectors:
    """Centres after a start by k-means++ and Lloyd's algorithm until they hardly move."""
    centres = _start(sample[: max(_AT_LEAST // 2, _STARTS_PER_CENTRE * k)], k, pull, seed)
    for _ in range(_ROUNDS):
        moved = _moved(sample, centres, pull)
        shift = float(np.square(moved - centres).sum(axis=1).mean())
        centres = moved
        if shift < _STILL:
            break
    return centres


def assigned(vectors: Vectors, centres: Vectors) -> tuple[Ints, Array]:
    """The nearest centre of each vector and the squared distance from it, both of shape (n,)."""
    halves = 0.5 * np.square(centres).sum(axis=1)

    def nearest(block: slice) -> tuple[Ints, Array]:
        rows = vectors[block]
        closeness = rows @ centres.T - halves
        best = closeness.argmax(axis=1)
        lengths = np.square(rows).sum(axis=1, dtype=np.float64)
        return best, np.maximum(0.0, lengths - 2.0 * closeness[np.arange(len(rows)), best])

    of_row, distance = np.empty(len(vectors), dtype=np.int64), np.empty(len(vectors))
    at = 0
    for best, squared in by_blocks(nearest, len(vectors)):
        of_row[at : at + len(best)], distance[at : at + len(best)] = best, squared
        at += len(best)
    return of_row, distance


def _moved(vectors: Vectors, centres: Vectors, weights: Array) -> Vectors:
    """The centres after a round: the weighted means of what was nearest to each; one with nothing near stays."""
    halves = 0.5 * np.square(centres).sum(axis=1)

    def sums(block: slice) -> tuple[Ints, Array, Array]:
        rows, pull = vectors[block], weights[block]
        best = (rows @ centres.T - halves).argmax(axis=1)
        order = np.argsort(best, kind="stable")
        clusters, starts = np.unique(best[order], return_index=True)
        pulled = rows[order] * pull[order, None]
        return clusters, np.add.reduceat(pulled, starts, axis=0), np.add.reduceat(pull[order], starts)

    total = np.zeros(centres.shape)
    weight = np.zeros(len(centres))
    for clusters, summed, pulls in by_blocks(sums, len(vectors)):
        total[clusters] += summed
        weight[clusters] += pulls
    moved = np.divide(total, weight[:, None], out=centres.astype(np.float64), where=weight[:, None] > 0)
    return np.asarray(moved, dtype=np.float32)


def _start(vectors: Vectors, k: int, weights: Array, seed: int) -> Vectors:
    """k-means++: each further centre is drawn with a probability that grows with the squared distance from the last."""
    generator = np.random.default_rng(seed)
    pull = weights[: len(vectors)]
    lengths = np.square(vectors).sum(axis=1)
    chosen = [_drawn(generator, pull)]
    distance = np.full(len(vectors), np.inf, dtype=np.float32)
    for _ in range(1, min(k, len(vectors))):
        last = chosen[-1]
        np.minimum(distance, lengths + lengths[last] - 2 * (vectors @ vectors[last]), out=distance)
        distance[last] = 0
        chosen.append(_drawn(generator, pull * np.maximum(distance, 0)))
    return np.array(vectors[chosen])


def _drawn(generator: np.random.Generator, weights: Array) -> int:
    """A row, drawn by weight; the first one where nothing weighs anything."""
    cumulated = np.cumsum(weights, dtype=np.float64)
    if not cumulated[-1] > 0:
        return 0
    found = int(np.searchsorted(cumulated, generator.random() * cumulated[-1], side="right"))
    return min(found, len(weights) - 1)
