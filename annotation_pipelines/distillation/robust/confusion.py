"""Which label the teacher gives for which truth, and what follows from it for each of its labels.

Dawid and Skene (1979) describe an annotator by a confusion matrix: how probable each label is, given the true one. By
Bayes' rule what is true is then as probable as a student finds it, who has read the text and knows people's labels
only, times how often the teacher gives its label for that truth:

    p(y | g, x)  ~  h_y(x) * P(g | y)

`noise` asks the other way round, what is true given the label, with a coefficient for each that is to be learned. With
few labels of people's this way round gets more out of them (Ng and Jordan 2001 compare the two), and it is the better
one where the teacher confuses labels in ways of its own: one that says "Component Whole" to everything is known after
some tens of records. `noise` uses confidence and scores, which this does not, and is better where those tell much.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Classes = NDArray[np.int64]

PRIOR = 5.0
"""Records of each class that are imagined beforehand: right as often as the teacher is, else as it answers at all."""

_ASSUMED_ACCURACY = 0.8


def confusion(given: Classes, truth: Classes, asked: Classes, classes: int) -> Array:
    """How probable each label of the teacher's is, given the true class.

    Args:
        given: Shape (m,): the teacher's labels of audited records as classes; -1 where it gave none.
        truth: Shape (m,): people's labels of them.
        asked: Shape (n,): the teacher's labels of all records, which tell what it likes to say.
        classes: k.

    Returns:
        Shape (k, k), a row for each true class, which sums to 1.
    """
    told = given >= 0
    given, truth = given[told], truth[told]
    # Four answers are imagined too, right as often as is assumed of a teacher of whom nothing is known.
    right = float((given == truth).sum() + 4 * _ASSUMED_ACCURACY) / (len(given) + 4)
    liked = np.bincount(np.concatenate([asked, given]), minlength=classes) + 1.0
    prior = right * np.eye(classes) + (1 - right) * liked / liked.sum()
    counts = np.zeros((classes, classes))
    np.add.at(counts, (truth, given), 1.0)
    counts += PRIOR * prior
    matrix: Array = counts / counts.sum(axis=1, keepdims=True)
    return matrix


def believed(opinions: Array, given: Classes, matrix: Array) -> Array:
    """The probability of every class, shape (n, k).

    Args:
        opinions: Shape (n, k), rows that sum to 1: what is thought of each record without the teacher.
        given: Shape (n,): the teacher's labels as classes.
        matrix: As `confusion` gives it.
    """
    likely = opinions * matrix[:, given].T
    sums = likely.sum(axis=1, keepdims=True)
    beliefs: Array = np.divide(likely, sums, out=np.full_like(likely, 1 / likely.shape[1]), where=sums > 0)
    return beliefs
