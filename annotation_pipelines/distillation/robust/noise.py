"""How the teacher errs: how probable each label is, given what the teacher said.

People's labels and the teacher's of the same records (the audit) tell. Hendrycks et al. (2018, arXiv 1802.05300)
estimate a confusion matrix from trusted labels and Patrini et al. (2017, arXiv 1609.03683) correct the loss by it; with
77 classes and 100 gold labels such a matrix is mostly empty. Here the matrix is one part of a conditional logit model:

    log p(y | given g, confidence c, scores s, text x) = (u + v * l(c)) [y = g] + a log s_y + sum_i q_i log h_iy(x)
                                                         + b_y + C_gy

up to a constant. `s` are the teacher's scores; where it gives none, c for its label and the rest shared equally. `l(c)`
is the logit of c. h_i(x) is what a student says of the text that has not seen it: one of gold and silver, one of gold
alone. Every coefficient has a Gaussian prior:
without an audit the teacher is taken by its word (a = 1, all else 0), and the more people say, the more it is their
word that counts: first how far confidence, scores and student can be trusted, which a handful of records shows, then
which classes are given too often, then which are taken for which.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from annotation_pipelines.distillation.softmax import log_softmax

Array = NDArray[np.float64]
Classes = NDArray[np.int64]

ASSUMED_ACCURACY = 0.8
"""Of a teacher that states neither confidence nor scores, before anything is known."""

_CLIP = (0.02, 0.98)
_SPREADS = (0.1, 0.3, 1.0, 2.0)
_SHARED = 1.0
_FOLDS = 5
_ITERATIONS = 100
_BLOCK = 4_096
_LEAST_PROBABILITY = 1e-4


@dataclass(frozen=True)
class Answers:
    """What is known of the labels of n records.

    Attributes:
        given: Shape (n,), the teacher's label as a class; -1 where it gave none of the classes.
        confidence: Shape (n,), 0 to 1; NaN where it stated none.
        scores: Shape (n, k), rows that sum to 1; NaN where it gave none.
        opinions: Of each student that was asked, shape (n, k), rows that sum to 1: what it says of records that it has
            not seen.
    """

    given: Classes
    confidence: Array
    scores: Array
    opinions: tuple[Array, ...] = ()

    def take(self, rows: NDArray[np.int64]) -> Answers:
        """Some of the records."""
        opinions = tuple(opinion[rows] for opinion in self.opinions)
        return Answers(self.given[rows], self.confidence[rows], self.scores[rows], opinions)


@dataclass(frozen=True)
class TeacherNoise:
    """The model of the teacher's errors.

    Attributes:
        audited: How many records it was estimated from.
        right: The share of them in which the teacher is right; None without any.
        shared: u, v, a, and q of each student.
        bias: Shape (k,): b.
        confusion: Shape (k, k): C, a row for each given label.
        spread: The standard deviation of the priors of b and C, chosen by cross-validation.
    """

    audited: int
    right: float | None
    shared: Array
    bias: Array
    confusion: Array
    spread: float

    def probabilities(self, answers: Answers) -> Array:
        """The probability of every class, shape (n, k)."""
        found = np.empty_like(answers.scores)
        for first in range(0, len(found), _BLOCK):
            rows = np.arange(first, min(first + _BLOCK, len(found)))
            block = answers.take(rows)
            logits = _logits(_features(block), self.shared, self.bias, self.confusion, block.given)
            found[rows] = np.exp(log_softmax(logits))
        return found


def estimate(answers: Answers, truth: Classes, classes: int) -> TeacherNoise:
    """The teacher's errors from an audit; with few records, or none, mostly or wholly what the teacher claims.

    Args:
        answers: What the teacher says of m records.
        truth: Shape (m,): people's labels, as classes.
        classes: k.
    """
    m = len(truth)
    if m == 0:
        return TeacherNoise(
            0, None, _by_its_word(answers), np.zeros(classes), np.zeros((classes, classes)), _SPREADS[0]
        )
    spread = _choose_spread(answers, truth, classes)
    shared, bias, confusion = _fit(answers, truth, classes, spread)
    right = float((answers.given == truth).mean())
    return TeacherNoise(m, right, shared, bias, confusion, spread)


def _by_its_word(answers: Answers) -> Array:
    """u, v, a and the q before anything is known."""
    return np.array([0.0, 0.0, 1.0, *[0.0] * len(answers.opinions)])


def _features(answers: Answers) -> Array:
    """Shape (3 + students, n, k): what u, v, a and the q are multiplied with."""
    n, k = answers.scores.shape
    features = np.zeros((3 + len(answers.opinions), n, k))
    told = np.flatnonzero(answers.given >= 0)
    given = answers.given[told]
    stated = np.clip(np.where(np.isnan(answers.confidence), ASSUMED_ACCURACY, answers.confidence), *_CLIP)
    features[0, told, given] = 1.0
    features[1, told, given] = np.log(stated / (1 - stated))[told]
    said = answers.scores.copy()
    silent: NDArray[np.bool_] = np.isnan(said[:, 0])
    said[silent] = ((1 - stated) / max(k - 1, 1))[silent, None]
    silent_told = silent[told]
    said[told[silent_told], given[silent_told]] = stated[told[silent_told]]
    said[silent & (answers.given < 0)] = 1 / k
    features[2] = np.log(np.maximum(said, _LEAST_PROBABILITY))
    for place, opinion in enumerate(answers.opinions, start=3):
        features[place] = np.log(np.maximum(opinion, _LEAST_PROBABILITY))
    return features


def _logits(features: Array, shared: Array, bias: Array, confusion: Array, given: Classes) -> Array:
    logits: Array = np.tensordot(shared, features, axes=1) + bias
    told = given >= 0
    logits[told] += confusion[given[told]]
    return logits


def _fit(answers: Answers, truth: Classes, classes: int, spread: float) -> tuple[Array, Array, Array]:
    """The coefficients with the greatest posterior."""
    from scipy.optimize import minimize

    features, given, k = _features(answers), answers.given, classes
    mean, told = _by_its_word(answers), answers.given >= 0
    rows, p = np.arange(len(truth)), len(mean)

    def loss(flat: Array) -> tuple[float, Array]:
        shared, bias, confusion = flat[:p], flat[p : p + k], flat[p + k :].reshape(k, k)
        logs = log_softmax(_logits(features, shared, bias, confusion, given))
        errors = np.exp(logs)
        errors[rows, truth] -= 1
        slope = np.zeros((k, k))
        np.add.at(slope, given[told], errors[told])
        value = -logs[rows, truth].sum() + 0.5 * (((shared - mean) / _SHARED) ** 2).sum()
        value += 0.5 * ((bias**2).sum() + (confusion**2).sum()) / spread**2
        gradient = [
            np.tensordot(features, errors, axes=2) + (shared - mean) / _SHARED**2,
            errors.sum(axis=0) + bias / spread**2,
            (slope + confusion / spread**2).ravel(),
        ]
        return float(value), np.concatenate(gradient)

    start = np.concatenate([mean, np.zeros(k + k * k)])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": _ITERATIONS})
    return found.x[:p], found.x[p : p + k], found.x[p + k :].reshape(k, k)


def _choose_spread(answers: Answers, truth: Classes, classes: int) -> float:
    """The spread with the least log-loss on records that the coefficients have not seen."""
    m = len(truth)
    folds = min(_FOLDS, m)
    if folds < 2:
        return _SPREADS[0]
    fold = np.random.default_rng(0).permutation(m) % folds
    losses = []
    for spread in _SPREADS:
        total = 0.0
        for number in range(folds):
            train, test = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
            seen = answers.take(test)
            shared, bias, confusion = _fit(answers.take(train), truth[train], classes, spread)
            logs = log_softmax(_logits(_features(seen), shared, bias, confusion, seen.given))
            total -= float(logs[np.arange(len(test)), truth[test]].sum())
        losses.append(total)
    return _SPREADS[int(np.argmin(losses))]
