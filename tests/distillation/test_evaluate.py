"""Evaluation: teacher beside student on the same gold; the better student is champion."""

from __future__ import annotations

import json

import pytest

from annotation_pipelines.distillation.evaluate import TEACHER, evaluate
from annotation_pipelines.distillation.registry import ModelRegistry
from annotation_pipelines.distillation.training import train
from tests.distillation.stars import LABELS, Stars


def wrong(labels: list[str], share: float) -> list[str]:
    """The labels, the first share of them wrong."""
    turned = {label: LABELS[(index + 1) % len(LABELS)] for index, label in enumerate(LABELS)}
    return [turned[label] if i < share * len(labels) else label for i, label in enumerate(labels)]


@pytest.fixture
def trained(stars: Stars) -> Stars:
    """A candidate, and 90 held-out records."""
    rows, truth = stars.add(60)
    stars.trust(rows, truth)
    train(stars.store, stars.project, stars.embedder)
    held_out, held_out_truth = stars.add(90, partition="held_out", seed=7)
    stars.hold_out(held_out, held_out_truth)
    stars.teach(held_out, wrong(held_out_truth, 0.2))
    return stars


def retrain(stars: Stars, labels_wrong: float) -> str:
    """Another candidate, on labels of which a share is wrong."""
    rows, truth = stars.add(300, seed=stars.known)
    stars.trust(rows, wrong(truth, labels_wrong), weight=1.0)
    return train(stars.store, stars.project, stars.embedder).version


def status(stars: Stars, version: str) -> str:
    return ModelRegistry(stars.store).get(version).status


def test_the_first_candidate_becomes_champion(trained: Stars) -> None:
    evaluation = evaluate(trained.store, trained.project, trained.embedder)
    assert evaluation.champion == evaluation.version
    assert "is the first" in evaluation.decision
    assert evaluation.records == 90


def test_student_and_teacher_are_measured_on_the_same_gold(trained: Stars) -> None:
    evaluation = evaluate(trained.store, trained.project, trained.embedder, run_id="run")
    assert evaluation.value(TEACHER, "accuracy") == pytest.approx(0.8)
    assert (evaluation.value(evaluation.version, "accuracy") or 0) > 0.9
    assert evaluation.against_teacher is not None
    assert evaluation.against_teacher.records == 90
    assert evaluation.student_holds
    assert evaluation.verdict.startswith("student less teacher on 90 held-out records: +")
    rows = trained.store.query("SELECT * FROM model_evaluation")
    assert set(rows["model_version"]) == {evaluation.version, TEACHER}
    assert rows.height == 2 * (3 + len(LABELS))
    assert (rows["lower"] <= rows["value"]).all()
    facts = trained.store.query("SELECT facts FROM stage_runs WHERE stage = 'model_evaluation'")["facts"][0]
    assert json.loads(facts)["teacher_accuracy"] == pytest.approx(0.8)


def test_a_worse_candidate_is_rejected_and_not_offered_again(trained: Stars) -> None:
    champion = evaluate(trained.store, trained.project, trained.embedder).champion
    worse = retrain(trained, 1.0)
    evaluation = evaluate(trained.store, trained.project, trained.embedder)
    assert evaluation.champion == champion
    assert status(trained, worse) == "rejected"
    assert "is rejected" in evaluation.decision
    assert not evaluation.student_holds
    assert train(trained.store, trained.project, trained.embedder).status == "rejected"
    again = evaluate(trained.store, trained.project, trained.embedder)
    assert (again.version, again.champion) == (champion, champion)
    assert again.decision == "no new model; the champion stays"


def test_a_candidate_that_is_not_worse_takes_over(trained: Stars) -> None:
    before = evaluate(trained.store, trained.project, trained.embedder).champion
    better = retrain(trained, 0.0)
    evaluation = evaluate(trained.store, trained.project, trained.embedder)
    assert evaluation.champion == better
    assert before is not None and status(trained, before) == "retired"
    assert evaluation.against_champion is not None
    measured = set(trained.store.query("SELECT model_version FROM model_evaluation")["model_version"])
    assert measured == {before, better, TEACHER}


def test_without_gold_a_candidate_is_promoted_with_a_note(stars: Stars) -> None:
    rows, truth = stars.add(60)
    stars.trust(rows, truth)
    train(stars.store, stars.project, stars.embedder)
    first = evaluate(stars.store, stars.project, stars.embedder)
    assert "without gold" in first.decision
    second = retrain(stars, 0.5)
    evaluation = evaluate(stars.store, stars.project, stars.embedder)
    assert evaluation.champion == second
    assert "no gold" in evaluation.decision
    assert evaluation.metrics.is_empty()
    assert evaluation.student_holds


def test_a_champion_whose_files_are_lost_is_replaced(trained: Stars, caplog: pytest.LogCaptureFixture) -> None:
    champion = evaluate(trained.store, trained.project, trained.embedder).champion
    assert champion is not None
    (trained.store.home / "models" / champion / "card.json").unlink()
    candidate = retrain(trained, 0.0)
    evaluation = evaluate(trained.store, trained.project, trained.embedder)
    assert evaluation.champion == candidate
    assert "cannot be used any more" in evaluation.decision
    assert "cannot be used any more" in caplog.text


def test_without_a_model_the_teacher_is_measured_alone(stars: Stars) -> None:
    held_out, truth = stars.add(10, partition="held_out")
    stars.hold_out(held_out, truth)
    stars.teach(held_out, truth)
    evaluation = evaluate(stars.store, stars.project, stars.embedder)
    assert (evaluation.version, evaluation.champion) == (None, None)
    assert evaluation.value(TEACHER, "accuracy") == 1
    assert evaluation.verdict == "there is no student yet"


def test_a_record_that_the_teacher_gave_no_label_counts_as_wrong(stars: Stars) -> None:
    held_out, truth = stars.add(10, partition="held_out")
    stars.hold_out(held_out, truth)
    stars.teach(held_out, [None, *truth[1:]])
    with stars.store.transaction() as con:
        con.execute("UPDATE llm_labels SET state = 'failed', label = NULL WHERE record_id = 'r9'")
    evaluation = evaluate(stars.store, stars.project, stars.embedder)
    assert evaluation.value(TEACHER, "accuracy") == pytest.approx(8 / 9)


def test_the_teacher_is_measured_on_the_stream_too(stars: Stars) -> None:
    rows, truth = stars.add(20)
    stars.hold_out(rows, truth, role="monitor")
    stars.teach(rows, wrong(truth, 0.5), partition="all")
    evaluation = evaluate(stars.store, stars.project, stars.embedder)
    assert evaluation.value(TEACHER, "accuracy", "monitor") == pytest.approx(0.5)
    assert evaluation.value(TEACHER, "accuracy", "evaluation") is None


def test_gold_for_another_content_measures_nothing(stars: Stars) -> None:
    rows, truth = stars.add(10)
    stars.hold_out(rows, truth)
    stars.teach(rows, truth)
    with stars.store.transaction() as con:
        con.execute("UPDATE llm_labels SET content_hash = 'earlier'")
    assert evaluate(stars.store, stars.project, stars.embedder).metrics.is_empty()
