"""The linear head: multinomial logistic regression on vectors, with calibrated probabilities.

It is data: two arrays and a few numbers. Prediction needs numpy alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annotation_pipelines.errors import TrainingError

STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0)
"""Candidates for C, the inverse strength of the L2 penalty against the summed loss."""

_FOLDS = 5
_CV_ROWS = 5_000
_MANY_ROWS = 50_000
_ITERATIONS = 500
_TEMPERATURES = np.geomspace(0.2, 8.0, 75)
_LEAST_PROBABILITY = 1e-6

Array = NDArray[np.float64]
Vectors = NDArray[np.float32]


class LinearHead:
    """Multinomial logistic regression with sample weights; scikit-learn's conventions.

    Strength of the L2 penalty and temperature of the probabilities (Guo et al. 2017, arXiv 1706.04599) are those with
    the least log-loss on held-out predictions of a stratified cross-validation, so that no label calibrates a model
    that has seen it. Silver labels alone would make the student as sure as the teacher is consistent: an embedded
    teacher is wrong in ways a linear student copies well. So gold and silver each have half of the say where both are
    there, and a silver label counts as right with the probability that its weight states. With too few labels for
    folds both keep their defaults (1).

    Args:
        random_state: Decides the folds; the same state, rows and weights give the same model.

    Attributes:
        classes_: The labels, sorted; k of them.
        coef_: float32, shape (k, d).
        intercept_: float32, shape (k,).
        temperature_: What logits are divided by.
        strength_: The chosen C.
        cv_log_loss_: On the held-out folds, as it was minimised; None without folds.
        cv_accuracy_: Weighted agreement with the labels of the held-out folds; None without folds.
    """

    classes_: list[str]
    coef_: Vectors
    intercept_: Vectors
    temperature_: float
    strength_: float
    cv_log_loss_: float | None
    cv_accuracy_: float | None

    def __init__(self, *, random_state: int = 0) -> None:
        self.random_state = random_state

    def fit(
        self,
        X: NDArray[np.floating[Any]],
        y: Sequence[str],
        sample_weight: Array | None = None,
        gold: NDArray[np.bool_] | None = None,
    ) -> LinearHead:
        """Train.

        Args:
            X: Vectors, shape (n, d).
            y: n labels.
            sample_weight: Shape (n,), 0 or more; default: 1 each.
            gold: Shape (n,), true where people gave the label. Default: all labels count as certain.

        Raises:
            TrainingError: There are fewer than two classes among the rows that weigh anything.
            ValueError: Shapes do not fit, or a value is not finite.
        """
        vectors, labels = np.asarray(X, dtype=np.float32), np.asarray(y, dtype=object)
        n = len(labels)
        weights = np.ones(n) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
        certain = np.ones(n, dtype=np.bool_) if gold is None else np.asarray(gold, dtype=np.bool_)
        if vectors.ndim != 2 or len(vectors) != n or weights.shape != (n,) or certain.shape != (n,):
            raise ValueError(
                f"shapes do not fit: X {vectors.shape}, y ({n},), sample_weight {weights.shape}, gold {certain.shape}"
            )
        if not (np.isfinite(vectors).all() and np.isfinite(weights).all() and (weights >= 0).all()):
            raise ValueError("vectors must be finite, weights finite and not negative")
        rows = weights > 0
        self.classes_ = sorted(set(labels[rows].tolist()))
        if len(self.classes_) < 2:
            raise TrainingError(
                f"expected labels of two classes or more to train on, found {', '.join(self.classes_) or 'none'}"
            )
        position = {label: index for index, label in enumerate(self.classes_)}
        classes = np.array([position[label] for label in labels[rows]], dtype=np.int64)
        labelled = _Labelled(vectors[rows], classes, weights[rows], certain[rows], len(self.classes_))
        with _threads(len(classes)):
            self._choose(labelled)
            self.coef_, self.intercept_ = _fit(labelled, self.strength_)
        return self

    def predict_proba(self, X: NDArray[np.floating[Any]]) -> Array:
        """The probability of every class: shape (n, d) in, (n, k) out, in the order of `classes_`."""
        logits = np.asarray(X, dtype=np.float32) @ self.coef_.T + self.intercept_
        return np.exp(_log_softmax(logits.astype(np.float64) / self.temperature_))

    def predict(self, X: NDArray[np.floating[Any]]) -> list[str]:
        """The most probable class of every row."""
        return [self.classes_[index] for index in self.predict_proba(X).argmax(axis=1)]

    def _choose(self, labelled: _Labelled) -> None:
        """Set strength, temperature and the cross-validated figures."""
        labelled = labelled.take(_subsample(labelled.classes, _CV_ROWS, self.random_state))
        folds = _folds(labelled.classes, self.random_state)
        self.strength_, self.temperature_ = 1.0, 1.0
        self.cv_log_loss_ = self.cv_accuracy_ = None
        if not folds:
            return
        tested = labelled.take(np.concatenate([test for _, test in folds]))
        best = np.inf
        for strength in STRENGTHS:
            parts = []
            for train, test in folds:
                coef, intercept = _fit(labelled.take(train), strength)
                parts.append((labelled.vectors[test] @ coef.T + intercept).astype(np.float64))
            logits = np.concatenate(parts)
            losses = [tested.loss(logits / temperature) for temperature in _TEMPERATURES]
            if min(losses) < best:
                best = min(losses)
                self.strength_ = strength
                self.temperature_ = float(_TEMPERATURES[int(np.argmin(losses))])
                agrees = logits.argmax(axis=1) == tested.classes
                self.cv_log_loss_, self.cv_accuracy_ = best, float(np.average(agrees, weights=tested.weights))

    # -- files ---------------------------------------------------------------------------------------------------

    def save(self, path: Path) -> dict[str, Any]:
        """Write the arrays to a safetensors file; what else `load` needs, JSON-like."""
        from safetensors.numpy import save

        path.write_bytes(save({"coef": self.coef_, "intercept": self.intercept_}))
        return {
            "classes": self.classes_,
            "temperature": self.temperature_,
            "strength": self.strength_,
            "cv_log_loss": self.cv_log_loss_,
            "cv_accuracy": self.cv_accuracy_,
        }

    @classmethod
    def load(cls, path: Path, facts: Mapping[str, Any]) -> LinearHead:
        """Read what `save` wrote.

        Raises:
            ValueError, KeyError, OSError: It is not what `save` wrote.
        """
        from safetensors.numpy import load

        arrays = load(path.read_bytes())
        head = cls()
        head.classes_ = [str(label) for label in facts["classes"]]
        head.coef_, head.intercept_ = arrays["coef"], arrays["intercept"]
        head.temperature_, head.strength_ = float(facts["temperature"]), float(facts["strength"])
        head.cv_log_loss_, head.cv_accuracy_ = facts["cv_log_loss"], facts["cv_accuracy"]
        k = len(head.classes_)
        if head.coef_.ndim != 2 or len(head.coef_) != k or head.intercept_.shape != (k,):
            raise ValueError("classes and weights do not fit")
        return head


@dataclass(frozen=True)
class _Labelled:
    """Rows to learn from: vectors (n, d), class indices, weights, whether people gave the label; k classes."""

    vectors: Vectors
    classes: NDArray[np.int64]
    weights: Array
    certain: NDArray[np.bool_]
    k: int

    def take(self, rows: NDArray[np.int64]) -> _Labelled:
        return _Labelled(self.vectors[rows], self.classes[rows], self.weights[rows], self.certain[rows], self.k)

    def loss(self, logits: Array) -> float:
        """The log-loss of logits, shape (n, k): gold and silver half each, silver right as often as it weighs."""
        logs = np.maximum(_log_softmax(logits), np.log(_LEAST_PROBABILITY))
        given = logs[np.arange(len(logs)), self.classes]
        right = np.where(self.certain, 1.0, np.minimum(self.weights, 1.0))
        others = (logs.sum(axis=1) - given) / (self.k - 1)
        losses = -(right * given + (1 - right) * others)
        if self.certain.all() or not self.certain.any():
            return float(np.average(losses, weights=self.weights if self.certain.all() else None))
        return float((losses[self.certain].mean() + losses[~self.certain].mean()) / 2)


def _fit(labelled: _Labelled, strength: float) -> tuple[Vectors, Vectors]:
    """Coefficients, shape (k, d), and intercepts, shape (k,); a class without a row gets a very low intercept."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=strength, max_iter=_ITERATIONS)
    with warnings.catch_warnings():
        # A model that is nearly converged is as good for choosing and predicting.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(labelled.vectors, labelled.classes, sample_weight=labelled.weights)
    coef = np.zeros((labelled.k, labelled.vectors.shape[1]), dtype=np.float32)
    intercept = np.full(labelled.k, np.log(_LEAST_PROBABILITY), dtype=np.float32)
    if len(model.classes_) == 2:
        # scikit-learn keeps the second class alone: its logit against 0.
        coef[model.classes_[1]] = model.coef_[0]
        intercept[model.classes_] = (0.0, model.intercept_[0])
    else:
        coef[model.classes_], intercept[model.classes_] = model.coef_, model.intercept_
    return coef, intercept


def _threads(rows: int) -> AbstractContextManager[object]:
    """One thread for small matrices: on two busy cores several make each product up to 20 times as slow."""
    from threadpoolctl import threadpool_limits

    return nullcontext() if rows > _MANY_ROWS else threadpool_limits(limits=1)


def _folds(classes: NDArray[np.int64], seed: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Stratified folds, each of whose training parts has two classes or more; none where there are too few rows.

    A class with fewer rows than folds is missing from some of them.
    """
    from sklearn.model_selection import StratifiedKFold

    counts = np.sort(np.bincount(classes))[::-1]
    # Two classes need a row in every fold's training part.
    number = min(_FOLDS, int(counts[1]))
    if number < 2:
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        splits = StratifiedKFold(number, shuffle=True, random_state=seed).split(np.zeros(len(classes)), classes)
        return [(train, test) for train, test in splits if len(np.unique(classes[train])) > 1]


def _subsample(classes: NDArray[np.int64], limit: int, seed: int) -> NDArray[np.int64]:
    """At most `limit` rows, in proportion to the classes, one of each at least: choosing needs no more."""
    if len(classes) <= limit:
        return np.arange(len(classes))
    shuffled = np.random.default_rng(seed).permutation(len(classes))
    share = limit / len(classes)
    chosen = [
        rows[: max(1, round(share * len(rows)))]
        for rows in (shuffled[classes[shuffled] == label] for label in np.unique(classes))
    ]
    return np.sort(np.concatenate(chosen))


def _log_softmax(logits: Array) -> Array:
    shifted = logits - logits.max(axis=1, keepdims=True)
    logs: Array = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return logs
