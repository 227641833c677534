"""How the teacher errs: taken by its word at first, then by what people say of its answers."""

from __future__ import annotations

import numpy as np
import pytest

from annotation_pipelines.distillation.robust.noise import ASSUMED_ACCURACY, Answers, estimate


def silent(given: np.ndarray, k: int, confidence: np.ndarray | None = None) -> Answers:
    """Answers without scores."""
    stated = np.full(len(given), np.nan) if confidence is None else confidence
    return Answers(given, stated, np.full((len(given), k), np.nan))


def erring(n: int, confusion: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """True classes, and answers with p(given | true) as the rows of a matrix say."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(len(confusion), size=n)
    given = np.array([generator.choice(len(confusion), p=confusion[label]) for label in truth])
    return truth, given


def test_without_an_audit_the_teacher_is_taken_by_its_word() -> None:
    nothing = silent(np.empty(0, dtype=np.int64), 3)
    noise = estimate(nothing, np.empty(0, dtype=np.int64), 3)
    said = noise.probabilities(silent(np.array([2, 0]), 3, np.array([0.9, np.nan])))
    np.testing.assert_allclose(said[0], [0.05, 0.05, 0.9], atol=1e-6)
    assert said[1, 0] == pytest.approx(ASSUMED_ACCURACY)
    assert noise.right is None


def test_without_an_audit_scores_are_taken_as_they_are() -> None:
    noise = estimate(silent(np.empty(0, dtype=np.int64), 3), np.empty(0, dtype=np.int64), 3)
    scores = np.array([[0.7, 0.2, 0.1]])
    np.testing.assert_allclose(noise.probabilities(Answers(np.array([0]), np.array([0.7]), scores)), scores, atol=1e-6)


def test_a_large_audit_gives_the_posterior_of_the_confusion_matrix() -> None:
    confusion = np.array([[0.9, 0.1, 0.0], [0.5, 0.5, 0.0], [0.1, 0.1, 0.8]])
    truth, given = erring(4_000, confusion)
    found = estimate(silent(given, 3), truth, 3).probabilities(silent(np.arange(3), 3))
    expected = confusion.T / confusion.T.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, atol=0.04)


def test_a_small_audit_moves_each_class_less_than_a_large_one() -> None:
    confusion = np.array([[0.9, 0.1], [0.6, 0.4]])
    truth, given = erring(2_000, confusion)
    asked = silent(np.array([0]), 2)
    by_its_word = estimate(silent(given[:0], 2), truth[:0], 2).probabilities(asked)[0, 0]
    few = estimate(silent(given[:10], 2), truth[:10], 2).probabilities(asked)[0, 0]
    many = estimate(silent(given, 2), truth, 2).probabilities(asked)[0, 0]
    assert abs(few - by_its_word) < abs(many - by_its_word)
    assert many == pytest.approx(0.6, abs=0.05)


def test_confidence_that_says_nothing_is_not_believed() -> None:
    generator = np.random.default_rng(3)
    truth = generator.integers(2, size=600)
    given = np.where(generator.random(600) < 0.7, truth, 1 - truth)
    noise = estimate(silent(given, 2, generator.uniform(0.5, 1, 600)), truth, 2)
    sure, unsure = noise.probabilities(silent(np.array([1, 1]), 2, np.array([0.97, 0.55])))[:, 1]
    assert sure == pytest.approx(0.7, abs=0.06)
    assert sure - unsure < 0.1


def test_confidence_that_is_right_is_believed() -> None:
    generator = np.random.default_rng(4)
    truth, confidence = generator.integers(2, size=600), generator.choice([0.55, 0.95], size=600)
    given = np.where(generator.random(600) < confidence, truth, 1 - truth)
    noise = estimate(silent(given, 2, confidence), truth, 2)
    sure, unsure = noise.probabilities(silent(np.array([1, 1]), 2, np.array([0.95, 0.55])))[:, 1]
    assert sure == pytest.approx(0.95, abs=0.04)
    assert unsure == pytest.approx(0.55, abs=0.08)


@pytest.mark.parametrize(("knows", "believed"), [(True, True), (False, False)])
def test_a_student_is_believed_as_far_as_it_was_right(knows: bool, believed: bool) -> None:
    generator = np.random.default_rng(5)
    truth = generator.integers(2, size=400)
    given = np.where(generator.random(400) < 0.6, truth, 1 - truth)
    told = truth if knows else generator.integers(2, size=400)
    opinions = np.where(np.eye(2)[told] > 0, 0.9, 0.1)
    blank = np.full((400, 2), np.nan)
    noise = estimate(Answers(given, np.full(400, np.nan), blank, (opinions,)), truth, 2)
    asked = Answers(np.array([0]), np.array([np.nan]), blank[:1], (np.array([[0.1, 0.9]]),))
    assert (noise.probabilities(asked)[0, 1] > 0.8) == believed


def test_a_label_that_is_none_of_the_classes_leaves_the_base_rates() -> None:
    truth, given = erring(500, np.array([[0.8, 0.2], [0.2, 0.8]]))
    noise = estimate(silent(given, 2), truth, 2)
    said = noise.probabilities(silent(np.array([-1]), 2))
    np.testing.assert_allclose(said.sum(axis=1), 1)
    assert 0.3 < said[0, 0] < 0.7


def test_many_classes_and_few_audited_records_stay_near_the_scores() -> None:
    generator = np.random.default_rng(6)
    scores = generator.dirichlet(np.full(40, 0.05), size=60)
    truth = np.array([generator.choice(40, p=row) for row in scores])
    answers = Answers(scores.argmax(axis=1), scores.max(axis=1), scores)
    said = estimate(answers, truth, 40).probabilities(answers)
    assert np.abs(said - scores).sum(axis=1).mean() < 0.4
