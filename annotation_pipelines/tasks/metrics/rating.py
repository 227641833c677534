"""How good ratings are against gold: quadratic kappa, Spearman's correlation, and errors in units of the scale."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from annotation_pipelines.tasks.metrics.bootstrap import RESAMPLES, Array, Metric, bootstrap


def measure(
    truth: Sequence[float],
    given: Sequence[float | None],
    lowest: float,
    highest: float,
    *,
    step: float | None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Metric]:
    """Every metric of ratings against gold.

    A rating that was not given counts as the end of the scale that lies farther from gold: the worst there is.

    quadratic_kappa is Cohen's kappa with the squared distance as weight (Cohen 1968). Its observed and expected
    disagreement are means of squares, (x - y)^2 over the records and over all pairs of them, so it needs no categories
    and is computed from moments; between evenly spaced categories it is scikit-learn's.

    spearman is Pearson's correlation of the ranks, ties at their mean rank. Its interval takes the ranks of the whole
    as fixed: a draw correlates the ranks of the records drawn, and does not rank them anew.

    Args:
        truth: n gold ratings, between lowest and highest.
        given: n ratings to be measured, or None.
        step: How far neighbouring values are apart; None on a continuous scale.

    Returns:
        quadratic_kappa, spearman, mae, rmse, within_one_step (unless the scale is continuous), answered (the share that
        has a rating); nothing without records. Kappa and the correlation are None where all ratings are the same.

    Raises:
        ValueError: Lengths differ.
    """
    if len(truth) != len(given):
        raise ValueError(f"expected as many ratings as gold ratings, found {len(given)} and {len(truth)}")
    if not len(truth):
        return []
    gold = np.asarray(truth, dtype=np.float64)
    answered = np.array([rating is not None for rating in given])
    worst = np.where(gold - lowest >= highest - gold, lowest, highest)
    rated = np.where(answered, np.array([np.nan if rating is None else rating for rating in given]), worst)
    # Moments about the middle of the scale, in its length: no digits are lost where it lies far from zero.
    x, y = ((values - (lowest + highest) / 2) / (highest - lowest) for values in (gold, rated))
    p, q = _ranks(x), _ranks(y)
    distance = np.abs(gold - rated)
    near = distance <= (0.0 if step is None else step) * (1 + 1e-9)
    ones = np.ones_like(x)
    columns = [ones, x, y, x * x, y * y, (x - y) ** 2, p, q, p * p, q * q, p * q, distance, distance**2, near, answered]
    names = ["quadratic_kappa", "spearman", "mae", "rmse", "within_one_step", "answered"]
    kept = [index for index, name in enumerate(names) if step is not None or name != "within_one_step"]
    return bootstrap(
        np.column_stack(columns),
        lambda sums: _metrics(sums)[:, kept],
        [(names[index], "", len(truth)) for index in kept],
        resamples=resamples,
        seed=seed,
    )


def _metrics(sums: Array) -> Array:
    """The six metrics from sums of the fifteen statistics, shape (b, 15); nan where undefined."""
    means = sums[:, 1:] / sums[:, :1]
    x, y, xx, yy, apart, p, q, pp, qq, pq, distance, squared, near, answered = means.T
    with np.errstate(invalid="ignore", divide="ignore"):
        expected = xx + yy - 2 * x * y
        kappa = np.where(expected > 1e-15, 1 - apart / expected, np.nan)
        spread = (pp - p**2) * (qq - q**2)
        spearman = np.where(spread > 1e-15, (pq - p * q) / np.sqrt(np.abs(spread)), np.nan)
    return np.column_stack([kappa, spearman, distance, np.sqrt(squared), near, answered])


def _ranks(values: Array) -> Array:
    """Ranks with ties at their mean, centred and divided by their number."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    mean = last - (counts - 1) / 2
    ranks: Array = (mean[inverse] - (len(values) + 1) / 2) / len(values)
    return ranks
