"""How good labels are against gold: accuracy, macro F1, Cohen's kappa and F1 of each label, with 95% intervals.

Pure functions over labels. Intervals are percentile bootstrap intervals (Efron and Tibshirani 1993, chapter 13): the
records are drawn again, with replacement, and every metric is computed on each draw at once, from weighted counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2_000
_CELLS = 4_000_000

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Metric:
    """One metric with its 95% interval.

    Attributes:
        metric: accuracy, macro_f1, kappa or f1.
        label: The label for f1, '' otherwise.
        value, lower, upper: None where it is not defined, such as the F1 of a label that nobody gave.
        records: Gold records it was measured on; for f1 those with the label.
    """

    metric: str
    label: str
    value: float | None
    lower: float | None
    upper: float | None
    records: int


@dataclass(frozen=True)
class Difference:
    """The accuracy of one less that of another on the same records, with its 95% interval."""

    value: float
    lower: float
    upper: float
    records: int

    @property
    def worse(self) -> bool:
        """Whether the first is worse beyond what chance explains."""
        return self.upper < 0

    def __str__(self) -> str:
        return f"{100 * self.value:+.1f} points (95% interval {100 * self.lower:+.1f} to {100 * self.upper:+.1f})"


def measure(
    truth: Sequence[str],
    given: Sequence[str | None],
    labels: Sequence[str],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Metric]:
    """Every metric of labels against gold.

    Args:
        truth: n gold labels, each one of `labels`.
        given: n labels to be measured; None, and whatever is not in `labels`, is wrong.
        labels: The label set. Macro F1 is the mean over those that occur in either column, as in scikit-learn.

    Returns:
        accuracy, macro_f1, kappa, and f1 for each label; nothing without records.

    Raises:
        ValueError: Lengths differ, or a gold label is not in the set.
    """
    if len(truth) != len(given):
        raise ValueError(f"expected as many labels as gold labels, found {len(given)} and {len(truth)}")
    if not len(truth):
        return []
    position = {label: index for index, label in enumerate(labels)}
    if unknown := set(truth) - set(position):
        raise ValueError(f"gold labels outside the label set: {', '.join(sorted(unknown))}")
    n, k = len(truth), len(labels)
    gold, answered = np.zeros((n, k)), np.zeros((n, k))
    gold[np.arange(n), [position[label] for label in truth]] = 1
    for row, label in enumerate(given):
        if label is not None and label in position:
            answered[row, position[label]] = 1
    right = gold * answered
    point = _metrics(np.ones((1, n)), gold, answered, right)[0]
    draws = [_metrics(weights, gold, answered, right) for weights in _weights(n, resamples, seed)]
    lower, upper = _interval(np.concatenate(draws))
    names = [("accuracy", ""), ("macro_f1", ""), ("kappa", ""), *(("f1", label) for label in labels)]
    counts = [n, n, n, *gold.sum(axis=0).astype(int).tolist()]
    return [
        Metric(metric, label, _number(point[i]), _number(lower[i]), _number(upper[i]), int(counts[i]))
        for i, (metric, label) in enumerate(names)
    ]


def difference(
    first: Sequence[bool], second: Sequence[bool], *, resamples: int = RESAMPLES, seed: int = 0
) -> Difference | None:
    """How much more often the first is right than the second, by a paired bootstrap; None without records.

    Args:
        first, second: Whether each is right on the same n records.

    Raises:
        ValueError: Lengths differ.
    """
    gain = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    if not len(gain):
        return None
    means = np.concatenate([weights @ gain for weights in _weights(len(gain), resamples, seed)]) / len(gain)
    lower, upper = np.percentile(means, (2.5, 97.5))
    return Difference(float(gain.mean()), float(lower), float(upper), len(gain))


def _metrics(weights: Array, gold: Array, answered: Array, right: Array) -> Array:
    """accuracy, macro F1, kappa, and F1 of each label, for b weightings of the records; nan where undefined.

    Args:
        weights: Shape (b, n), rows with sum n.
        gold, answered, right: Indicators of shape (n, k).

    Returns:
        Shape (b, k + 3).
    """
    there, given, hits = weights @ gold, weights @ answered, weights @ right
    n = weights.shape[1]
    with np.errstate(invalid="ignore", divide="ignore"):
        f1 = 2 * hits / (there + given)
        accuracy = hits.sum(axis=1) / n
        chance = (there * given).sum(axis=1) / n**2
        kappa = (accuracy - chance) / (1 - chance)
    return np.column_stack([accuracy, np.nanmean(f1, axis=1), kappa, f1])


def _weights(n: int, resamples: int, seed: int) -> Iterator[Array]:
    """How often each of n records is drawn, in blocks of shape (b, n)."""
    generator = np.random.default_rng(seed)
    block = max(1, _CELLS // n)
    for start in range(0, resamples, block):
        draws = generator.multinomial(n, np.full(n, 1 / n), size=min(block, resamples - start))
        yield draws.astype(np.float64)


def _interval(draws: Array) -> tuple[Array, Array]:
    """The 2.5th and 97.5th percentile of each column, over the draws where it is defined."""
    lower, upper = np.full((2, draws.shape[1]), np.nan)
    defined = ~np.isnan(draws).all(axis=0)
    lower[defined], upper[defined] = np.nanpercentile(draws[:, defined], (2.5, 97.5), axis=0)
    return lower, upper


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
