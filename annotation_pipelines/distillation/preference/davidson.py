"""Which of two is better, and by how much: a linear score of each, and Davidson's model of ties.

Bradley and Terry (1952) say that A is preferred to B with probability sigmoid(s_A - s_B). Davidson (1970, "On extending
the Bradley-Terry model to accommodate ties in paired comparison experiments") adds ties, as probable as the geometric
mean of both sides times a constant:

    P(A) : P(B) : P(tie)  =  exp(s_A) : exp(s_B) : exp(t + (s_A + s_B) / 2)

Scores are linear in features, so all depends on the difference of the features of A and B. Whatever both share drops
out, and a pair with A and B exchanged has the same answer with A and B exchanged: by construction, not by training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annotation_pipelines.distillation.softmax import log_softmax

STRENGTHS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Candidates for the inverse strength of the L2 penalty against the summed loss."""

TEMPERATURES = np.geomspace(0.3, 5.0, 60)

_FOLDS = 5
_ITERATIONS = 300
_FREE = 1e-3  # the constant of ties is hardly penalised
_NEVER = -50.0
_LEAST_LOG = float(np.log(1e-6))

Array = NDArray[np.float64]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Davidson:
    """A fitted model.

    Attributes:
        weights: Of the features, shape (d,).
        tie: The constant of ties; very low where there are none.
        temperature: What log-odds are divided by.
    """

    weights: Array
    tie: float
    temperature: float = 1.0

    def logits(self, differences: Array) -> Array:
        """Of A, B and a tie: differences of features, shape (n, d), in; shape (n, 3) out."""
        half = differences @ self.weights / 2
        return np.column_stack([half, -half, np.full(len(half), self.tie)])

    def probabilities(self, differences: Array) -> Array:
        """The probabilities of A, B and a tie, calibrated, shape (n, 3)."""
        return np.exp(log_softmax(self.logits(differences) / self.temperature))

    @classmethod
    def fit(cls, differences: Array, targets: Array, weights: Array, strength: float) -> Davidson:
        """The weights with the least loss: strength * sum_i w_i CE_i + |weights|^2 / 2. It is convex.

        Args:
            differences: Features of A less those of B, shape (n, d).
            targets: The probability of A, B and a tie, shape (n, 3).
            weights: Shape (n,), not all 0.
        """
        from scipy.optimize import minimize
        from threadpoolctl import threadpool_limits

        d = differences.shape[1]
        total = float(weights.sum())
        ties = bool((weights @ targets)[2] > 0)

        def loss(point: Array) -> tuple[float, Array]:
            logs = log_softmax(cls(point[:d], float(point[d]) if ties else _NEVER).logits(differences))
            errors = (np.exp(logs) - targets) * weights[:, None] / total
            ridge = np.append(np.full(d, 1 / (strength * total)), _FREE / total) * point
            slope = np.append(differences.T @ (errors[:, 0] - errors[:, 1]) / 2, errors[:, 2].sum() * ties)
            value = -float(weights @ (targets * logs).sum(axis=1)) / total + 0.5 * float(ridge @ point)
            return value, slope + ridge

        with threadpool_limits(limits=1):
            found: Any = minimize(
                loss,
                np.zeros(d + 1),
                jac=True,
                method="L-BFGS-B",
                options={"maxiter": _ITERATIONS, "ftol": 1e-10, "gtol": 1e-7},
            )
        return cls(found.x[:d], float(found.x[d]) if ties else _NEVER)


@dataclass(frozen=True)
class Fitted:
    """A model with what cross-validation says of it.

    Attributes:
        model: Calibrated.
        strength: The chosen one.
        accuracy: The share of held-out pairs whose answer is found; None with too few groups to hold some out.
        log_loss: Of held-out pairs; None likewise.
    """

    model: Davidson
    strength: float
    accuracy: float | None
    log_loss: float | None


def choose_and_fit(
    differences: Array, targets: Array, weights: Array, beliefs: Array, say: Array, groups: Rows, seed: int
) -> Fitted:
    """Fit with the strength and the temperature that have the least log-loss on held-out pairs.

    Args:
        targets: What is taught, shape (n, 3).
        beliefs: What held-out pairs are thought to be, shape (n, 3).
        say: How much each pair counts in choosing, shape (n,).
        groups: Shape (n,): pairs of one group are held out together; responses to one prompt are alike.
    """
    names = np.unique(groups)
    number = min(_FOLDS, len(names))
    strength, temperature, accuracy, least = 0.03, 1.0, None, np.inf
    if number > 1:
        place = np.random.default_rng(seed).permutation(len(names)) % number
        fold = place[np.searchsorted(names, groups)]
        for candidate in STRENGTHS:
            logits = np.zeros((len(groups), 3))
            for left_out in range(number):
                learn, test = fold != left_out, fold == left_out
                if weights[learn].sum() > 0:
                    model = Davidson.fit(differences[learn], targets[learn], weights[learn], candidate)
                    logits[test] = model.logits(differences[test])
            losses = [_loss(logits / t, beliefs, say) for t in TEMPERATURES]
            if min(losses) < least:
                least = min(losses)
                strength, temperature = candidate, float(TEMPERATURES[int(np.argmin(losses))])
                right = logits.argmax(axis=1) == beliefs.argmax(axis=1)
                accuracy = float(np.average(right, weights=say)) if say.sum() > 0 else None
    model = Davidson.fit(differences, targets, weights, strength)
    calibrated = Davidson(model.weights, model.tie, temperature)
    return Fitted(calibrated, strength, accuracy, None if accuracy is None else least)


def _loss(logits: Array, beliefs: Array, say: Array) -> float:
    logs = np.maximum(log_softmax(logits), _LEAST_LOG)
    return -float(say @ (beliefs * logs).sum(axis=1))
