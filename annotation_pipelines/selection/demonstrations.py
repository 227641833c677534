"""Which demonstrations go with a record: the nearest ones, as in LLMaAA (Zhang et al. 2023, arXiv 2310.19596), random
ones, or the same for all. A record is never its own demonstration."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

if TYPE_CHECKING:
    from annotation_pipelines.distillation.embedding import Embedder

NONE = -1
"""Stands in the place of a demonstration where there are too few."""

_CELLS = 16_000_000


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
    return nearest_demonstrations(
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
