"""The linear head: scikit-learn's model on labels, soft targets beside, weighted, calibrated, kept as data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotation_pipelines.distillation import linear_head
from annotation_pipelines.distillation.linear_head import LinearHead
from annotation_pipelines.distillation.robust.targets import hard_targets
from annotation_pipelines.errors import TrainingError
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
    head = LinearHead().fit(X, y, weights)
    # For two classes scikit-learn keeps one vector, the difference of ours: its penalty is twice as strong.
    strength = head.strength_ * (2 if classes == 2 else 1)
    reference = LogisticRegression(C=strength, max_iter=2_000).fit(X, y, sample_weight=weights)
    assert head.classes_ == reference.classes_.tolist()
    head.temperature_ = 1.0
    np.testing.assert_allclose(head.predict_proba(X), reference.predict_proba(X), atol=4e-3)


def test_it_learns_what_there_is_to_learn() -> None:
    vectors, truth = clusters(120)
    unseen, unseen_truth = clusters(90, seed=9)
    head = LinearHead().fit(vectors, truth)
    assert np.mean(np.array(head.predict(unseen)) == unseen_truth) > 0.95
    np.testing.assert_allclose(head.predict_proba(unseen).sum(axis=1), 1)


def test_the_same_rows_give_the_same_model() -> None:
    vectors, _, given = noisy(90, 0.1)
    one, other = LinearHead().fit(vectors, given), LinearHead().fit(vectors, given)
    np.testing.assert_array_equal(one.coef_, other.coef_)
    assert one.temperature_ == other.temperature_


def test_a_row_without_weight_is_as_if_it_were_not_there() -> None:
    vectors, truth = clusters(60)
    weights = np.ones(90)
    weights[60:] = 0
    more, _ = clusters(30, seed=5)
    padded = LinearHead().fit(np.concatenate([vectors, more]), [*truth, *["nonsense"] * 30], weights)
    plain = LinearHead().fit(vectors, truth)
    assert padded.classes_ == plain.classes_
    np.testing.assert_allclose(padded.coef_, plain.coef_, atol=1e-6)


def test_weights_decide_between_labels_that_contradict_each_other() -> None:
    vectors, truth = clusters(120)
    wrong = ["moon"] * 120
    weights = np.concatenate([np.full(120, 0.9), np.full(120, 0.1)])
    head = LinearHead().fit(np.concatenate([vectors, vectors]), [*truth, *wrong], weights)
    assert np.mean(np.array(head.predict(vectors)) == truth) > 0.9


def test_it_is_as_sure_as_it_is_right() -> None:
    vectors, _, given = noisy(600, 0.3)
    unseen, _, unseen_given = noisy(600, 0.3, seed=50)
    head = LinearHead().fit(vectors, given)
    right = np.mean(np.array(head.predict(unseen)) == unseen_given)
    assert head.predict_proba(unseen).max(axis=1).mean() == pytest.approx(right, abs=0.06)
    assert head.cv_accuracy_ == pytest.approx(right, abs=0.07)


def test_silver_that_is_easily_copied_does_not_make_it_sure() -> None:
    vectors, truth = clusters(300, spread=0.3)
    gold = np.arange(300) < 60
    weights = np.where(gold, 1.0, 0.6)
    blind = LinearHead().fit(vectors, truth, weights)
    careful = LinearHead().fit(vectors, truth, weights, gold)
    assert careful.predict_proba(vectors).max(axis=1).mean() < blind.predict_proba(vectors).max(axis=1).mean()


def test_two_rows_of_two_classes_are_enough() -> None:
    vectors, truth = clusters(2)
    head = LinearHead().fit(vectors, truth)
    assert head.predict(vectors) == truth
    assert (head.strength_, head.temperature_, head.cv_log_loss_) == (1.0, 1.0, None)


@pytest.mark.parametrize("rare", [1, 2, 3])
def test_a_rare_class_does_not_stop_the_training(rare: int) -> None:
    vectors, truth = clusters(60)
    keep = [i for i, label in enumerate(truth) if label != "star" or i < 3 * rare]
    head = LinearHead().fit(vectors[keep], [truth[i] for i in keep])
    assert head.classes_ == sorted(LABELS)
    assert np.isfinite(head.predict_proba(vectors)).all()


@given(
    labels=st.lists(st.sampled_from("abcd"), min_size=2, max_size=25).filter(lambda y: len(set(y)) > 1),
    seed=st.integers(0, 100),
)
@settings(max_examples=15, deadline=None)
def test_any_labels_of_two_classes_give_a_model(labels: list[str], seed: int) -> None:
    generator = np.random.default_rng(seed)
    vectors = generator.normal(size=(len(labels), 4)).astype(np.float32)
    gold = generator.random(len(labels)) < 0.5
    head = LinearHead().fit(vectors, labels, generator.uniform(0.05, 1, len(labels)), gold)
    assert head.classes_ == sorted(set(labels))
    np.testing.assert_allclose(head.predict_proba(vectors).sum(axis=1), 1)
    assert head.temperature_ > 0


def test_many_rows_are_chosen_from_by_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_head, "_CV_ROWS", 60)
    vectors, truth = clusters(200)
    assert LinearHead().fit(vectors, truth).predict(vectors) == truth


def test_one_class_is_a_training_error() -> None:
    vectors, _ = clusters(5)
    with pytest.raises(TrainingError, match="found sun"):
        LinearHead().fit(vectors, ["sun"] * 5)
    with pytest.raises(TrainingError, match="found sun"):
        LinearHead().fit(vectors, ["moon", *["sun"] * 4], np.array([0.0, 1, 1, 1, 1]))


def test_what_cannot_be_learned_from_is_refused() -> None:
    vectors, truth = clusters(6)
    with pytest.raises(ValueError, match="shapes"):
        LinearHead().fit(vectors, truth[:5])
    with pytest.raises(ValueError, match="finite"):
        LinearHead().fit(vectors * np.nan, truth)
    with pytest.raises(ValueError, match="finite"):
        LinearHead().fit(vectors, truth, np.full(6, -1.0))


def test_soft_targets_make_it_as_unsure_as_they_are() -> None:
    vectors, truth = clusters(240)
    hard = hard_targets(truth, LABELS, np.ones(240), np.zeros(240, dtype=bool))
    spread = np.full((240, 3), 0.2) + 0.4 * hard.probabilities
    soft = LinearHead().fit_targets(vectors, replace(hard, probabilities=spread, beliefs=spread))
    assert soft.predict_proba(vectors).max(axis=1).mean() == pytest.approx(0.6, abs=0.05)
    assert np.mean(np.array(soft.predict(vectors)) == truth) > 0.95
    assert soft.classes_ == list(LABELS)


def test_classes_that_no_label_has_are_kept_and_never_the_likeliest() -> None:
    vectors, truth = clusters(60)
    targets = hard_targets(truth, [*LABELS, "comet"], np.ones(60), np.ones(60, dtype=bool))
    head = LinearHead().fit_targets(vectors, targets)
    assert head.classes_[3] == "comet"
    assert set(head.predict(vectors)) == set(LABELS)


# -- files -------------------------------------------------------------------------------------------------------


def test_a_saved_head_predicts_as_before(tmp_path: Path) -> None:
    vectors, _, given = noisy(60, 0.1)
    head = LinearHead().fit(vectors, given)
    facts = head.save(tmp_path / "head.safetensors")
    loaded = LinearHead.load(tmp_path / "head.safetensors", facts)
    unseen, _ = clusters(30, seed=3)
    np.testing.assert_array_equal(loaded.predict_proba(unseen), head.predict_proba(unseen))
    assert (loaded.strength_, loaded.cv_accuracy_) == (head.strength_, head.cv_accuracy_)


def test_a_head_whose_classes_do_not_fit_is_refused(tmp_path: Path) -> None:
    vectors, _, given = noisy(60, 0.1)
    facts = LinearHead().fit(vectors, given).save(tmp_path / "head.safetensors")
    with pytest.raises(ValueError, match="do not fit"):
        LinearHead.load(tmp_path / "head.safetensors", {**facts, "classes": facts["classes"][1:]})
