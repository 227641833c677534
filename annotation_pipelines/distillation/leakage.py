"""Texts that stand on both sides, in training and in evaluation: what measures must not be learned from.

Two contents are the same to a student, or nearly, when `quality.near_duplicates` calls them near-duplicates: an
evaluation on copies of what was learned measures memory (Lee et al. 2022, "Deduplicating training data makes language
models better", section 4).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import polars as pl

from annotation_pipelines.content import readable
from annotation_pipelines.project import digest

SAME = 1.0


def fingerprint(contents: Iterable[str]) -> str:
    """A hash of the held-out texts that training was kept apart from."""
    return digest(sorted(set(contents)))


def similarity_to(contents: Sequence[str], others: Sequence[str]) -> pl.Series:
    """How similar each content is to the most similar of others.

    Args:
        contents: n contents, as they are stored.
        others: What to compare with, likewise.

    Returns:
        n similarities: 1.0 where the two read the same but for case, blanks and Unicode form; null where none is a
        near-duplicate.
    """
    from annotation_pipelines.quality.near_duplicates import nearest_duplicates

    if not len(contents) or not len(others):
        return pl.Series("similarity", [None] * len(contents), pl.Float64)
    found = nearest_duplicates([readable(text) for text in contents], [readable(text) for text in others])
    return pl.Series("similarity", [None if near is None else near[1] for near in found], pl.Float64)
