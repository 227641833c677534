"""Learning to reweight: the closed form is the derivative through the virtual step, and wrong labels lose weight."""

from __future__ import annotations

import numpy as np
import pytest

from annotation_pipelines.distillation.robust.reweighting import (
    SoftmaxModel,
    alignment,
    gradient,
    learned_weights,
    weights_from_alignment,
)
from annotation_pipelines.distillation.softmax import log_softmax
from tests.distillation.stars import LABELS, clusters


def gold_loss_after(
    eps: np.ndarray, model: SoftmaxModel, batch: tuple[np.ndarray, np.ndarray], gold: tuple[np.ndarray, np.ndarray]
) -> float:
    """The mean gold loss after a step of rate 0.5 on sum_i eps_i * loss_i."""
    stepped = SoftmaxModel(model.coef.copy(), model.intercept.copy())
    stepped.step(batch[0], stepped.errors(*batch), eps, 0.5, 0.0)
    logs = log_softmax(gold[0] @ stepped.coef.T + stepped.intercept)
    return float(-(gold[1] * logs).sum(axis=1).mean())


@pytest.mark.parametrize("soft", [False, True])
def test_the_closed_form_is_the_derivative_of_the_gold_loss_after_the_virtual_step(soft: bool) -> None:
    generator = np.random.default_rng(0)
    k, d = 4, 6
    model = SoftmaxModel(generator.normal(size=(k, d)), generator.normal(size=k))
    targets = generator.dirichlet(np.ones(k), size=9) if soft else np.eye(k)[generator.integers(k, size=9)]
    batch = generator.normal(size=(9, d)), targets
    gold = generator.normal(size=(7, d)), np.eye(k)[generator.integers(k, size=7)]
    exact = alignment(batch[0], model.errors(*batch), gradient(gold[0], model.errors(*gold)))
    small = 1e-5
    for row in range(9):
        eps = np.zeros(9)
        eps[row] = small
        slope = (gold_loss_after(eps, model, batch, gold) - gold_loss_after(-eps, model, batch, gold)) / (2 * small)
        # Minus the derivative, over the rate of the step.
        assert exact[row] == pytest.approx(-slope / 0.5, rel=1e-5, abs=1e-8)


def test_the_errors_are_the_derivative_of_the_cross_entropy_by_the_logits() -> None:
    generator = np.random.default_rng(1)
    model = SoftmaxModel(generator.normal(size=(3, 2)), np.zeros(3))
    X, target = generator.normal(size=(1, 2)), generator.dirichlet(np.ones(3), size=1)
    errors = model.errors(X, target)[0]
    for place in range(3):
        losses = []
        for change in (1e-6, -1e-6):
            moved = np.zeros(3)
            moved[place] = change
            losses.append(float(-(target * log_softmax(X @ model.coef.T + moved)).sum()))
        assert errors[place] == pytest.approx((losses[0] - losses[1]) / 2e-6, abs=1e-6)


def test_weights_are_what_helps_normalised() -> None:
    np.testing.assert_allclose(weights_from_alignment(np.array([3.0, -1.0, 1.0])), [0.75, 0, 0.25])
    assert not weights_from_alignment(np.array([-1.0, -2.0])).any()


def poisoned(n: int = 240, wrong: float = 0.4) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Vectors, targets, gold, and where a silver label is wrong: moon for sun in most cases."""
    vectors, truth = clusters(n, spread=1.2)
    classes = np.array([LABELS.index(label) for label in truth])
    gold = np.arange(n) < 45
    bad = ~gold & (np.random.default_rng(0).random(n) < wrong)
    given = np.where(bad, (classes + 1) % 3, classes)
    return vectors, np.eye(3)[given], gold, bad


def test_wrong_labels_weigh_less_than_right_ones() -> None:
    vectors, targets, gold, bad = poisoned()
    factors = learned_weights(vectors, targets, np.ones(len(vectors)), gold)
    silver = ~gold
    assert factors[bad].mean() < 0.5 * factors[silver & ~bad].mean()
    np.testing.assert_array_equal(factors[gold], 1)
    assert factors.min() >= 0


def test_the_same_seed_learns_the_same_weights() -> None:
    vectors, targets, gold, _ = poisoned(120)
    one, again = (learned_weights(vectors, targets, np.ones(120), gold, seed=3) for _ in range(2))
    other = learned_weights(vectors, targets, np.ones(120), gold, seed=4)
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("people", [0, 3])
def test_too_little_gold_judges_nothing(people: int) -> None:
    vectors, targets, _, _ = poisoned(60)
    factors = learned_weights(vectors, targets, np.ones(60), np.arange(60) < people)
    np.testing.assert_array_equal(factors, 1)
