"""Parts of the gold on which students and teacher are looked at apart: where do they err?

Slices overlap, and there are many: of twenty intervals one misses its truth by chance. A slice that stands out is a
place to look at, not a finding.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl
from numpy.typing import NDArray

from annotation_pipelines.content import readable

LEAST = 5
"""A slice of fewer records is left out."""
NEWEST = 0.25
"""The newest partitions are those that together hold this share of the gold of the stream, or a little more."""
BANDS = ((0.0, 0.6), (0.6, 0.8), (0.8, 0.95), (0.95, 1.0))
"""Of the teacher's confidence; the lower end belongs to a band, and 1 to the last."""

Mask = NDArray[np.bool_]


def slices(gold: pl.DataFrame) -> dict[str, Mask]:
    """Slices by name, as in "length: short", each a mask of shape (n,); of a property only where it tells apart.

    Args:
        gold: content, label, origin, partition_key (null outside the stream); where the teacher was asked also given
            (its label, null where it gave none), asked (whether it was) and teacher_confidence.
    """
    found: dict[str, Mask] = {}
    for name, parts in (
        ("length", _length(gold)),
        ("partition", _partition(gold)),
        ("origin", _origin(gold)),
        ("teacher", _teacher(gold)),
        ("teacher's confidence", _confidence(gold)),
    ):
        kept = [(part, mask) for part, mask in parts if mask.any()]
        if len(kept) > 1:
            found.update({f"{name}: {part}": mask for part, mask in kept if mask.sum() >= LEAST})
    return found


def _length(gold: pl.DataFrame) -> Iterator[tuple[str, Mask]]:
    """Terciles of the number of characters."""
    lengths = np.array([len(readable(text)) for text in gold["content"]], dtype=np.int64)
    if not len(lengths):
        return
    low, high = np.percentile(lengths, (100 / 3, 200 / 3))
    yield "short", lengths <= low
    yield "middle", (lengths > low) & (lengths <= high)
    yield "long", lengths > high


def _partition(gold: pl.DataFrame) -> Iterator[tuple[str, Mask]]:
    """The newest partitions, by key, against the earlier ones."""
    keys = gold["partition_key"]
    counts = keys.drop_nulls().value_counts(name="records").sort("partition_key", descending=True)
    if counts.height < 2:
        return
    before = counts["records"].cum_sum() - counts["records"]
    newest = counts.filter(before < NEWEST * int(counts["records"].sum()))["partition_key"].to_list()
    inside = keys.is_in(newest).fill_null(value=False).to_numpy()
    yield "newest", inside
    yield "earlier", keys.is_not_null().to_numpy() & ~inside


def _origin(gold: pl.DataFrame) -> Iterator[tuple[str, Mask]]:
    """Where the gold label came from."""
    words = {"source": "gold column of the source", "file": "labels of people", "held_out": "held-out files"}
    for origin in gold["origin"].unique().sort():
        yield words.get(origin, str(origin)), (gold["origin"] == origin).to_numpy()


def _teacher(gold: pl.DataFrame) -> Iterator[tuple[str, Mask]]:
    """Where the teacher is right, wrong, or silent: what the student made of its mistakes."""
    if "given" not in gold.columns:
        return
    asked, silent = gold["asked"].to_numpy(), gold["given"].is_null().to_numpy()
    right = (gold["given"] == gold["label"]).fill_null(value=False).to_numpy()
    yield "right", asked & right
    yield "wrong", asked & ~right & ~silent
    yield "gave no label", asked & silent


def _confidence(gold: pl.DataFrame) -> Iterator[tuple[str, Mask]]:
    """How sure the teacher says it is."""
    if "teacher_confidence" not in gold.columns:
        return
    sure = gold["teacher_confidence"].to_numpy().astype(np.float64)
    for lower, upper in BANDS:
        yield f"{lower:.2f} to {upper:.2f}", (sure >= lower) & ((sure < upper) | ((upper == 1) & (sure == 1)))
