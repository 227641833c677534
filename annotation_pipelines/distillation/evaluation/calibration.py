"""Whether confidence means what it says: expected calibration error, Brier score, and a reliability table.

Guo et al. 2017, "On calibration of modern neural networks" (arXiv 1706.04599), section 2; Brier 1950. Both are about
the confidence in the label that was given, and whether that label is right as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from annotation_pipelines.tasks.metrics.bootstrap import Array, Metric, bootstrap

BINS = 10
ECE, BRIER = "ece", "brier"


def measure(right: Sequence[bool], confidence: NDArray[np.float64], *, seed: int = 0) -> list[Metric]:
    """The expected calibration error over ten bins of equal width, and the Brier score; lower is better for both.

    Of few records the error looks larger than it is: even a calibrated model has bins that miss by chance.

    Args:
        right: Whether each of n labels is right.
        confidence: Shape (n,), 0 to 1.
    """
    hits = np.asarray(right, dtype=np.float64)
    n = len(hits)
    if not n:
        return []
    place = np.eye(BINS)[bins(confidence)]
    squared = (confidence - hits) ** 2
    statistics = np.column_stack([place * confidence[:, None], place * hits[:, None], squared, np.ones(n)])

    def metrics(sums: Array) -> Array:
        stated, true = sums[:, :BINS], sums[:, BINS : 2 * BINS]
        records = sums[:, -1]
        return np.column_stack([np.abs(stated - true).sum(axis=1) / records, sums[:, -2] / records])

    return bootstrap(statistics, metrics, [(ECE, "", n), (BRIER, "", n)], seed=seed)


def reliability(right: Sequence[bool], confidence: NDArray[np.float64]) -> pl.DataFrame:
    """Confidence against the share of right labels, bin by bin; bins without records are left out.

    Returns:
        lower, upper (of the bin), n, mean_confidence, accuracy.
    """
    frame = pl.DataFrame(
        {"bin": bins(confidence), "confidence": confidence, "right": np.asarray(right, dtype=np.float64)},
        schema={"bin": pl.Int64, "confidence": pl.Float64, "right": pl.Float64},
    )
    return (
        frame.group_by("bin")
        .agg(n=pl.len().cast(pl.Int64), mean_confidence=pl.col("confidence").mean(), accuracy=pl.col("right").mean())
        .sort("bin")
        .select(
            (pl.col("bin") / BINS).alias("lower"),
            ((pl.col("bin") + 1) / BINS).alias("upper"),
            "n",
            "mean_confidence",
            "accuracy",
        )
    )


def bins(confidence: NDArray[np.float64]) -> NDArray[np.int64]:
    """The bin of each confidence, 0 to BINS - 1; 1.0 is in the last."""
    return np.clip((confidence * BINS).astype(np.int64), 0, BINS - 1)
