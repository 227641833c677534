"""The linear head: multinomial logistic regression on vectors, with calibrated probabilities.

It is data: two arrays and a few numbers. Prediction needs numpy alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annotation_pipelines.distillation.robust.targets import Targets, hard_targets
from annotation_pipelines.distillation.softmax import fit_softmax, folds, log_softmax, logits_of, one_thread
from annotation_pipelines.errors import TrainingError

STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
"""Candidates for C, the inverse strength of the L2 penalty against the summed loss."""

MOST_WITH_SOFT_TARGETS = 10.0
"""The most that is tried where targets are soft. By log-loss a weaker penalty looks better, since a temperature mends
it, but what it fits is the noise that the softness speaks of. On SemEval-2010 Task 8 with ChatGPT's labels 100 was
chosen in each of five seeds, and 10 was right about one record in a hundred more; on two other sets it made no
difference.
"""

_FOLDS = 5
_FEW_FOLDS = 3
_SMALL = 1_500  # more rows than that are held out in fewer folds
_CV_ROWS = 5_000
_CV_TOLERANCE = 1e-5
_TEMPERATURES = np.geomspace(0.2, 8.0, 75)
_LEAST_PROBABILITY = 1e-6

Array = NDArray[np.float64]
Vectors = NDArray[np.float32]


class LinearHead:
    """Multinomial logistic regression on soft targets with weights.

    Strength of the L2 penalty and temperature of the probabilities (Guo et al. 2017, arXiv 1706.04599) are those with
    the least log-loss on held-out predictions of a stratified cross-validation, so that no label calibrates a model
    that has seen it. Silver labels alone would make the student as sure as the teacher is consistent: an embedded
    teacher is wrong in ways a linear student copies well. So gold and silver each have half of the say where both are
    there, and the loss on silver is the one that is expected by what is believed of its labels. With too few labels
    for folds both keep their defaults (1).

    Args:
        random_state: Decides the folds; the same state, rows and weights give the same model.

    Attributes:
        classes_: The labels; k of them.
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
        """Train on labels; the classes are those of rows that weigh anything, sorted.

        Args:
            X: Vectors, shape (n, d).
            y: n labels.
            sample_weight: Shape (n,), 0 or more; default: 1 each.
            gold: Shape (n,), true where people gave the label. Default: all labels count as certain.

        Raises:
            TrainingError: There are fewer than two classes among the rows that weigh anything.
            ValueError: Shapes do not fit, or a value is not finite.
        """
        labels = np.asarray(y, dtype=object)
        n = len(labels)
        weights = np.ones(n) if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
        certain = np.ones(n, dtype=np.bool_) if gold is None else np.asarray(gold, dtype=np.bool_)
        if len(X) != n or weights.shape != (n,) or certain.shape != (n,):
            raise ValueError(
                f"shapes do not fit: X {np.shape(X)}, y ({n},), sample_weight {weights.shape}, gold {certain.shape}"
            )
        rows = weights > 0
        targets = hard_targets(labels[rows].tolist(), sorted(set(labels[rows])), weights[rows], certain[rows])
        if not (np.isfinite(weights).all() and (weights >= 0).all()):
            raise ValueError("weights must be finite and not negative")
        return self.fit_targets(np.asarray(X)[rows], targets)

    def fit_targets(self, X: NDArray[np.floating[Any]], targets: Targets) -> LinearHead:
        """Train on targets.

        Args:
            X: Vectors of the kept examples, shape (n, d).
            targets: Of the same n examples; `rows` is not looked at.

        Raises:
            TrainingError: There are fewer than two classes among the labels of rows that weigh anything.
            ValueError: Shapes do not fit, or a value is not finite.
        """
        vectors = np.ascontiguousarray(X, dtype=np.float32)
        if vectors.ndim != 2 or len(vectors) != len(targets.weights):
            raise ValueError(f"shapes do not fit: X {vectors.shape}, targets {targets.probabilities.shape}")
        if not (np.isfinite(vectors).all() and np.isfinite(targets.weights).all() and (targets.weights >= 0).all()):
            raise ValueError("vectors must be finite, weights finite and not negative")
        if not (targets.weights > 0).all():
            weighing = np.flatnonzero(targets.weights > 0)
            vectors, targets = vectors[weighing], targets.take(weighing)
        taught = sorted(set(targets.labels))
        if len(taught) < 2:
            raise TrainingError(
                f"expected labels of two classes or more to train on, found {', '.join(taught) or 'none'}"
            )
        self.classes_ = list(targets.classes)
        with one_thread():
            self._choose(vectors, targets)
            self.coef_, self.intercept_ = fit_softmax(vectors, targets.probabilities, targets.weights, self.strength_)
        return self

    def predict_proba(self, X: NDArray[np.floating[Any]]) -> Array:
        """The probability of every class: shape (n, d) in, (n, k) out, in the order of `classes_`."""
        logits = np.asarray(X, dtype=np.float32) @ self.coef_.T + self.intercept_
        return np.exp(log_softmax(logits.astype(np.float64) / self.temperature_))

    def predict(self, X: NDArray[np.floating[Any]]) -> list[str]:
        """The most probable class of every row."""
        return [self.classes_[index] for index in self.predict_proba(X).argmax(axis=1)]

    def _choose(self, vectors: Vectors, targets: Targets) -> None:
        """Set strength, temperature and the cross-validated figures."""
        chosen = _subsample(targets.probabilities.argmax(axis=1), _CV_ROWS, self.random_state)
        vectors, targets = vectors[chosen], targets.take(chosen)
        labels = targets.probabilities.argmax(axis=1)
        splits = folds(labels, _FOLDS if len(labels) <= _SMALL else _FEW_FOLDS, self.random_state)
        self.strength_, self.temperature_ = 1.0, 1.0
        self.cv_log_loss_ = self.cv_accuracy_ = None
        if not splits:
            return
        order = np.concatenate([test for _, test in splits])
        tested, labels = targets.take(order), labels[order]
        models: list[tuple[Vectors, Vectors] | None] = [None] * len(splits)
        best = np.inf
        soft = bool((targets.probabilities.max(axis=1) < 1).any())
        for strength in STRENGTHS:
            if soft and strength > MOST_WITH_SOFT_TARGETS:
                break
            parts = []
            for number, (train, test) in enumerate(splits):
                # The weaker penalty's minimum lies near the stronger one's.
                model = fit_softmax(
                    vectors[train],
                    targets.probabilities[train],
                    targets.weights[train],
                    strength,
                    start=models[number],
                    tolerance=_CV_TOLERANCE,
                )
                models[number] = model
                parts.append(logits_of(vectors[test], model))
            logits = np.concatenate(parts)
            losses = [_loss(logits / temperature, tested) for temperature in _TEMPERATURES]
            if min(losses) >= best:
                # The loss has one minimum along the strengths, but for chance.
                break
            best = min(losses)
            self.strength_ = strength
            self.temperature_ = float(_TEMPERATURES[int(np.argmin(losses))])
            agrees = logits.argmax(axis=1) == labels
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


def _loss(logits: Array, targets: Targets) -> float:
    """The log-loss of logits, shape (n, k), expected by what is believed; gold and silver half each where both are."""
    losses = -np.einsum("nk,nk->n", targets.beliefs, np.maximum(log_softmax(logits), np.log(_LEAST_PROBABILITY)))
    gold = targets.gold
    if gold.all() or not gold.any():
        return float(np.average(losses, weights=targets.weights if gold.all() else None))
    return float((losses[gold].mean() + losses[~gold].mean()) / 2)


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
