"""Which demonstrations go with a record: the nearest ones, as in LLMaAA (Zhang et al. 2023, arXiv 2310.19596), near
ones that differ, the nearest of each label, random ones, or the same for all.

A record is never its own demonstration. What is chosen for it depends on its text and the pool alone, so that equal
texts make equal requests.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

if TYPE_CHECKING:
    from annotation_pipelines.distillation.embedding import Embedder
    from annotation_pipelines.project import Demonstrations
    from annotation_pipelines.tasks.base import Task

Rows = NDArray[np.int64]

NONE = -1
"""Stands in the place of a demonstration where there are too few."""

RELEVANCE = 0.7
"""How much the likeness to the record counts in `diverse`; the rest goes to differing from what is chosen."""

_CELLS = 16_000_000
_DIGITS = 6
"""Similarities are compared to so many digits: a product of matrices rounds the last ones by what stands beside."""


def chooser(
    settings: Demonstrations, task: Task, embedder: Embedder, demonstrations: pl.DataFrame
) -> Callable[[pl.DataFrame], Rows] | None:
    """What chooses as declared among some demonstrations; None where none go into a prompt.

    Args:
        demonstrations: record_id, content_hash, content, label; m rows.

    Returns:
        A function of records (record_id, content_hash, content; n rows) that gives rows of `demonstrations`, shape
        (n, min(per_prompt, m)): the one next to the record last, -1 at the beginning where there are too few.
    """
    k = settings.per_prompt
    if not k:
        return None
    if settings.choose == "fixed":
        return partial(fixed_for_records, demonstrations=demonstrations, k=k, seed=settings.seed)
    if settings.choose == "random":
        return partial(random_for_records, demonstrations=demonstrations, k=k, seed=settings.seed)
    choose: Nearest = nearest_demonstrations
    if settings.choose == "diverse":
        choose = diverse_demonstrations
    elif settings.choose == "balanced":
        choose = partial(balanced_demonstrations, kinds=[kind_of(task, label) for label in demonstrations["label"]])
    return lambda records: _by_vectors(choose, embedder, records, demonstrations, k)


def choice(settings: Demonstrations | None, encoder: str) -> object:
    """What of the declaration decides which demonstrations go with a record: JSON-like, for fingerprints."""
    if settings is None:
        return None
    deciding: list[object] = [settings.choose, settings.per_prompt]
    deciding.append(settings.seed if settings.choose in ("fixed", "random") else encoder)
    return [*deciding, RELEVANCE] if settings.choose == "diverse" else deciding


def kind_of(task: Task, label: str) -> str:
    """What `balanced` balances: the label; where one names several of the task's, which they are."""
    return " ".join(sorted(set(task.named(label)))) if task.labels else label


def nearest_demonstrations(
    query_vectors: NDArray[np.float32],
    demo_vectors: NDArray[np.float32],
    k: int,
    exclude: NDArray[np.bool_] | None = None,
) -> NDArray[np.int64]:
    """The demonstrations with the largest dot product, the nearest last: next to the record in a prompt.

    Args:
        query_vectors: Shape (n, d), rows of length 1.
        demo_vectors: Shape (m, d), rows of length 1.
        k: How many for each query; at most m are given.
        exclude: Shape (n, m); true where a demonstration may not serve a query, such as the record itself.

    Returns:
        Rows of `demo_vectors`, shape (n, min(k, m)), nearest last; of equally near ones the first is nearer. Where
        fewer are allowed, the row begins with -1.

    Raises:
        ValueError: The shapes do not fit.
    """
    n, m = len(query_vectors), len(demo_vectors)
    if k < 0:
        raise ValueError(f"expected k of 0 or more, found {k}")
    if exclude is not None and exclude.shape != (n, m):
        raise ValueError(f"expected exclude of shape ({n}, {m}), found {exclude.shape}")
    width = min(k, m)
    nearest = np.full((n, width), NONE, dtype=np.int64)
    if not width:
        return nearest
    rows = max(1, _CELLS // m)
    for start in range(0, n, rows):
        block = slice(start, start + rows)
        similarity = query_vectors[block] @ demo_vectors.T
        if exclude is not None:
            similarity[exclude[block]] = -np.inf
        order = np.argsort(-similarity, axis=1, kind="stable")[:, :width]
        order[np.isneginf(np.take_along_axis(similarity, order, axis=1))] = NONE
        nearest[block] = order[:, ::-1]
    return nearest


Nearest = Callable[[NDArray[np.float32], NDArray[np.float32], int, NDArray[np.bool_] | None], Rows]


def diverse_demonstrations(
    query_vectors: NDArray[np.float32],
    demo_vectors: NDArray[np.float32],
    k: int,
    exclude: NDArray[np.bool_] | None = None,
) -> NDArray[np.int64]:
    """Demonstrations by maximal marginal relevance (Carbonell and Goldstein 1998).

    The nearest one first, then each time the one with the largest 0.7 times its similarity to the record less 0.3 times
    its largest similarity to one that is chosen.

    Args:
        query_vectors: Shape (n, d), rows of length 1.
        demo_vectors: Shape (m, d), rows of length 1.
        k: How many for each query; at most m are given.
        exclude: Shape (n, m); true where a demonstration may not serve a query.

    Returns:
        As `nearest_demonstrations`: the nearest of those chosen last.
    """
    n, m = len(query_vectors), len(demo_vectors)
    width = min(k, m)
    chosen = np.full((n, width), NONE, dtype=np.int64)
    if not width:
        return chosen
    among = _similarities(demo_vectors, demo_vectors)
    for block in _row_blocks(n, m):
        similarity = _similarities(query_vectors[block], demo_vectors)
        worth = RELEVANCE * similarity
        if exclude is not None:
            worth[exclude[block]] = -np.inf
        every = np.arange(len(worth))
        repeated = np.full_like(worth, -np.inf)
        picked = np.full((len(worth), width), NONE, dtype=np.int64)
        for turn in range(width):
            value = worth if not turn else worth - (1 - RELEVANCE) * repeated
            best = value.argmax(axis=1)
            picked[:, turn] = np.where(np.isneginf(value[every, best]), NONE, best)
            np.maximum(repeated, among[best], out=repeated)
            worth[every, best] = -np.inf
        chosen[block] = _nearest_last(picked, similarity)
    return chosen


def balanced_demonstrations(
    query_vectors: NDArray[np.float32],
    demo_vectors: NDArray[np.float32],
    k: int,
    exclude: NDArray[np.bool_] | None = None,
    *,
    kinds: Sequence[str],
) -> NDArray[np.int64]:
    """The nearest demonstration of each kind in turn, that of the nearest kind first, until there are k.

    Args:
        query_vectors: Shape (n, d), rows of length 1.
        demo_vectors: Shape (m, d), rows of length 1.
        k: How many for each query; at most m are given.
        exclude: Shape (n, m); true where a demonstration may not serve a query.
        kinds: The label of each demonstration, m of them.

    Returns:
        As `nearest_demonstrations`: the nearest of those chosen last.
    """
    n, m = len(query_vectors), len(demo_vectors)
    width = min(k, m)
    chosen = np.full((n, width), NONE, dtype=np.int64)
    if not width:
        return chosen
    number = {kind: place for place, kind in enumerate(sorted(set(kinds)))}
    of_demo = np.array([number[kind] for kind in kinds], dtype=np.int64)
    for block in _row_blocks(n, m):
        similarity = _similarities(query_vectors[block], demo_vectors)
        if exclude is not None:
            similarity[exclude[block]] = -np.inf
        picked = np.full((len(similarity), width), NONE, dtype=np.int64)
        for row, figures in enumerate(similarity):
            order = np.argsort(-figures, kind="stable")
            order = order[~np.isneginf(figures[order])]
            turns = _turns(of_demo[order])
            picked[row, : len(order)] = order[np.argsort(turns, kind="stable")][:width]
        chosen[block] = _nearest_last(picked, similarity)
    return chosen


def _turns(kinds: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each place how many of its kind stand before it."""
    together = np.argsort(kinds, kind="stable")
    _, first, counts = np.unique(kinds[together], return_index=True, return_counts=True)
    turns = np.empty(len(kinds), dtype=np.int64)
    turns[together] = np.arange(len(kinds)) - np.repeat(first, counts)
    return turns


def _nearest_last(picked: NDArray[np.int64], similarity: NDArray[np.float32]) -> NDArray[np.int64]:
    """Rows of demonstrations by similarity, the largest last, those that are missing first."""
    figures = np.take_along_axis(similarity, np.maximum(picked, 0), axis=1)
    figures[picked == NONE] = -np.inf
    # Turned round twice, so that of equally near ones the first picked stands last.
    order = np.argsort(-figures, axis=1, kind="stable")[:, ::-1]
    return np.take_along_axis(picked, order, axis=1)


def _similarities(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.round(one @ other.T, _DIGITS)


def _row_blocks(n: int, m: int) -> list[slice]:
    rows = max(1, _CELLS // m)
    return [slice(start, start + rows) for start in range(0, n, rows)]


def same_record(records: pl.DataFrame, demonstrations: pl.DataFrame) -> NDArray[np.bool_]:
    """Where a demonstration is the record itself, by id or by content: it would tell the answer.

    Args:
        records: record_id and content_hash, n rows.
        demonstrations: record_id and content_hash, m rows.

    Returns:
        Shape (n, m).
    """
    same = np.zeros((records.height, demonstrations.height), dtype=np.bool_)
    for column in ("record_id", "content_hash"):
        pairs = (
            records.select(column)
            .with_row_index("record")
            .join(demonstrations.select(column).with_row_index("demonstration"), on=column)
        )
        same[pairs["record"].to_numpy(), pairs["demonstration"].to_numpy()] = True
    return same


def nearest_to_records(
    embedder: Embedder, records: pl.DataFrame, demonstrations: pl.DataFrame, k: int
) -> NDArray[np.int64]:
    """For every record the rows of its k nearest demonstrations, itself never among them.

    Args:
        records: record_id, content_hash, content; n rows.
        demonstrations: record_id, content_hash, content; m rows.

    Returns:
        Shape (n, min(k, m)), nearest last; a row begins with -1 where there are too few.
    """
    return _by_vectors(nearest_demonstrations, embedder, records, demonstrations, k)


def _by_vectors(
    choose: Nearest, embedder: Embedder, records: pl.DataFrame, demonstrations: pl.DataFrame, k: int
) -> NDArray[np.int64]:
    return choose(
        embedder.vectors(records.select("content_hash", "content")),
        embedder.vectors(demonstrations.select("content_hash", "content"), share=True),
        k,
        same_record(records, demonstrations),
    )


def fixed_for_records(
    records: pl.DataFrame, demonstrations: pl.DataFrame, k: int, *, seed: int = 0
) -> NDArray[np.int64]:
    """The same k demonstrations for every record, drawn by the seed; where one is the record itself, the next drawn.

    Args:
        records: record_id and content_hash; n rows.
        demonstrations: record_id and content_hash; m rows.

    Returns:
        Rows of `demonstrations`, shape (n, min(k, m)); a row begins with -1 where there are too few.
    """
    drawn = np.random.default_rng(seed).permutation(demonstrations.height)
    return _first_allowed(np.tile(drawn, (records.height, 1)), same_record(records, demonstrations), k)


def random_for_records(
    records: pl.DataFrame, demonstrations: pl.DataFrame, k: int, *, seed: int = 0
) -> NDArray[np.int64]:
    """k demonstrations for every record, drawn by the seed and the record's content: equal texts make equal requests.

    Args:
        records: record_id and content_hash; n rows.
        demonstrations: record_id and content_hash; m rows.

    Returns:
        Rows of `demonstrations`, shape (n, min(k, m)); a row begins with -1 where there are too few.
    """
    m = demonstrations.height
    drawn = np.empty((records.height, m), dtype=np.int64)
    for row, content_hash in enumerate(records["content_hash"]):
        own = hashlib.blake2b(f"{seed}:{content_hash}".encode(), digest_size=8).digest()
        drawn[row] = np.random.default_rng(int.from_bytes(own, "big")).permutation(m)
    return _first_allowed(drawn, same_record(records, demonstrations), k)


def _first_allowed(drawn: NDArray[np.int64], excluded: NDArray[np.bool_], k: int) -> NDArray[np.int64]:
    """Of each row's draw the first k that are not excluded, the first drawn last."""
    n, m = drawn.shape
    width = min(k, m)
    chosen = np.full((n, width), NONE, dtype=np.int64)
    for row in range(n):
        allowed = drawn[row][~excluded[row][drawn[row]]][:width]
        chosen[row, width - len(allowed) :] = allowed[::-1]
    return chosen
