"""How good sets of labels are against gold: micro and macro F1, Jaccard index, exact matches, and F1 of each label."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence

import numpy as np

from annotation_pipelines.tasks.metrics.bootstrap import RESAMPLES, Array, Metric, bootstrap

NAMES = ("micro_f1", "macro_f1", "jaccard", "exact_match")


def measure(
    truth: Sequence[Collection[str]],
    given: Sequence[Collection[str] | None],
    labels: Sequence[str],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Metric]:
    """Every metric of sets of labels against gold.

    Args:
        truth: n gold sets of `labels`; a set may be empty.
        given: n sets to be measured; None gives no label, and is not an exact match even of an empty set. Labels
            that are not in `labels` are wrong.
        labels: The label set. Macro F1 is the mean over those that occur in either column.

    Returns:
        micro_f1, macro_f1, jaccard (mean over records of shared labels to all labels of both, two empty sets being
        equal), exact_match, and f1 for each label; nothing without records.

    Raises:
        ValueError: Lengths differ, or a gold label is not in the set.
    """
    if len(truth) != len(given):
        raise ValueError(f"expected as many sets of labels as gold ones, found {len(given)} and {len(truth)}")
    if not len(truth):
        return []
    position = {label: index for index, label in enumerate(labels)}
    if unknown := {label for row in truth for label in row} - set(position):
        raise ValueError(f"gold labels outside the label set: {', '.join(sorted(unknown))}")
    n, k = len(truth), len(labels)
    gold, answered = np.zeros((n, k)), np.zeros((n, k))
    foreign, missing = np.zeros(n), np.zeros(n, dtype=np.bool_)
    for row, found in enumerate(truth):
        gold[row, [position[label] for label in found]] = 1
    for row, answer in enumerate(given):
        missing[row] = answer is None
        known = {label for label in answer or () if label in position}
        answered[row, [position[label] for label in known]] = 1
        foreign[row] = len(set(answer or ()) - known)
    hits = gold * answered
    shared, either = hits.sum(axis=1), np.maximum(gold, answered).sum(axis=1) + foreign
    jaccard = np.where(either > 0, shared / np.maximum(either, 1), np.where(missing, 0.0, 1.0))
    exact = (shared == either) & ~missing
    names = [*((name, "") for name in NAMES), *(("f1", label) for label in labels)]
    counts = [*([n] * len(NAMES)), *gold.sum(axis=0).astype(int).tolist()]
    return bootstrap(
        np.concatenate([gold, answered, hits, np.column_stack([foreign, jaccard, exact, np.ones(n)])], axis=1),
        lambda sums: _metrics(*np.split(sums, [k, 2 * k, 3 * k], axis=1)),
        [(*name, int(count)) for name, count in zip(names, counts, strict=True)],
        resamples=resamples,
        seed=seed,
    )


def _metrics(there: Array, given: Array, hits: Array, others: Array) -> Array:
    """micro F1, macro F1, Jaccard, exact match, and F1 of each label; nan where undefined.

    Args:
        there, given, hits: How often each label is gold, given, and both, shape (b, k).
        others: Labels given that are not in the set, sums of Jaccard and of exact matches, records; shape (b, 4).

    Returns:
        Shape (b, k + 4).
    """
    foreign, jaccard, exact, n = others.T
    with np.errstate(invalid="ignore", divide="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a draw without any label has no mean
        f1 = 2 * hits / (there + given)
        micro = 2 * hits.sum(axis=1) / (there.sum(axis=1) + given.sum(axis=1) + foreign)
        macro = np.nanmean(f1, axis=1)
        return np.column_stack([micro, macro, jaccard / n, exact / n, f1])
