"""Confident learning: what the paper's definitions give on small tables, and what it finds among wrong labels."""

from __future__ import annotations

import numpy as np

from annotation_pipelines.distillation.robust.pruning import confident_class, confident_joint, find_label_errors


def test_a_prediction_counts_where_it_reaches_the_mean_of_its_class() -> None:
    probabilities = np.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.45, 0.55], [0.85, 0.15]])
    given = np.array([0, 0, 1, 1, 1])
    # Thresholds: class 0: (.9 + .7) / 2 = .8; class 1: (.8 + .55 + .15) / 3 = .5.
    assert confident_class(probabilities, given).tolist() == [0, -1, 1, 1, 0]
    assert confident_joint(probabilities, given).tolist() == [[1, 0], [1, 2]]
    # A third of the labels of class 1 is wrong: one of three, the one with the least probability.
    assert find_label_errors(probabilities, given).tolist() == [False, False, False, False, True]


def test_labels_that_the_model_shares_are_never_found_wrong() -> None:
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet(np.ones(4), size=200)
    given = generator.integers(4, size=200)
    wrong = find_label_errors(probabilities, given)
    assert wrong.any()
    assert not wrong[probabilities.argmax(axis=1) == given].any()


def test_a_class_that_the_model_is_shy_of_keeps_its_labels() -> None:
    # No record of class 1 is most probably of it, and yet 0.4 is much for that class.
    probabilities = np.array([[0.95, 0.05]] * 20 + [[0.6, 0.4]] * 4)
    given = np.array([0] * 20 + [1] * 4)
    assert not find_label_errors(probabilities, given).any()


def test_most_of_the_labels_found_wrong_are_wrong() -> None:
    generator = np.random.default_rng(1)
    truth = generator.integers(3, size=900)
    given = np.where(generator.random(900) < 0.2, generator.integers(3, size=900), truth)
    logits = 2.5 * np.eye(3)[truth] + generator.normal(size=(900, 3))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    found, wrong = find_label_errors(probabilities, given), given != truth
    assert wrong[found].mean() > 0.6
    assert found[wrong].mean() > 0.6


def test_a_label_without_records_is_no_class_of_any() -> None:
    probabilities = np.array([[0.3, 0.3, 0.4]] * 6)
    given = np.array([0, 0, 0, 1, 1, 1])
    assert confident_joint(probabilities, given)[:, 2].sum() == 0
