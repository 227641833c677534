"""Train, validation and test, so that nothing in one tells what is in another.

Records that say nearly the same are a group, and a group stays on one side. Where it goes depends on a hash of the
record in it that was seen first, and on nothing else: records that come later leave the others where they are, unless
they join two groups. Gold that is held out for evaluation is test, with its whole group; where test has no share of its
own, it is that gold alone, and the rest of such a group goes nowhere. What a model wrote is never measured with: it
goes into train or nowhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import polars as pl

from annotation_pipelines.project.exports import Split
from annotation_pipelines.quality.near_duplicates import (
    THRESHOLD,
    Ints,
    near_duplicate_groups,
    nearest_duplicates,
)

NEAR_HELD_OUT = "says nearly the same as gold that is held out for evaluation"
SYNTHETIC = "synthetic, and its near-duplicates are not in train"


def assign(
    rows: pl.DataFrame, texts: Sequence[Sequence[str]], split: Split, *, seed: int = 0, threshold: float = THRESHOLD
) -> pl.DataFrame:
    """Add to records their group, their split, and why one has none.

    Args:
        rows: record_id, first_seen, held_out and synthetic, n rows.
        texts: One or several readings of the records, n texts each. Records are near-duplicates when they are so by
            one of them; an empty text tells nothing, except where it is the only reading.
        split: The share of each split.
        threshold: The least Jaccard similarity of near-duplicates.

    Returns:
        The same rows with the columns group (number), split (null where it has none) and left_out (why; else null).
    """
    groups = _joined([_groups(reading, threshold, alone=len(texts) == 1) for reading in texts], rows.height)
    age = [pl.col("first_seen").is_null(), pl.col("first_seen"), pl.col("record_id")]
    placed = rows.with_columns(group=pl.Series(groups, dtype=pl.Int64)).with_columns(
        key=pl.col("record_id").sort_by(age).first().over("group"),
        held=pl.col("held_out").any().over("group"),
        written=pl.col("synthetic").all().over("group"),
    )
    splits = {key: _split(key, split, seed) for key in placed["key"].unique()}
    # Without a share of its own, test is gold alone.
    measured = pl.lit(True) if split.test > 0 else pl.col("held_out")
    train = pl.lit("train") if split.train > 0 else pl.lit(None, pl.String)
    placed = placed.with_columns(
        split=pl.when("held")
        .then(pl.when(measured).then(pl.lit("test")))
        .when("written")
        .then(train)
        .otherwise(pl.col("key").replace_strict(splits, return_dtype=pl.String))
    )
    return (
        placed.with_columns(
            left_out=pl.when(pl.col("synthetic") & (pl.col("split") != "train").fill_null(True))
            .then(pl.lit(SYNTHETIC))
            .when(pl.col("split").is_not_null())
            .then(pl.lit(None, pl.String))
            .otherwise(pl.lit(NEAR_HELD_OUT))
        )
        .with_columns(split=pl.when(pl.col("left_out").is_null()).then("split"))
        .drop("key", "held", "written")
    )


def leaks(texts: Sequence[str], splits: Sequence[str], *, threshold: float = THRESHOLD) -> list[tuple[int, int, float]]:
    """Near-duplicates in different splits, found from the splits themselves: they were made from groups.

    Returns:
        Two indexes and the similarity, one entry a text that leaks; nothing when all is well.
    """
    sides = {name: [index for index, split in enumerate(splits) if split == name] for name in dict.fromkeys(splits)}
    found = []
    names = list(sides)
    for place, name in enumerate(names[1:], 1):
        pool = [index for earlier in names[:place] for index in sides[earlier] if texts[index].strip()]
        near = nearest_duplicates([texts[i] for i in sides[name]], [texts[i] for i in pool], threshold=threshold)
        found += [
            (pool[match[0]], index, match[1])
            for index, match in zip(sides[name], near, strict=True)
            if match is not None
        ]
    return found


def _groups(texts: Sequence[str], threshold: float, *, alone: bool) -> Ints:
    groups = near_duplicate_groups(texts, threshold=threshold)
    if not alone:
        fresh = len(texts)
        for index, text in enumerate(texts):
            if not text.strip():
                groups[index], fresh = fresh, fresh + 1
    return groups


def _joined(readings: Sequence[Ints], n: int) -> list[int]:
    """The groups in which records are that share one by any reading: the roots of a union-find forest."""
    parent = list(range(n))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for groups in readings:
        first: dict[int, int] = {}
        for index, group in enumerate(groups.tolist()):
            one, other = root(first.setdefault(group, index)), root(index)
            parent[max(one, other)] = min(one, other)
    return [root(index) for index in range(n)]


def _split(key: str, split: Split, seed: int) -> str:
    """The split of a group: where its hash, from 0 to 1, falls among the shares."""
    drawn = hashlib.blake2b(f"{seed}:{key}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    place = int.from_bytes(drawn, "big") / 2**64
    reached = 0.0
    for name, share in split.shares:
        reached += share
        if place < reached:
            return name
    return split.shares[-1][0]
