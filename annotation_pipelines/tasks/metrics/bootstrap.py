"""Metrics with 95% intervals, out of what every record adds to sums.

A metric is a function of sums over records: right answers, spans found, errors in points. Intervals are percentile
bootstrap intervals (Efron and Tibshirani 1993, chapter 13): the records are drawn again, with replacement, and every
metric is computed on each draw at once, from weighted sums.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2_000
_CELLS = 4_000_000
_KEPT_CELLS = 4_000_000

Array = NDArray[np.float64]

Metrics = Callable[[Array], Array]
"""From sums over records, shape (b, k), to metrics, shape (b, m); nan where one is not defined."""


@dataclass(frozen=True)
class Tally:
    """What a metric is made of.

    Attributes:
        statistics: What each record adds to the sums, shape (n, k).
        metrics: From the sums to m metrics.
        column: Which of them it is.
    """

    statistics: Array
    metrics: Metrics
    column: int

    def of(self, sums: Array) -> Array:
        """The metric, shape (b,), of sums of shape (b, k)."""
        return self.metrics(sums)[:, self.column]


@dataclass(frozen=True)
class Metric:
    """One metric with its 95% interval.

    Attributes:
        metric: Its name, such as accuracy, macro_f1 or f1.
        label: The label (or type, or field) that it is about, '' where it is about all.
        value, lower, upper: None where it is not defined, such as the F1 of a label that nobody gave.
        records: Gold records it was measured on; for a metric of one label those with the label.
        tally: What it is made of; None for a metric that was not made by `bootstrap`.
    """

    metric: str
    label: str
    value: float | None
    lower: float | None
    upper: float | None
    records: int
    tally: Tally | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Difference:
    """A metric of one less that of another on the same records, with its 95% interval.

    Attributes:
        least: The lower end of the one-sided 95% interval: the true difference is above it, but for one time in twenty.
    """

    value: float
    lower: float
    upper: float
    records: int
    least: float = -np.inf

    @property
    def worse(self) -> bool:
        """Whether the first is worse beyond what chance explains."""
        return self.upper < 0

    def not_worse(self, margin: float) -> bool:
        """Whether the first is worse by less than a margin, beyond what chance explains: a test of non-inferiority.

        At the level 5%, one-sided (Piaggio et al. 2012, "Reporting of noninferiority and equivalence randomized
        trials").
        """
        return self.least > -margin

    def __str__(self) -> str:
        return f"{100 * self.value:+.1f} points (95% interval {100 * self.lower:+.1f} to {100 * self.upper:+.1f})"


def bootstrap(
    statistics: Array,
    metrics: Metrics,
    names: Sequence[tuple[str, str, int]],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Metric]:
    """Metrics of records, with their intervals.

    Args:
        statistics: What each record adds to the sums, shape (n, k).
        metrics: From the sums to m metrics.
        names: For each of the m metrics its name, its label and how many records it was measured on.

    Returns:
        One entry a metric; nothing without records.
    """
    statistics = np.asarray(statistics, dtype=np.float64)
    n = len(statistics)
    if not n:
        return []
    point = metrics(statistics.sum(axis=0, keepdims=True))[0]
    draws = [metrics(weights @ statistics) for weights in _weights(n, resamples, seed)]
    lower, upper = _interval(np.concatenate(draws))
    return [
        Metric(
            metric,
            label,
            _number(point[i]),
            _number(lower[i]),
            _number(upper[i]),
            records,
            Tally(statistics, metrics, i),
        )
        for i, (metric, label, records) in enumerate(names)
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
    return _difference(float(gain.mean()), means, len(gain))


def paired(first: Metric, second: Metric, *, resamples: int = RESAMPLES, seed: int = 0) -> Difference | None:
    """A metric of one less that of another on the same records, by a paired bootstrap: both see the same draws.

    Args:
        first, second: The same metric of two that labelled the same n records, in the same order.

    Returns:
        None where it is not defined for one of them.

    Raises:
        ValueError: They were not measured on the same number of records.
    """
    one, other = first.tally, second.tally
    if one is None or other is None or first.value is None or second.value is None:
        return None
    n = len(one.statistics)
    if len(other.statistics) != n:
        raise ValueError(f"expected metrics of the same records, found {n} and {len(other.statistics)}")
    draws = np.concatenate(
        [
            one.of(weights @ one.statistics) - other.of(weights @ other.statistics)
            for weights in _weights(n, resamples, seed)
        ]
    )
    draws = draws[~np.isnan(draws)]
    return _difference(first.value - second.value, draws, n) if len(draws) else None


def _difference(value: float, draws: Array, records: int) -> Difference:
    lower, least, upper = np.percentile(draws, (2.5, 5, 97.5))
    return Difference(value, float(lower), float(upper), records, float(least))


def _weights(n: int, resamples: int, seed: int) -> Iterator[Array]:
    """How often each of n records is drawn, in blocks of shape (b, n)."""
    if n * resamples <= _KEPT_CELLS:
        yield _kept_weights(n, resamples, seed)
        return
    yield from _new_weights(n, resamples, seed)


@lru_cache(maxsize=2)
def _kept_weights(n: int, resamples: int, seed: int) -> Array:
    """All blocks as one, kept for the next metric of as many records."""
    weights = np.concatenate(list(_new_weights(n, resamples, seed)))
    weights.flags.writeable = False
    return weights


def _new_weights(n: int, resamples: int, seed: int) -> Iterator[Array]:
    generator = np.random.default_rng(seed)
    block = max(1, _CELLS // n)
    for start in range(0, resamples, block):
        draws = generator.multinomial(n, np.full(n, 1 / n), size=min(block, resamples - start))
        yield draws.astype(np.float64)


def _interval(draws: Array) -> tuple[Array, Array]:
    """The 2.5th and 97.5th percentile of each column, over the draws where it is defined."""
    lower, upper = np.full((2, draws.shape[1]), np.nan)
    defined = ~np.isnan(draws).all(axis=0)
    if defined.any():
        lower[defined], upper[defined] = np.nanpercentile(draws[:, defined], (2.5, 97.5), axis=0)
    return lower, upper


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
