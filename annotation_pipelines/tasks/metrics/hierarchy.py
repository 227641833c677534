"""How good labels of a tree are against gold: accuracy at each level, and hierarchical F1.

Hierarchical precision and recall count the nodes on the way to a label, the label included and the root not: an answer
in the right branch is partly right (Kiritchenko, Matwin and Famili 2005; Silla and Freitas 2011, section 6,
doi 10.1007/s10618-010-0175-9).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from annotation_pipelines.tasks.metrics.bootstrap import RESAMPLES, Array, Metric, bootstrap

SEPARATOR = "/"


def ancestors(label: str) -> list[str]:
    """The nodes on the way to a label, from below the root to the label itself: a/b gives a, a/b."""
    steps = label.split(SEPARATOR)
    return [SEPARATOR.join(steps[: depth + 1]) for depth in range(len(steps))]


def measure(
    truth: Sequence[str],
    given: Sequence[str | None],
    labels: Sequence[str],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Metric]:
    """The metrics of labels of a tree.

    Args:
        truth: n gold labels, paths with `/`.
        given: n labels to be measured; None is wrong on every level.
        labels: The label set; its longest path says how many levels there are.

    Returns:
        hierarchical_f1, then accuracy_level_1 and so on: the share of records whose gold label and given label are the
        same down to that level. A path that ends above a level must be the same as a whole. Nothing without records.

    Raises:
        ValueError: Lengths differ.
    """
    if len(truth) != len(given):
        raise ValueError(f"expected as many labels as gold labels, found {len(given)} and {len(truth)}")
    levels = max((len(ancestors(label)) for label in labels), default=0)
    n = len(truth)
    statistics = np.zeros((n, 4 + levels))
    for row, (gold, answer) in enumerate(zip(truth, given, strict=True)):
        there, found = ancestors(gold), [] if answer is None else ancestors(answer)
        statistics[row, :4] = 1, len(set(there) & set(found)), len(there), len(found)
        for level in range(levels):
            statistics[row, 4 + level] = bool(found) and found[: level + 1][-1] == there[: level + 1][-1]
    names = [("hierarchical_f1", "", n), *((f"accuracy_level_{level + 1}", "", n) for level in range(levels))]
    return bootstrap(statistics, _metrics, names, resamples=resamples, seed=seed)


def _metrics(sums: Array) -> Array:
    """Hierarchical F1 and the accuracies, shape (b, 1 + levels), from sums of shape (b, 4 + levels)."""
    records, shared, there, found = sums[:, :4].T
    return np.column_stack([2 * shared / (there + found), sums[:, 4:] / records[:, None]])
