"""How good labels are against gold: accuracy, macro F1, Cohen's kappa, and F1 of each label."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from annotation_pipelines.tasks.metrics.bootstrap import RESAMPLES, Array, Metric, bootstrap


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
    names = [("accuracy", ""), ("macro_f1", ""), ("kappa", ""), *(("f1", label) for label in labels)]
    counts = [n, n, n, *gold.sum(axis=0).astype(int).tolist()]
    return bootstrap(
        np.concatenate([gold, answered, gold * answered], axis=1),
        lambda sums: _metrics(*np.split(sums, 3, axis=1)),
        [(*name, int(count)) for name, count in zip(names, counts, strict=True)],
        resamples=resamples,
        seed=seed,
    )


def _metrics(there: Array, given: Array, hits: Array) -> Array:
    """accuracy, macro F1, kappa, and F1 of each label; nan where undefined.

    Args:
        there, given, hits: How often each label is gold, given, and both, shape (b, k).

    Returns:
        Shape (b, k + 3).
    """
    n = there.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a draw without any label has no mean
        f1 = 2 * hits / (there + given)
        accuracy = hits.sum(axis=1) / n
        chance = (there * given).sum(axis=1) / n**2
        kappa = (accuracy - chance) / (1 - chance)
        macro = np.nanmean(f1, axis=1)
    return np.column_stack([accuracy, macro, kappa, f1])
