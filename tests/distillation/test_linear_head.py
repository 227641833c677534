"""The linear student: scikit-learn's model, weighted, calibrated, kept as data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotation_pipelines.distillation import linear
from annotation_pipelines.distillation.linear import LinearStudent
from annotation_pipelines.errors import StoreCorrupted, TrainingError
from tests.distillation.stars import LABELS, clusters


def noisy(n: int, wrong: float, seed: int = 0) -> tuple[np.ndarray, list[str], list[str]]:
    """Vectors, their true labels, and labels of which a share is wrong."""
    vectors, truth = clusters(n, seed=seed, spread=1.5)
    generator = np.random.default_rng(seed + 1)
    given = [str(generator.choice(LABELS)) if generator.random() < wrong else label for label in truth]
    return vectors, truth, given


@pytest.mark.parametrize("classes", [2, 3])
def test_probabilities_are_those_of_scikit_learn_but_for_the_temperature(classes: int) -> None:
    from sklearn.linear_model import LogisticRegression

    vectors, _, given = noisy(150, 0.2)
    rows = [i for i, label in enumerate(given) if label in LABELS[:classes]]
    X, y = vectors[rows], [given[i] for i in rows]
    weights = np.random.default_rng(0).uniform(0.1, 1, len(rows))
    student = LinearStudent().fit(X, y, weights)
    reference = LogisticRegression(C=student.strength_, max_iter=500).fit(X, y, sample_weight=weights)
    assert student.classes_ == reference.classes_.tolist()
    student.temperature_ = 1.0
    np.testing.assert_allclose(student.predict_proba(X), reference.predict_proba(X), atol=2e-3)


def test_it_learns_what_there_is_to_learn() -> None:
    vectors, truth = clusters(120)
    unseen, unseen_truth = clusters(90, seed=9)
    student = LinearStudent().fit(vectors, truth)
    assert np.mean(np.array(student.predict(unseen)) == unseen_truth) > 0.95
    np.testing.assert_allclose(student.predict_proba(unseen).sum(axis=1), 1)


def test_the_same_rows_give_the_same_model() -> None:
    vectors, _, given = noisy(90, 0.1)
    one, other = LinearStudent().fit(vectors, given), LinearStudent().fit(vectors, given)
    np.testing.assert_array_equal(one.coef_, other.coef_)
    assert one.temperature_ == other.temperature_


def test_a_row_without_weight_is_as_if_it_were_not_there() -> None:
    vectors, truth = clusters(60)
    weights = np.ones(90)
    weights[60:] = 0
    more, _ = clusters(30, seed=5)
    padded = LinearStudent().fit(np.concatenate([vectors, more]), [*truth, *["nonsense"] * 30], weights)
    plain = LinearStudent().fit(vectors, truth)
    assert padded.classes_ == plain.classes_
    np.testing.assert_allclose(padded.coef_, plain.coef_, atol=1e-6)


def test_weights_decide_between_labels_that_contradict_each_other() -> None:
    vectors, truth = clusters(120)
    wrong = ["moon"] * 120
    weights = np.concatenate([np.full(120, 0.9), np.full(120, 0.1)])
    student = LinearStudent().fit(np.concatenate([vectors, vectors]), [*truth, *wrong], weights)
    assert np.mean(np.array(student.predict(vectors)) == truth) > 0.9


def test_it_is_as_sure_as_it_is_right() -> None:
    vectors, _, given = noisy(600, 0.3)
    unseen, _, unseen_given = noisy(600, 0.3, seed=50)
    student = LinearStudent().fit(vectors, given)
    right = np.mean(np.array(student.predict(unseen)) == unseen_given)
    assert student.predict_proba(unseen).max(axis=1).mean() == pytest.approx(right, abs=0.06)
    assert student.cv_accuracy_ == pytest.approx(right, abs=0.07)


def test_silver_that_is_easily_copied_does_not_make_it_sure() -> None:
    vectors, truth = clusters(300, spread=0.3)
    gold = np.arange(300) < 60
    weights = np.where(gold, 1.0, 0.6)
    blind = LinearStudent().fit(vectors, truth, weights)
    careful = LinearStudent().fit(vectors, truth, weights, gold)
    assert careful.predict_proba(vectors).max(axis=1).mean() < blind.predict_proba(vectors).max(axis=1).mean()


def test_two_rows_of_two_classes_are_enough() -> None:
    vectors, truth = clusters(2)
    student = LinearStudent().fit(vectors, truth)
    assert student.predict(vectors) == truth
    assert (student.strength_, student.temperature_, student.cv_log_loss_) == (1.0, 1.0, None)


@pytest.mark.parametrize("rare", [1, 2, 3])
def test_a_rare_class_does_not_stop_the_training(rare: int) -> None:
    vectors, truth = clusters(60)
    keep = [i for i, label in enumerate(truth) if label != "star" or i < 3 * rare]
    student = LinearStudent().fit(vectors[keep], [truth[i] for i in keep])
    assert student.classes_ == sorted(LABELS)
    assert np.isfinite(student.predict_proba(vectors)).all()


@given(
    labels=st.lists(st.sampled_from("abcd"), min_size=2, max_size=25).filter(lambda y: len(set(y)) > 1),
    seed=st.integers(0, 100),
)
@settings(max_examples=15, deadline=None)
def test_any_labels_of_two_classes_give_a_model(labels: list[str], seed: int) -> None:
    generator = np.random.default_rng(seed)
    vectors = generator.normal(size=(len(labels), 4)).astype(np.float32)
    gold = generator.random(len(labels)) < 0.5
    student = LinearStudent().fit(vectors, labels, generator.uniform(0.05, 1, len(labels)), gold)
    assert student.classes_ == sorted(set(labels))
    np.testing.assert_allclose(student.predict_proba(vectors).sum(axis=1), 1)
    assert student.temperature_ > 0


def test_many_rows_are_chosen_from_by_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "_CV_ROWS", 60)
    vectors, truth = clusters(200)
    assert LinearStudent().fit(vectors, truth).predict(vectors) == truth


def test_one_class_is_a_training_error() -> None:
    vectors, _ = clusters(5)
    with pytest.raises(TrainingError, match="found sun"):
        LinearStudent().fit(vectors, ["sun"] * 5)
    with pytest.raises(TrainingError, match="found sun"):
        LinearStudent().fit(vectors, ["moon", *["sun"] * 4], np.array([0.0, 1, 1, 1, 1]))


def test_what_cannot_be_learned_from_is_refused() -> None:
    vectors, truth = clusters(6)
    with pytest.raises(ValueError, match="shapes"):
        LinearStudent().fit(vectors, truth[:5])
    with pytest.raises(ValueError, match="finite"):
        LinearStudent().fit(vectors * np.nan, truth)
    with pytest.raises(ValueError, match="finite"):
        LinearStudent().fit(vectors, truth, np.full(6, -1.0))


# -- files -------------------------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path: Path) -> tuple[LinearStudent, Path]:
    vectors, _, given = noisy(60, 0.1)
    student = LinearStudent().fit(vectors, given)
    student.save(tmp_path, {"version": "v", "note": "größer"})
    return student, tmp_path


def test_a_saved_model_predicts_as_before(saved: tuple[LinearStudent, Path]) -> None:
    student, folder = saved
    loaded, card = LinearStudent.load(folder)
    vectors, _ = clusters(30, seed=3)
    np.testing.assert_array_equal(loaded.predict_proba(vectors), student.predict_proba(vectors))
    assert card["note"] == "größer"
    assert card["classes"] == student.classes_
    assert sorted(path.name for path in folder.iterdir()) == ["card.json", "model.safetensors"]


@pytest.mark.parametrize("damage", ["no card", "no weights", "card cut", "one bit", "later format", "class missing"])
def test_a_damaged_model_is_one_clear_error(saved: tuple[LinearStudent, Path], damage: str) -> None:
    _, folder = saved
    card, weights = folder / "card.json", folder / "model.safetensors"
    document = json.loads(card.read_text())
    if damage == "no card":
        card.unlink()
    elif damage == "no weights":
        weights.unlink()
    elif damage == "card cut":
        card.write_text(card.read_text()[:50])
    elif damage == "one bit":
        content = bytearray(weights.read_bytes())
        content[-7] ^= 1
        weights.write_bytes(content)
    elif damage == "later format":
        card.write_text(json.dumps({**document, "format": 99}))
    else:
        card.write_text(json.dumps({**document, "classes": document["classes"][1:]}))
    with pytest.raises(StoreCorrupted, match="cannot be read"):
        LinearStudent.load(folder)
