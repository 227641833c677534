"""Students learn from gold and from confident silver, never from what is held out; every record is accounted for."""

import json
from datetime import timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from labelled_partitions import ANNOTATOR, LABELS, NOW, change, fill, human_label, make_project, make_store

from annotation_pipelines.quality.trust import MIN_WEIGHT, UNLABELLED, count, decide, publish, trusted
from annotation_pipelines.tasks.base import STATES
from annotation_pipelines.tasks.classification import Classification, ClassificationTask

TASK = ClassificationTask(Classification(labels=list(LABELS)))
WEEK, NEXT_WEEK = "2026-11-09", "2026-11-16"


@pytest.fixture
def store(tmp_path):
    return make_store(tmp_path)


@pytest.fixture
def project(tmp_path):
    return make_project(tmp_path)


def labels_of(store, key=WEEK):
    rows = store.query("SELECT * FROM trusted_labels WHERE partition_key = ? ORDER BY record_id", [key])
    return {row["record_id"].removeprefix(f"{key}/"): row for row in rows.to_dicts()}


def test_silver_labels_enter_with_their_confidence_as_weight(store, project):
    fill(store, WEEK, 3)
    counts = publish(store, project, WEEK, ANNOTATOR, "run 1", NOW)
    assert (counts.records, counts.silver, counts.gold, counts.trusted) == (3, 3, 0, 3)
    row = labels_of(store)["0001"]
    assert (row["label"], row["origin"], row["weight"], row["confidence"]) == ("green", "silver", 0.8, 0.8)
    facts = store.query("SELECT facts, run_id FROM stage_runs WHERE stage = 'trusted_labels'")
    assert json.loads(facts["facts"].item())["silver"] == 3 and facts["run_id"].item() == "run 1"


@pytest.mark.parametrize(
    ("confidence", "weight"), [(None, 1.0), (0.0, MIN_WEIGHT), (0.01, MIN_WEIGHT), (1.0, 1.0), (7, 1)]
)
def test_the_weight_of_silver_stays_in_bounds(store, project, confidence, weight):
    fill(store, WEEK, 1)
    change(store, "UPDATE llm_labels SET confidence = ?", confidence)
    publish(store, project, WEEK, ANNOTATOR)
    assert labels_of(store)["0000"]["weight"] == weight


@pytest.mark.parametrize("role", ["demonstration", "training"])
def test_gold_overrides_silver_and_weighs_one(store, project, role):
    fill(store, WEEK, 3)
    human_label(store, f"{WEEK}/0000", "blue", role)
    counts = publish(store, project, WEEK, ANNOTATOR)
    assert (counts.gold, counts.silver) == (1, 2)
    row = labels_of(store)["0000"]
    assert (row["label"], row["origin"], row["weight"], row["confidence"]) == ("blue", "gold", 1.0, None)


def test_gold_counts_where_the_annotator_was_not_asked(store, project):
    fill(store, WEEK, 1)
    change(store, "DELETE FROM llm_labels")
    human_label(store, f"{WEEK}/0000", "blue", "demonstration")
    assert publish(store, project, WEEK, ANNOTATOR).gold == 1


def test_monitors_measure_and_leave_the_silver_label_alone(store, project):
    fill(store, WEEK, 1)
    human_label(store, f"{WEEK}/0000", "blue", "monitor")
    publish(store, project, WEEK, ANNOTATOR)
    assert labels_of(store)["0000"]["label"] == "red"


def test_evaluation_records_never_enter(store, project):
    fill(store, WEEK, 3)
    human_label(store, f"{WEEK}/0000", "blue", "evaluation")
    human_label(store, f"{WEEK}/0001", "blue", "evaluation", content_hash="hash of an earlier text")
    counts = publish(store, project, WEEK, ANNOTATOR)
    assert counts.evaluation == 2 and set(labels_of(store)) == {"0002"}


def test_a_copy_of_an_evaluation_record_never_enters(store, project):
    fill(store, WEEK, 3)
    human_label(store, "held out", "blue", "evaluation", content_hash=f"hash of {WEEK}/0001")
    assert publish(store, project, WEEK, ANNOTATOR).evaluation == 1
    assert set(labels_of(store)) == {"0000", "0002"}


def test_silver_below_the_declared_confidence_stays_out(store, tmp_path):
    fill(store, WEEK, 3)
    change(store, "UPDATE llm_labels SET confidence = 0.4 WHERE record_id LIKE '%/0001'")
    change(store, "UPDATE llm_labels SET confidence = NULL WHERE record_id LIKE '%/0002'")
    counts = publish(store, make_project(tmp_path, min_confidence=0.5), WEEK, ANNOTATOR)
    assert (counts.silver, counts.below_confidence) == (2, 1)
    assert set(labels_of(store)) == {"0000", "0002"}


def test_what_has_no_label_is_counted_by_why(store, project):
    fill(store, WEEK, 9)
    for number, state in enumerate(["abstained", "invalid", "refused", "failed"]):
        change(store, "UPDATE llm_labels SET state = ?, label = NULL WHERE record_id = ?", state, f"{WEEK}/000{number}")
    change(store, "DELETE FROM llm_labels WHERE record_id >= ?", f"{WEEK}/0004")
    change(store, "UPDATE selected_records SET state = 'waiting' WHERE record_id >= ?", f"{WEEK}/0006")
    assert publish(store, project, WEEK, ANNOTATOR).unlabelled == {
        "abstained": 1, "invalid": 1, "refused": 1, "failed": 1, "over_budget": 0, "submitted": 0, "waiting": 3,
        "not_annotated": 2,
    }  # fmt: skip


def test_a_label_of_an_earlier_content_or_outside_the_set_or_of_somebody_else_is_none(store, project):
    fill(store, WEEK, 4)
    change(store, "UPDATE records SET content_hash = 'new' WHERE record_id LIKE '%/0000'")
    change(store, "UPDATE llm_labels SET label = 'violet' WHERE record_id LIKE '%/0001'")
    change(store, "UPDATE llm_labels SET annotator = 'somebody else' WHERE record_id LIKE '%/0002'")
    counts = publish(store, project, WEEK, ANNOTATOR)
    assert set(labels_of(store)) == {"0003"}
    assert (counts.unlabelled["not_annotated"], counts.unlabelled["invalid"]) == (2, 1)


def test_records_that_are_gone_leave_with_their_labels(store, project):
    fill(store, WEEK, 3)
    fill(store, NEXT_WEEK, 3)
    for key in (WEEK, NEXT_WEEK):
        publish(store, project, key, ANNOTATOR, now=NOW)
    change(store, "UPDATE records SET deleted_at = now() WHERE record_id = ?", f"{WEEK}/0001")
    change(store, "UPDATE records SET partition_key = ? WHERE record_id = ?", NEXT_WEEK, f"{WEEK}/0002")
    assert publish(store, project, NEXT_WEEK, ANNOTATOR, now=NOW + timedelta(days=1)).records == 4
    assert publish(store, project, WEEK, ANNOTATOR, now=NOW + timedelta(days=1)).records == 1
    assert set(labels_of(store)) == {"0000"}
    assert len(labels_of(store, NEXT_WEEK)) == 4


def test_an_empty_partition_has_no_labels(store, project):
    counts = publish(store, project, WEEK, ANNOTATOR)
    assert (counts.records, counts.trusted, sum(counts.unlabelled.values())) == (0, 0, 0)


record = st.fixed_dictionaries(
    {
        "held_out": st.booleans(),
        "gold": st.none() | st.sampled_from([*LABELS, "violet"]),
        "state": st.none() | st.sampled_from(STATES),
        "silver": st.none() | st.sampled_from([*LABELS, "violet"]),
        "confidence": st.none() | st.floats(-1, 2) | st.just(float("nan")),
        "waiting": st.booleans(),
    }
)
TYPES = {
    "record_id": pl.String,
    "content_hash": pl.String,
    "content": pl.String,
    "held_out": pl.Boolean,
    "gold": pl.String,
    "state": pl.String,
    "silver": pl.String,
    "confidence": pl.Float64,
    "waiting": pl.Boolean,
}


@given(st.lists(record, max_size=30), st.floats(0, 1))
def test_every_record_meets_exactly_one_fate_whatever_it_is(records, min_confidence):
    same = {"content_hash": "h", "content": "a text"}
    rows = [{"record_id": str(number), **same, **row} for number, row in enumerate(records)]
    decided = decide(pl.DataFrame(rows, schema=TYPES), task=TASK, min_confidence=min_confidence)
    counts = count(decided)
    assert counts.records == len(records)
    assert (
        counts.gold + counts.silver + counts.below_confidence + counts.evaluation + sum(counts.unlabelled.values())
    ) == len(records)
    assert set(counts.unlabelled) == set(UNLABELLED)
    published = trusted(decided, WEEK, NOW)
    assert published.height == counts.trusted
    assert published["label"].is_in(list(LABELS)).all()
    assert published["weight"].is_between(MIN_WEIGHT, 1).all() and not published["weight"].has_nulls()
    held_out = {row["record_id"] for row in rows if row["held_out"]}
    assert not held_out & set(published["record_id"])
