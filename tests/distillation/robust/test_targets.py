"""What a student is to learn: gold as it is, silver as declared."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from annotation_pipelines.distillation.robust.targets import LEAST_WEIGHT, hard_targets, make_targets
from annotation_pipelines.distillation.students.base import Examples
from annotation_pipelines.project import Robust
from tests.distillation.stars import LABELS, clusters

N, GOLD = 240, 60
PLAIN = Robust(weights="none", soft_labels="none", label_smoothing=0.0, prune="none", reweight=False, co_teaching=False)


class Sky:
    """Examples about stars: gold, and silver of a teacher that takes every second moon for a sun, and says so."""

    def __init__(self, *, wrong: float = 0.5, confidence: float = 0.7) -> None:
        self.vectors, self.truth = clusters(N, spread=1.0)
        generator = np.random.default_rng(0)
        self.wrong = (np.array(self.truth) == "moon") & (generator.random(N) < wrong)
        self.given = ["sun" if bad else label for bad, label in zip(self.wrong, self.truth, strict=True)]
        self.gold = np.arange(N) < GOLD
        self.hashes = [f"h{row}" for row in range(N)]
        scores = [json.dumps({label: confidence}) for label in self.given]
        frame = pl.DataFrame(
            {
                "record_id": self.hashes,
                "content_hash": self.hashes,
                "content": [f"Text {row}" for row in range(N)],
                "label": np.where(self.gold, self.truth, self.given).tolist(),
                "origin": np.where(self.gold, "gold", "silver").tolist(),
                "weight": np.where(self.gold, 1.0, confidence),
                "scores": scores,
            }
        )
        audit = frame.head(GOLD).with_columns(given=pl.Series(self.given[:GOLD]), confidence=pl.lit(confidence))
        self.examples = Examples.of(frame, audit)

    def features(self, frame: pl.DataFrame) -> np.ndarray:
        return self.vectors[[int(name[1:]) for name in frame["content_hash"]]]


@pytest.fixture(scope="module")
def sky() -> Sky:
    return Sky()


def declared(**changes: object) -> Robust:
    return PLAIN.model_copy(update=changes)


EVERYTHING = declared(weights="audit", soft_labels="corrected", label_smoothing=0.2, prune="confident_learning")


def test_nothing_switched_on_leaves_labels_as_they_are(sky: Sky) -> None:
    targets = make_targets(sky.examples, LABELS, PLAIN, features=sky.features)
    assert targets.labels == sky.examples.labels
    assert set(np.unique(targets.probabilities)) == {0.0, 1.0}
    np.testing.assert_array_equal(targets.weights, 1)
    np.testing.assert_array_equal(targets.rows, np.arange(N))
    np.testing.assert_array_equal(targets.gold, sky.gold)


@pytest.mark.parametrize("config", [PLAIN, EVERYTHING, declared(soft_labels="scores")])
def test_rows_are_probabilities_and_gold_is_taken_as_it_is(sky: Sky, config: Robust) -> None:
    targets = make_targets(sky.examples, LABELS, config, features=sky.features)
    np.testing.assert_allclose(targets.probabilities.sum(axis=1), 1)
    np.testing.assert_allclose(targets.beliefs.sum(axis=1), 1)
    assert targets.gold.sum() == GOLD
    people = np.flatnonzero(targets.gold)
    assert [targets.labels[row] for row in people] == sky.truth[:GOLD]
    assert targets.probabilities[people].max(axis=1).min() == 1.0
    np.testing.assert_array_equal(targets.weights[people], 1)
    assert (targets.weights > 0).all()


def test_the_teachers_scores_are_taught_where_it_gives_them(sky: Sky) -> None:
    rows = sky.examples.rows.with_columns(
        scores=pl.when(pl.int_range(pl.len()) == N - 1).then(None).otherwise("scores")
    )
    targets = make_targets(Examples.of(rows, sky.examples.audit), LABELS, declared(soft_labels="scores"))
    silver = targets.probabilities[GOLD:]
    np.testing.assert_allclose(silver[:-1].max(axis=1), 0.7, atol=1e-6)
    assert silver[-1].max() == 1.0
    assert targets.figures["soft_labels"] == N - GOLD - 1


def test_corrections_know_which_label_is_given_too_often(sky: Sky) -> None:
    targets = make_targets(sky.examples, LABELS, declared(soft_labels="corrected"))
    sun, moon, star = (
        targets.probabilities[[row for row in range(GOLD, N) if sky.given[row] == label]].mean(axis=0)
        for label in LABELS
    )
    # A sun is a moon in a third of the cases; stars are never wrong.
    assert sun[1] == pytest.approx(1 / 3, abs=0.12)
    assert moon[1] > 0.85
    assert star[2] > 0.85
    assert targets.figures["audited"] == GOLD


def test_corrections_by_the_texts_find_wrong_labels_and_right_ones_keep_theirs(sky: Sky) -> None:
    targets = make_targets(sky.examples, LABELS, declared(soft_labels="corrected"), features=sky.features)
    right = np.array(targets.labels) == np.array(sky.truth)
    silver = ~sky.gold
    assert right[silver].mean() > (~sky.wrong)[silver].mean() + 0.08
    assert right[silver & ~sky.wrong].mean() > 0.95


def test_no_text_is_corrected_by_a_model_that_saw_its_label() -> None:
    sky = Sky(wrong=0.0)
    # Vectors of noise: what a student says of them is worth nothing, unless it has seen the label.
    sky.vectors = np.random.default_rng(7).normal(size=(N, 400)).astype(np.float32)
    sky.vectors /= np.linalg.norm(sky.vectors, axis=1, keepdims=True)
    with_texts = make_targets(sky.examples, LABELS, declared(soft_labels="corrected"), features=sky.features)
    without = make_targets(sky.examples, LABELS, declared(soft_labels="corrected"))
    np.testing.assert_allclose(with_texts.probabilities, without.probabilities, atol=0.1)


def test_smoothing_spreads_silver_alone(sky: Sky) -> None:
    targets = make_targets(sky.examples, LABELS, declared(label_smoothing=0.3))
    np.testing.assert_allclose(np.sort(targets.probabilities[GOLD:], axis=1), [[0.1, 0.1, 0.8]] * (N - GOLD))


def test_weights_are_confidence_or_what_the_audit_says(sky: Sky) -> None:
    stated = make_targets(sky.examples, LABELS, declared(weights="confidence")).weights[GOLD:]
    np.testing.assert_allclose(stated, 0.7)
    audited = make_targets(sky.examples, LABELS, declared(weights="audit")).weights[GOLD:]
    given = np.array(sky.given[GOLD:])
    assert audited[given == "sun"].mean() < 0.75 < 0.85 < audited[given == "star"].mean()
    assert audited.min() >= LEAST_WEIGHT


def test_pruning_leaves_out_silver_that_is_wrong(sky: Sky) -> None:
    targets = make_targets(sky.examples, LABELS, declared(prune="confident_learning"), features=sky.features)
    left_out = np.setdiff1d(np.arange(N), targets.rows)
    assert targets.figures["pruned"] == len(left_out) > 0
    assert left_out.min() >= GOLD
    assert sky.wrong[left_out].mean() > 0.7


def test_pruning_never_takes_the_last_example_of_a_class() -> None:
    vectors, truth = clusters(90)
    # Every star is called a moon but for one sun that is called a star.
    given = ["moon" if label == "star" else label for label in truth]
    given[0] = "star"
    frame = pl.DataFrame({"record_id": [f"h{row}" for row in range(90)], "label": given}).with_columns(
        content_hash="record_id", content="record_id", origin=pl.lit("silver"), weight=pl.lit(1.0)
    )
    targets = make_targets(
        Examples.of(frame), LABELS, declared(prune="confident_learning"), features=lambda rows: vectors
    )
    assert set(targets.labels) == set(LABELS)


def test_without_silver_there_is_nothing_to_withstand(sky: Sky) -> None:
    gold = Examples.of(sky.examples.rows.head(GOLD), sky.examples.audit)
    targets = make_targets(gold, LABELS, EVERYTHING, features=sky.features)
    assert targets.probabilities.max(axis=1).min() == 1.0
    assert len(targets.rows) == GOLD


def test_without_an_audit_corrections_take_the_teacher_by_its_word(sky: Sky) -> None:
    unaudited = Examples.of(sky.examples.rows)
    targets = make_targets(unaudited, LABELS, declared(soft_labels="corrected"), features=sky.features)
    np.testing.assert_allclose(targets.probabilities[GOLD:].max(axis=1), 0.7, atol=1e-3)


def test_audited_labels_that_the_student_does_not_tell_apart_are_passed_over(sky: Sky) -> None:
    audit = sky.examples.audit.with_columns(label=pl.lit("comet"))
    targets = make_targets(
        Examples.of(sky.examples.rows, audit), LABELS, declared(soft_labels="corrected"), features=sky.features
    )
    assert targets.figures["audited"] == 0


def test_a_label_that_is_no_class_is_an_error(sky: Sky) -> None:
    with pytest.raises(KeyError):
        make_targets(sky.examples, LABELS[:2], PLAIN)


def test_the_same_examples_give_the_same_targets(sky: Sky) -> None:
    one, again = (make_targets(sky.examples, LABELS, EVERYTHING, features=sky.features, seed=1) for _ in range(2))
    np.testing.assert_array_equal(one.probabilities, again.probabilities)
    np.testing.assert_array_equal(one.weights, again.weights)


def test_taking_rows_takes_them_of_everything() -> None:
    gold = np.array([True, False, False])
    targets = hard_targets(["a", "b", "a"], ["a", "b"], np.array([1.0, 0.6, 0.9]), gold)
    np.testing.assert_allclose(targets.beliefs, [[1, 0], [0.4, 0.6], [0.9, 0.1]])
    taken = targets.take(np.array([2, 0]))
    assert taken.labels == ["a", "a"]
    assert taken.rows.tolist() == [2, 0]
    assert taken.gold.tolist() == [False, True]
    np.testing.assert_allclose(taken.weights, [0.9, 1.0])
