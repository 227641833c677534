"""When rounds of selection end by themselves: once further labels hardly change what the student says.

The rule is that of Bloodgood and Vijay-Shanker (CoNLL 2009, "A Method for Stopping Active Learning Based on Stabilizing
Predictions and the Need for User-Adjustable Stopping"): the students of successive rounds label the same records of the
pool, and when Cohen's kappa of their labels has been high enough for several rounds in a row, the curve is flat. It
needs no gold. Their recommendation, 0.99 in three rounds, is the default.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from annotation_pipelines.project import Stopping


def agreement(first: Sequence[str], second: Sequence[str]) -> float:
    """Cohen's kappa of two labellings of the same records (Cohen 1960); 1 where both give one and the same label.

    Raises:
        ValueError: Lengths differ, or there is no record.
    """
    n = len(first)
    if n != len(second) or not n:
        raise ValueError(f"expected two labellings of the same records, found {n} and {len(second)} labels")
    observed = sum(a == b for a, b in zip(first, second, strict=True)) / n
    one, other = Counter(first), Counter(second)
    by_chance = sum(count * other[label] for label, count in one.items()) / n**2
    return 1.0 if by_chance == 1 else (observed - by_chance) / (1 - by_chance)


def flat(agreements: Sequence[float | None], stop: Stopping) -> bool:
    """Whether the curve is flat: the last rounds all agreed well enough with the round before.

    Args:
        agreements: Of every round so far; None where there was nothing to compare.
    """
    last = agreements[-stop.patience :]
    return len(last) == stop.patience and all(kappa is not None and kappa >= stop.agreement for kappa in last)
