"""What the scores of critiques say, and how far they lie from people's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from annotation_pipelines.tasks.metrics import rating
from annotation_pipelines.tasks.metrics.bootstrap import RESAMPLES, Array, Metric, bootstrap


def measure(
    truth: Sequence[float],
    given: Sequence[float | None],
    lowest: float,
    highest: float,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Metric]:
    """Metrics of scores.

    Args:
        truth: n scores by people.
        given: n scores by an annotator; None where it gave none.

    Returns:
        judge_score, the mean of the scores that were given (as low or high as the responses are bad or good: it says
        something of them, not of the annotator); then quadratic_kappa, spearman, mae, rmse, within_one_step and
        answered against people's, see `metrics.rating.measure`. Nothing without records.

    Raises:
        ValueError: Lengths differ.
    """
    against = rating.measure(truth, given, lowest, highest, step=1.0, resamples=resamples, seed=seed)
    if not truth:
        return []
    if all(score is None for score in given):
        return [Metric("judge_score", "", None, None, None, 0), *against]
    there = np.array([score is not None for score in given], dtype=np.float64)
    scores = np.array([0.0 if score is None else score for score in given])

    def mean(sums: Array) -> Array:
        with np.errstate(invalid="ignore", divide="ignore"):
            means: Array = sums[:, 1:] / sums[:, :1]
        return means

    judged = bootstrap(
        np.column_stack([there, scores]),
        mean,
        [("judge_score", "", int(there.sum()))],
        resamples=resamples,
        seed=seed,
    )
    return judged + against
