"""Softmax regression on soft targets: the minimum is scikit-learn's, and no row is judged by a model that saw it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotation_pipelines.distillation.softmax import (
    cross_validated,
    fit_softmax,
    folds,
    log_softmax,
    logits_of,
    softmax,
)


def drawn(n: int, k: int, d: int = 12, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    X = generator.normal(size=(n, d)).astype(np.float32)
    return X, generator.integers(k, size=n)


@pytest.mark.parametrize("strength", [0.3, 10.0])
def test_hard_targets_give_the_minimum_of_scikit_learn(strength: float) -> None:
    from sklearn.linear_model import LogisticRegression

    X, y = drawn(150, 4)
    weights = np.random.default_rng(1).uniform(0.1, 1, 150)
    reference = LogisticRegression(C=strength, max_iter=2_000, tol=1e-8).fit(X, y, sample_weight=weights)
    found = softmax(logits_of(X, fit_softmax(X, np.eye(4)[y], weights, strength)))
    np.testing.assert_allclose(found, reference.predict_proba(X), atol=2e-3)


def test_soft_targets_teach_what_rows_repeated_with_every_label_would() -> None:
    X, _ = drawn(60, 3)
    targets = np.random.default_rng(2).dirichlet(np.ones(3), size=60)
    soft = fit_softmax(X, targets, np.ones(60), 3.0)
    repeated = fit_softmax(np.repeat(X, 3, axis=0), np.tile(np.eye(3), (60, 1)), targets.ravel(), 3.0)
    np.testing.assert_allclose(softmax(logits_of(X, soft)), softmax(logits_of(X, repeated)), atol=2e-3)


def test_the_start_does_not_move_the_minimum() -> None:
    X, y = drawn(80, 3)
    cold = fit_softmax(X, np.eye(3)[y], np.ones(80), 1.0)
    warm = fit_softmax(X, np.eye(3)[y], np.ones(80), 1.0, start=fit_softmax(X, np.eye(3)[y], np.ones(80), 30.0))
    np.testing.assert_allclose(softmax(logits_of(X, warm)), softmax(logits_of(X, cold)), atol=2e-3)


def test_a_class_without_mass_is_never_the_likeliest() -> None:
    X, y = drawn(50, 2)
    coef, intercept = fit_softmax(X, np.eye(4)[y], np.ones(50), 1.0)
    assert not coef[2:].any()
    assert softmax(logits_of(X, (coef, intercept)))[:, 2:].max() < 1e-3


def test_logits_of_any_size_give_finite_logarithms() -> None:
    logs = log_softmax(np.array([[1e4, -1e4, 0.0], [0.0, 0.0, 0.0]]))
    assert np.isfinite(logs).all()
    np.testing.assert_allclose(np.exp(logs).sum(axis=1), 1)


@given(st.lists(st.integers(0, 3), min_size=2, max_size=40), st.integers(2, 6), st.integers(0, 9))
@settings(max_examples=50, deadline=None)
def test_folds_test_every_row_once_and_split_classes_evenly(labels: list[int], number: int, seed: int) -> None:
    classes = np.array(labels)
    splits = folds(classes, number, seed)
    if not splits:
        assert np.sort(np.bincount(classes))[::-1][1:2].sum() < 2
        return
    tested = np.concatenate([test for _, test in splits])
    assert len(np.unique(tested)) == len(tested)
    for train, test in splits:
        assert sorted(np.concatenate([train, test]).tolist()) == list(range(len(classes)))
        for label in np.unique(classes):
            share = (classes == label).sum() / min(number, len(splits))
            assert (classes[test] == label).sum() <= np.ceil(share) + 1


def test_no_row_is_judged_by_a_model_that_saw_it_or_its_copy() -> None:
    # Random labels cannot be told by a model that has not seen them; a memory of the copies would tell them all.
    X, y = drawn(120, 2, d=200)
    twice, labels = np.concatenate([X, X]), np.concatenate([y, y])
    groups = [f"text {row}" for row in range(120)] * 2
    blind = cross_validated(twice, np.eye(2)[labels], np.ones(240), strength=30.0, groups=groups)
    leaking = cross_validated(twice, np.eye(2)[labels], np.ones(240), strength=30.0)
    assert blind is not None
    assert leaking is not None
    assert (blind.argmax(axis=1) == labels).mean() < 0.65
    assert (leaking.argmax(axis=1) == labels).mean() > 0.7


def test_rows_without_weight_are_tested_but_not_learned_from() -> None:
    X, y = drawn(60, 2, d=3)
    weights = np.where(np.arange(60) < 40, 1.0, 0.0)
    wrong = np.where(weights > 0, y, 1 - y)
    one = cross_validated(X, np.eye(2)[y], weights, strength=1.0, groups=range(60))
    other = cross_validated(X, np.eye(2)[wrong], weights, strength=1.0, groups=range(60))
    assert one is not None
    assert other is not None
    assert one.shape == (60, 2)
    assert not np.allclose(one[40:], one[40])
    np.testing.assert_allclose(one.sum(axis=1), 1)


def test_one_row_of_each_class_is_too_few_to_cross_validate() -> None:
    X, _ = drawn(2, 2)
    assert cross_validated(X, np.eye(2), np.ones(2), strength=1.0) is None
