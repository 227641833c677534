"""Evaluation: teacher beside student on the same gold; the better student is champion."""

from __future__ import annotations

import json

import polars as pl
import pytest

from annotation_pipelines.distillation.evaluate import TEACHER, evaluate
from annotation_pipelines.distillation.registry import ModelRegistry
from annotation_pipelines.distillation.training import train
from annotation_pipelines.store.vectors import as_frame
from tests.distillation.stars import LABELS, NOW, Stars

SCATTERED = 10.0
"""A spread of the vectors at which a student knows by heart what it was trained on, and little else."""


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
    rows, truth = stars.add(60, seed=stars.known)
    stars.trust(rows, wrong(truth, labels_wrong), weight=1.0)
    return train(stars.store, stars.project, stars.embedder).version


def champion_that_learned(stars: Stars, *, spread: float) -> tuple[str, pl.DataFrame, list[str]]:
    """A champion, the 60 records it was trained on, and their labels."""
    rows, truth = stars.add(60, spread=spread)
    stars.trust(rows, truth)
    train(stars.store, stars.project, stars.embedder)
    version = evaluate(stars.store, stars.project, stars.embedder).champion
    assert version is not None
    return version, rows, truth


def replace_labels(stars: Stars, spread: float) -> str:
    """A candidate that was trained on none of the labels before."""
    with stars.store.transaction() as con:
        con.execute("DELETE FROM trusted_labels")
    rows, truth = stars.add(60, seed=stars.known, spread=spread)
    stars.trust(rows, truth)
    return train(stars.store, stars.project, stars.embedder).version


def status(stars: Stars, version: str) -> str:
    return ModelRegistry(stars.store).get(version).status


def test_the_first_candidate_becomes_champion(trained: Stars) -> None:
    evaluation = evaluate(trained.store, trained.project, trained.embedder)
    assert evaluation.champion == evaluation.version
    assert "is the first" in evaluation.decision
    assert evaluation.records == 90
    # There were no gold labels to train on.
    assert evaluation.cost.baseline == "constant"
    assert evaluation.value("constant", "accuracy") == pytest.approx(1 / 3)
    assert evaluation.cost.usd_per_point == 0


def test_student_and_teacher_are_measured_on_the_same_gold(trained: Stars) -> None:
    evaluation = evaluate(trained.store, trained.project, trained.embedder, run_id="run")
    assert evaluation.value(TEACHER, "accuracy") == pytest.approx(0.8)
    assert (evaluation.value(evaluation.version, "accuracy") or 0) > 0.9
    assert evaluation.against_teacher is not None
    assert evaluation.against_teacher.records == 90
    assert evaluation.student_holds
    assert evaluation.verdict.startswith("student less teacher on 90 held-out records: +")
    rows = trained.store.query("SELECT * FROM model_evaluation WHERE slice = '' AND metric IN ('accuracy', 'f1')")
    assert set(rows["model_version"]) == {evaluation.version, TEACHER, "constant"}
    assert (rows["lower"] <= rows["value"]).all()
    for version in (evaluation.version, TEACHER):
        own = rows.filter((pl.col("model_version") == version) & (pl.col("metric") == "f1"))
        assert set(own["label"]) == set(LABELS)
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
    assert measured == {before, better, TEACHER, "constant"}
    assert trained.store.query("SELECT parent FROM models WHERE status = 'champion'")["parent"][0] == before


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


def test_a_champion_is_not_measured_on_what_it_was_trained_on(stars: Stars) -> None:
    champion, rows, truth = champion_that_learned(stars, spread=0.6)
    stars.hold_out(rows[:10], truth[:10])
    unseen, unseen_truth = stars.add(30, seed=9)
    stars.hold_out(unseen, unseen_truth)
    stars.teach(pl.concat([rows[:10], unseen]), [*truth[:10], *unseen_truth])
    evaluation = evaluate(stars.store, stars.project, stars.embedder)
    assert (evaluation.version, evaluation.records, evaluation.left_out) == (champion, 30, 10)
    measured = dict(
        stars.store.query(
            "SELECT model_version, records FROM model_evaluation WHERE metric = 'accuracy' AND split = 'evaluation'"
        ).iter_rows()
    )
    assert measured == {champion: 30, TEACHER: 40}
    assert evaluation.against_teacher is not None
    assert evaluation.against_teacher.records == 30


def test_what_the_champion_learned_by_heart_does_not_reject_a_candidate(stars: Stars) -> None:
    champion, rows, truth = champion_that_learned(stars, spread=SCATTERED)
    stars.hold_out(rows, truth)
    unseen, unseen_truth = stars.add(30, seed=9, spread=SCATTERED)
    stars.hold_out(unseen, unseen_truth)
    replace_labels(stars, spread=SCATTERED)
    evaluation = evaluate(stars.store, stars.project, stars.embedder)
    assert evaluation.against_champion is not None
    assert evaluation.against_champion.records == 30
    assert not evaluation.against_champion.worse
    assert f"against {champion} on 30 records (60 more left out: one of the two was trained on them)" in (
        evaluation.decision
    )
    assert (evaluation.records, evaluation.left_out) == (90, 60)


@pytest.mark.parametrize("same", ["record", "text"])
def test_neither_the_record_nor_the_text_that_a_champion_learned_measures_it(stars: Stars, same: str) -> None:
    champion, rows, truth = champion_that_learned(stars, spread=0.6)
    vectors, _ = stars.embedder.cache.lookup(rows["content_hash"].to_list())
    if same == "record":
        gold = rows.with_columns(content_hash="later " + pl.col("content_hash"), content="Later " + pl.col("content"))
        stars.embedder.cache.write("later", as_frame(gold["content_hash"], vectors))
    else:
        gold = rows.with_columns(record_id="held out " + pl.col("record_id"))
    stars.hold_out(gold, truth)
    evaluation = evaluate(stars.store, stars.project, stars.embedder)
    assert (evaluation.records, evaluation.left_out) == (0, 60)
    assert evaluation.value(champion, "accuracy") is None


def test_where_every_gold_record_was_trained_on_the_candidate_is_promoted_with_a_note(stars: Stars) -> None:
    champion, rows, truth = champion_that_learned(stars, spread=SCATTERED)
    stars.hold_out(rows, truth)
    candidate = replace_labels(stars, spread=SCATTERED)
    evaluation = evaluate(stars.store, stars.project, stars.embedder)
    assert evaluation.champion == candidate
    assert evaluation.against_champion is None
    assert evaluation.decision == (
        f"{candidate} is promoted without comparison: it or {champion} was trained on every one of the 60 gold records"
    )
    assert TEACHER not in set(evaluation.metrics["model_version"])


def test_gold_that_the_candidate_itself_was_trained_on_is_left_out_too(trained: Stars) -> None:
    champion = evaluate(trained.store, trained.project, trained.embedder).champion
    retrain(trained, 0.0)
    learned = trained.store.query("SELECT * FROM records WHERE record_id = 'r0' OR record_id = 'r155'")
    trained.hold_out(learned, ["sun", "sun"])
    evaluation = evaluate(trained.store, trained.project, trained.embedder)
    assert (evaluation.records, evaluation.left_out) == (90, 2)
    assert f"against {champion} on 90 records (2 more left out" in evaluation.decision


def test_gold_that_nearly_reads_like_what_a_champion_learned_does_not_measure_it(stars: Stars) -> None:
    champion, rows, truth = champion_that_learned(stars, spread=0.6)
    near = rows[:10].with_columns(
        record_id="near " + pl.col("record_id"),
        content_hash="near " + pl.col("content_hash"),
        content=pl.col("content") + "!",
    )
    vectors, _ = stars.embedder.cache.lookup(rows["content_hash"][:10].to_list())
    stars.embedder.cache.write("near", as_frame(near["content_hash"], vectors))
    stars.hold_out(near, truth[:10])
    unseen, unseen_truth = stars.add(20, seed=9)
    stars.hold_out(unseen, unseen_truth)
    evaluation = evaluate(stars.store, stars.project, stars.embedder)
    assert (evaluation.version, evaluation.records, evaluation.left_out) == (champion, 20, 10)


def row(stars: Stars, model: str | None, metric: str, slice_name: str = "") -> dict[str, object]:
    rows = stars.store.query(
        "SELECT * FROM model_evaluation WHERE model_version = ? AND metric = ? AND slice = ? AND label = ''",
        [model, metric, slice_name],
    )
    return rows.row(0, named=True) if len(rows) else {}


def test_where_the_teacher_is_wrong_the_student_is_looked_at_apart(trained: Stars) -> None:
    evaluation = evaluate(trained.store, trained.project, trained.embedder)
    wrongly = row(trained, evaluation.version, "accuracy", "teacher: wrong")
    assert (wrongly["records"], row(trained, TEACHER, "accuracy", "teacher: wrong")["value"]) == (18, 0)
    apart = row(trained, evaluation.version, "accuracy_less_teacher", "teacher: wrong")
    assert apart["value"] == wrongly["value"]
    assert row(trained, evaluation.version, "accuracy", "teacher: right")["records"] == 72


def test_calibration_is_measured_and_its_bins_hold_every_record(trained: Stars) -> None:
    with trained.store.transaction() as con:
        con.execute("UPDATE llm_labels SET confidence = 0.95 WHERE partition_key = 'held_out'")
    evaluation = evaluate(trained.store, trained.project, trained.embedder)
    bins = evaluation.reliability
    assert bins["n"].sum() == 90
    gaps = ((bins["mean_confidence"] - bins["accuracy"]).abs() * bins["n"]).sum() / 90
    assert evaluation.facts()["student_ece"] == pytest.approx(gaps)
    assert row(trained, TEACHER, "ece")["value"] == pytest.approx(0.15)
    brier = (72 * 0.05**2 + 18 * 0.95**2) / 90
    assert row(trained, TEACHER, "brier")["value"] == pytest.approx(brier)


def test_a_new_student_has_a_learning_curve_that_stays_when_it_is_measured_again(stars: Stars) -> None:
    rows, truth = stars.add(160)
    stars.trust(rows, truth)
    train(stars.store, stars.project, stars.embedder)
    held_out, held_out_truth = stars.add(60, seed=7)
    stars.hold_out(held_out, held_out_truth)
    first = evaluate(stars.store, stars.project, stars.embedder).curve
    assert first["labels"].to_list() == [40, 80]
    assert (first["value"] > 0.5).all()
    assert evaluate(stars.store, stars.project, stars.embedder).curve.equals(first)


def test_the_cost_is_held_against_what_gold_alone_would_give(stars: Stars) -> None:
    rows, truth = stars.add(90)
    stars.trust(rows[:84], truth[:84])
    stars.trust(rows[84:], wrong(truth[84:], 1.0), origin="gold", weight=1.0)
    train(stars.store, stars.project, stars.embedder)
    held_out, held_out_truth = stars.add(60, seed=7)
    stars.hold_out(held_out, held_out_truth)
    call = {"call_id": "c", "request_key": "k", "record_id": "r", "content_hash": "h", "annotator": "a"}
    with stars.store.transaction() as con:
        paid = pl.DataFrame({**call, "status": "ok", "cost_usd": 3.0}).with_columns(called_at=pl.lit(NOW))
        stars.store.append(con, "llm_calls", paid)
    evaluation = evaluate(stars.store, stars.project, stars.embedder)
    cost = evaluation.cost
    assert (cost.usd, cost.baseline) == (3.0, "gold alone")
    assert cost.gain is not None and cost.gain.value > 0.5
    assert cost.usd_per_point == pytest.approx(3.0 / (100 * cost.gain.value))
    again = evaluate(stars.store, stars.project, stars.embedder)
    assert again.cost == cost


def test_a_rejected_candidate_leaves_the_champions_figures_and_says_why_in_its_card(trained: Stars) -> None:
    champion = evaluate(trained.store, trained.project, trained.embedder).champion
    before = row(trained, champion, "accuracy_gain_over_constant")
    worse = retrain(trained, 1.0)
    evaluate(trained.store, trained.project, trained.embedder)
    after = row(trained, champion, "accuracy_gain_over_constant")
    assert before and {**after, "evaluated_at": None} == {**before, "evaluated_at": None}
    assert row(trained, champion, "accuracy", "teacher: wrong")
    rejected = ModelRegistry(trained.store).get(worse)
    assert rejected.decided_at is not None
    assert rejected.why.startswith("rejected: -") and f"against {champion} on 90 records" in rejected.why
    card = (trained.store.home / "models" / worse / "card.md").read_text()
    for part in ("**rejected**", rejected.history[0], "accuracy", "teacher: wrong", "gold records"):
        assert part in card
    assert "none" not in (trained.store.home / "models" / str(champion) / "card.md").read_text().split("## Limits")[1]
