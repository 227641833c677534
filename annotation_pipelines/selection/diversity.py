"""Records that stand for the others, chosen by their vectors alone: k-means, core-set, TypiClust.

Each function gives rows in the order of choice. Vectors have length 1 and come in an order that says nothing about
them, the same for the same records and seed: where two rows are equally good, the first one is taken.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from annotation_pipelines.selection.blocks import by_blocks, one_thread_each
from annotation_pipelines.selection.clustering import Ints, Vectors, assigned, kmeans

TYPICAL_NEIGHBOURS = 20
"""TypiClust looks at so many neighbours (Hacohen et al. 2022)."""
MOST_CLUSTERS = 500
"""TypiClust has at most so many clusters (Hacohen et al. 2022)."""

_ACTIVE = 32_768
_CENTRES = 1_024
_MEMBERS = 2_048
_NO_ROWS: Ints = np.empty(0, dtype=np.int64)

Distances = NDArray[np.float32]


def nearest_to_centres(vectors: Vectors, count: int, labelled: Vectors | None = None, *, seed: int = 0) -> Ints:
    """The record nearest each centre of a k-means with as many clusters as records are wanted, as in LLMaAA.

    What is labelled already is not looked at: the records that are left are clustered anew each time.

    Args:
        vectors: Shape (n, d).
        count: How many are wanted; at most n are given.

    Returns:
        min(count, n) rows, those of the largest clusters first. Clusters that stayed empty give their places to the
        records farthest from what was chosen.
    """
    count = min(count, len(vectors))
    if not count:
        return _NO_ROWS
    rows = kmeans(vectors, count, seed=seed).nearest_rows()
    return _filled_up(vectors, rows, count)


def k_center(vectors: Vectors, count: int, labelled: Vectors | None = None, *, seed: int = 0) -> Ints:
    """The core-set by farthest-first traversal (Sener and Savarese 2018): each time the record farthest from all
    that is chosen or labelled.

    The outcome is that of the plain algorithm, which takes a pass over all records for each one it chooses. Here passes
    go over the farthest ones only, until one of them is no farther than the others can be (distances only shrink): then
    the others catch up with all new centres at once.

    Args:
        vectors: Shape (n, d).
        count: How many are wanted; at most n are given.
        labelled: Shape (m, d): what there is already. Without any the first row begins.
        seed: Not used: nothing is drawn.

    Returns:
        min(count, n) different rows.
    """
    n, count = len(vectors), min(count, len(vectors))
    if not count:
        return _NO_ROWS
    chosen: list[int] = []
    distance = np.full(n, np.inf, dtype=np.float32)
    with one_thread_each():
        if labelled is not None and len(labelled):
            _approach(distance, vectors, labelled)
        else:
            chosen.append(0)
            _approach(distance, vectors, vectors[:1])
            distance[0] = -np.inf
        chosen += _traversal(vectors, distance, count - len(chosen))
    return np.array(chosen, dtype=np.int64)


def _traversal(vectors: Vectors, distance: Distances, count: int) -> list[int]:
    """So many rows, each the farthest at its turn; rows with a distance of minus infinity are not taken."""
    chosen: list[int] = []
    while len(chosen) < count:
        new = _farthest(vectors, distance, count - len(chosen))
        chosen += new
        if len(chosen) < count:
            _approach(distance, vectors, vectors[new])
            distance[new] = -np.inf
    return chosen


def _farthest(vectors: Vectors, distance: Distances, count: int) -> list[int]:
    """The next rows of the traversal, at least one, as far as they can be known from the farthest rows alone."""
    n = len(distance)
    active = np.arange(n)
    limit = -np.inf
    if n > _ACTIVE:
        # Of equally far rows the first ones are active: a stable order, not argpartition's.
        edge = np.partition(distance, n - _ACTIVE)[n - _ACTIVE]
        active = np.flatnonzero(distance >= edge)[: 2 * _ACTIVE]
        above = np.flatnonzero(distance > edge)
        if len(active) == 2 * _ACTIVE:
            active = np.sort(np.concatenate([above, np.flatnonzero(distance == edge)[:_ACTIVE]]))
        outside = np.ones(n, dtype=np.bool_)
        outside[active] = False
        limit = float(distance[outside].max(initial=-np.inf))
    near, rows = vectors[active], distance[active]
    new: list[int] = []
    while len(new) < count:
        best = int(rows.argmax())
        if new and not rows[best] > limit:
            break
        new.append(int(active[best]))
        np.minimum(rows, 2 - 2 * (near @ near[best]), out=rows)
        rows[best] = -np.inf
    return new


def _approach(distance: Distances, vectors: Vectors, centres: Vectors) -> None:
    """Shrink the squared distances of all rows, in place, to those from the nearest of some centres."""
    for start in range(0, len(centres), _CENTRES):
        turned = np.ascontiguousarray(centres[start : start + _CENTRES].T)

        def closest(block: slice, turned: Vectors = turned) -> Distances:
            return np.asarray((vectors[block] @ turned).max(axis=1), dtype=np.float32)

        at = 0
        for part in by_blocks(closest, len(vectors)):
            here = distance[at : at + len(part)]
            np.minimum(here, 2 - 2 * part, out=here)
            at += len(part)


def typiclust(vectors: Vectors, count: int, labelled: Vectors | None = None, *, seed: int = 0) -> Ints:
    """The most typical record of each of the largest clusters without a label (Hacohen et al. 2022): a cold start.

    There are as many clusters as labelled and wanted records together, at most 500. The clusters with the fewest
    labelled records come first, among them the largest ones. Typical is who has near neighbours: the inverse of the
    mean distance from the 20 nearest ones in the cluster; of a cluster of more than 2,048 records those nearest its
    centre are looked at.

    Args:
        vectors: Shape (n, d).
        count: How many are wanted; at most n are given.
        labelled: Shape (m, d): what there is already.

    Returns:
        min(count, n) different rows.
    """
    count = min(count, len(vectors))
    if not count:
        return _NO_ROWS
    known = vectors[:0] if labelled is None else labelled
    clusters = kmeans(vectors, min(len(known) + count, MOST_CLUSTERS), also=known, seed=seed)
    members = len(clusters.centres)
    with one_thread_each():
        covered = np.bincount(assigned(known, clusters.centres)[0], minlength=members)
    open_rows = [np.flatnonzero(clusters.of_row == cluster) for cluster in range(members)]
    sizes = np.array([len(rows) for rows in open_rows])
    ranked: dict[int, list[int]] = {}
    chosen: list[int] = []
    with one_thread_each():
        while len(chosen) < count:
            # np.lexsort: the last key decides first.
            order = np.lexsort((np.arange(members), -sizes, covered))
            for cluster in order[sizes[order] > 0][: count - len(chosen)].tolist():
                if cluster not in ranked:
                    ranked[cluster] = _by_typicality(vectors, open_rows[cluster]).tolist()
                chosen.append(ranked[cluster].pop(0))
                covered[cluster] += 1
                sizes[cluster] -= 1
    return np.array(chosen, dtype=np.int64)


def _by_typicality(vectors: Vectors, rows: Ints) -> Ints:
    """The rows of a cluster, the most typical first."""
    centre = vectors[rows].mean(axis=0)
    order = rows[np.argsort(-(vectors[rows] @ centre), kind="stable")]
    near, rest = np.sort(order[:_MEMBERS]), order[_MEMBERS:]
    neighbours = min(TYPICAL_NEIGHBOURS, len(near) - 1)
    if neighbours < 1:
        return order
    inner = vectors[near]
    similarity = inner @ inner.T
    np.fill_diagonal(similarity, -np.inf)
    closest = np.partition(similarity, len(near) - neighbours, axis=1)[:, -neighbours:]
    distance = np.sqrt(np.maximum(0.0, 2 - 2 * closest)).mean(axis=1)
    return np.concatenate([near[np.argsort(distance, kind="stable")], rest])


def _filled_up(vectors: Vectors, rows: Ints, count: int) -> Ints:
    """So many rows: those given, and then the ones farthest from them."""
    if len(rows) >= count:
        return rows[:count]
    distance = np.full(len(vectors), np.inf, dtype=np.float32)
    with one_thread_each():
        _approach(distance, vectors, vectors[rows])
        distance[rows] = -np.inf
        more = _traversal(vectors, distance, count - len(rows))
    return np.concatenate([rows, np.array(more, dtype=np.int64)])
