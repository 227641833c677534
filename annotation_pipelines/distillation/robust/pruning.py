"""Confident learning: silver labels that cross-validated predictions contradict (Northcutt et al. 2021).

arXiv 1911.00068. The rule is "prune by class" over the confident joint: a prediction counts for a class when it is at
least the mean probability that records of that label have for it, so that classes the model is shy of are not all
found wrong.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Classes = NDArray[np.int64]


def confident_joint(probabilities: Array, given: Classes) -> NDArray[np.int64]:
    """How often a label is given (row) to what the model confidently takes for a class (column): shape (k, k).

    A record counts for the most probable of the classes whose probability reaches the class's threshold: the mean of
    that probability over the records with the label (the paper's equations 1 and 2). It counts for none if none does.

    Args:
        probabilities: Shape (n, k), of each record by a model that has not seen it.
        given: Shape (n,): labels as classes.
    """
    k = probabilities.shape[1]
    joint = np.zeros((k, k), dtype=np.int64)
    taken = confident_class(probabilities, given)
    counted = taken >= 0
    np.add.at(joint, (given[counted], taken[counted]), 1)
    return joint


def confident_class(probabilities: Array, given: Classes) -> Classes:
    """What the model confidently takes each record for, shape (n,); -1 where it is confident of nothing."""
    k = probabilities.shape[1]
    counts = np.bincount(given, minlength=k)
    own = np.bincount(given, weights=probabilities[np.arange(len(given)), given], minlength=k)
    # A class without records has no threshold that could be reached.
    thresholds = np.where(counts > 0, own / np.maximum(counts, 1), np.inf)
    reached = np.where(probabilities >= thresholds - 1e-12, probabilities, -1.0)
    return np.where(reached.max(axis=1) >= 0, reached.argmax(axis=1), -1)


def find_label_errors(probabilities: Array, given: Classes) -> NDArray[np.bool_]:
    """Where a label is found wrong: prune by class, the paper's section 3.2.

    The confident joint, each row scaled to the number of records with the label, says how many labels of each class are
    wrong. So many are found wrong: those with the least probability of the label, among those whose most probable class
    is another.

    Args:
        probabilities: Shape (n, k), of each record by a model that has not seen it.
        given: Shape (n,): labels as classes.

    Returns:
        Shape (n,).
    """
    n, k = probabilities.shape
    joint = confident_joint(probabilities, given).astype(np.float64)
    counts = np.bincount(given, minlength=k)
    sums = joint.sum(axis=1)
    share = np.where(sums > 0, 1 - np.diag(joint) / np.maximum(sums, 1), 0.0)
    number = np.round(share * counts).astype(np.int64)
    own = probabilities[np.arange(n), given]
    disagrees = probabilities.argmax(axis=1) != given
    wrong = np.zeros(n, dtype=np.bool_)
    for label in np.flatnonzero(number):
        rows = np.flatnonzero((given == label) & disagrees)
        wrong[rows[np.argsort(own[rows], kind="stable")[: number[label]]]] = True
    return wrong
