"""A batch that is doubtful, cheap and varied: what a student is unsure of for its price, without repeating itself.

1. Records are ranked by uncertainty over cost; the first ones, ten for each that is wanted, are the shortlist. Those
   that say nearly what is labelled already, or what stands before them, are left out of it.
2. The shortlist is clustered by k-means, weighted by uncertainty, and of each cluster the record nearest its centre is
   chosen (Zhdanov 2019, "Diverse mini-batch active learning").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from annotation_pipelines.quality.near_duplicates import nearest_duplicates
from annotation_pipelines.selection.blocks import one_thread_each
from annotation_pipelines.selection.clustering import Ints, Vectors, kmeans

Array = NDArray[np.float64]
Texts = Callable[[Ints], Sequence[str]]

SHORTLIST = 10
"""So many records of the shortlist for each one that is wanted (Zhdanov 2019)."""
SAME = 0.95
"""Records whose vectors have at least this cosine are near-duplicates."""

_BLOCK = 512


def hybrid(
    vectors: Vectors,
    uncertainty: Array,
    cost: Array,
    texts: Texts,
    count: int,
    *,
    labelled: Vectors | None = None,
    labelled_texts: Sequence[str] = (),
    seed: int = 0,
) -> Ints:
    """Choose records that are unsure for their price and differ from one another and from what is labelled.

    Args:
        vectors: Shape (n, d), rows of length 1, in an order that says nothing about them.
        uncertainty: Shape (n,), not negative.
        cost: Shape (n,), positive: what asking about each takes, in any unit.
        texts: The texts of some rows, to be compared character by character.
        count: How many are wanted; at most n are given.
        labelled: Shape (m, d): what there is already.
        labelled_texts: m texts.
        seed: Of the clusters' start.

    Returns:
        min(count, n) different rows, the most uncertain for its price first. Where too few records differ, the best of
        the near-duplicates come last.

    Raises:
        ValueError: The shapes do not fit, or something costs nothing.
    """
    n, count = len(vectors), min(count, len(vectors))
    if len(uncertainty) != n or len(cost) != n:
        raise ValueError(f"expected {n} uncertainties and costs, found {len(uncertainty)} and {len(cost)}")
    if n and not cost.min() > 0:
        raise ValueError("expected costs above 0")
    if not count:
        return np.empty(0, dtype=np.int64)
    worth = uncertainty / cost
    order = np.argsort(-worth, kind="stable")
    known = vectors[:0] if labelled is None else labelled
    wanted = min(n, SHORTLIST * count)
    shortlist: Ints = np.empty(0, dtype=np.int64)
    seen = 0
    # A pool full of near-duplicates leaves little of a shortlist: then the next ones are looked at, up to three times.
    while len(shortlist) < count and seen < min(n, 3 * wanted):
        further = order[seen : seen + wanted]
        seen += len(further)
        shortlist = different(vectors, np.concatenate([shortlist, further]), texts, known, labelled_texts)
    # The rank says nothing to k-means, which takes the first rows for a sample; the row number is random.
    rows = np.sort(shortlist)
    if len(rows) > count:
        picked = rows[
            kmeans(vectors[rows], count, weights=np.maximum(uncertainty[rows], 1e-6), seed=seed).nearest_rows()
        ]
    else:
        picked = rows
    chosen = _ranked(picked, order)
    rest = shortlist[~np.isin(shortlist, chosen)]
    last = order[~np.isin(order, shortlist)] if len(chosen) + len(rest) < count else order[:0]
    return np.concatenate([chosen, rest, last])[:count]


def different(
    vectors: Vectors, rows: Ints, texts: Texts, labelled: Vectors, labelled_texts: Sequence[str] = ()
) -> Ints:
    """Those of some rows that are no near-duplicates of what is labelled or of a row before them, in the same order.

    Near-duplicates have a cosine of SAME or more, or texts most of whose characters run alike
    (`quality/near_duplicates.py`).
    """
    kept: list[int] = []
    with one_thread_each():
        for start in range(0, len(rows), _BLOCK):
            block = rows[start : start + _BLOCK]
            near = vectors[block]
            alike = _closest(near, labelled) >= SAME
            alike |= _closest(near, vectors[np.array(kept, dtype=np.int64)]) >= SAME
            among = near @ near.T >= SAME
            for place in range(len(block)):
                if not alike[place]:
                    kept.append(int(block[place]))
                    alike |= among[place]
    left: Ints = np.array(kept, dtype=np.int64)
    if not len(left):
        return left
    own = list(texts(left))
    new = np.array([found is None for found in nearest_duplicates(own)])
    if len(labelled_texts):
        new &= np.array([found is None for found in nearest_duplicates(own, labelled_texts)])
    different_ones: Ints = left[new]
    return different_ones


def _closest(vectors: Vectors, others: Vectors) -> NDArray[np.float32]:
    """The largest cosine of each vector with any of the others; -1 without others."""
    best = np.full(len(vectors), -1.0, dtype=np.float32)
    for start in range(0, len(others), 16 * _BLOCK):
        np.maximum(best, (vectors @ others[start : start + 16 * _BLOCK].T).max(axis=1), out=best)
    return best


def _ranked(rows: Ints, order: Ints) -> Ints:
    """Some rows in the order of their rank."""
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    ranked: Ints = rows[np.argsort(rank[rows], kind="stable")]
    return ranked
