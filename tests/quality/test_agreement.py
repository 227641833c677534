"""Agreement with people: intervals, confusion, calibration, distribution, and the teacher."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from labelled_partitions import ANNOTATOR, LABELS, change, fill, human_label, make_store

from annotation_pipelines.quality.agreement import (
    accuracy,
    calibration,
    confusion,
    label_distribution,
    teacher_accuracy,
    wilson,
)
from annotation_pipelines.store.schema import HELD_OUT

WEEK, NEXT_WEEK = "2026-11-09", "2026-11-16"
labels = st.none() | st.sampled_from(LABELS)
pairs = st.lists(st.tuples(labels, labels), max_size=40)


def series(values):
    return pl.Series(list(values), dtype=pl.String)


@pytest.mark.parametrize(
    ("correct", "records", "lower", "upper"),
    [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0), (263, 300, 0.8347, 0.9094)],
)
def test_the_interval_is_that_of_wilson(correct, records, lower, upper):
    found = wilson(correct, records)
    assert (found.lower, found.upper) == (pytest.approx(lower, abs=1e-3), pytest.approx(upper, abs=1e-3))


@given(st.integers(0, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_an_interval_holds_its_value_and_stays_between_0_and_1(case):
    found = wilson(*case)
    if case[1]:
        assert 0 <= found.lower <= found.value <= found.upper <= 1
    else:
        assert found.value is found.lower is found.upper is None


def test_more_correct_ones_than_records_are_refused():
    with pytest.raises(ValueError, match="3 of 2"):
        wilson(3, 2)


def test_accuracy_leaves_out_what_has_no_label():
    found = accuracy(series(["red", "red", None, "blue"]), series(["red", "blue", "red", None]))
    assert (found.correct, found.records, found.value) == (1, 2, 0.5)


def test_a_confusion_matrix_has_every_pair_in_order():
    table = confusion(series(["red", "red", "red", "green"]), series(["red", "red", "blue", "violet"]), LABELS)
    assert table["gold"].unique(maintain_order=True).to_list() == [*LABELS, "violet"]
    cells = {(gold, label): (n, share) for gold, label, n, share in table.iter_rows()}
    assert len(cells) == 16
    assert cells["red", "red"] == (2, pytest.approx(2 / 3))
    assert cells["red", "green"] == (0, 0.0)
    assert cells["green", "violet"] == (1, 1.0)
    assert cells["blue", "red"] == (0, None)


@given(pairs)
def test_confusion_and_accuracy_count_the_same_records(found):
    gold, label = series(g for g, _ in found), series(s for _, s in found)
    table, share = confusion(gold, label, LABELS), accuracy(gold, label)
    assert table["records"].sum() == share.records
    assert table.filter(pl.col("gold") == pl.col("label"))["records"].sum() == share.correct


def test_a_distribution_names_every_label():
    table = label_distribution(series(["red", "red", None, "violet", "blue"]), LABELS)
    assert table.rows() == [("red", 2, 0.5), ("green", 0, 0.0), ("blue", 1, 0.25), ("violet", 1, 0.25)]
    assert label_distribution(series([]), LABELS)["share"].null_count() == 3


def test_confidence_that_means_what_it_says_has_no_calibration_error():
    confidence = [0.75] * 4 + [0.25] * 4
    found = calibration(pl.Series(confidence), pl.Series([True, True, True, False, True, False, False, False]))
    assert found.error == pytest.approx(0)
    assert found.bins["n"].to_list() == [0, 0, 4, 0, 0, 0, 0, 4, 0, 0]


def test_calibration_bins_hold_mean_confidence_and_accuracy():
    found = calibration(pl.Series([0.9, 1.0, 0.3, None, float("nan")]), pl.Series([True, False, False, True, True]))
    assert found.bins.columns == ["lower", "upper", "n", "mean_confidence", "accuracy"]
    assert found.bins.filter(pl.col("n") > 0).rows() == [
        (0.3, 0.4, 1, 0.3, 0.0),
        (0.9, 1.0, 2, pytest.approx(0.95), 0.5),
    ]
    assert found.error == pytest.approx((2 * 0.45 + 0.3) / 3)


def test_without_confidences_there_is_no_calibration_error():
    found = calibration(pl.Series([None, None], dtype=pl.Float64), pl.Series([True, False]))
    assert found.error is None and found.bins.height == 10


@pytest.fixture
def store(tmp_path):
    return make_store(tmp_path)


def test_the_teacher_is_measured_on_gold_that_it_has_not_seen(store):
    fill(store, WEEK, 6)  # red, green, blue, red, green, blue
    fill(store, HELD_OUT, 2)
    human_label(store, f"{WEEK}/0000", "red", "monitor")
    human_label(store, f"{WEEK}/0001", "red", "evaluation")
    human_label(store, f"{WEEK}/0002", "red", "demonstration")
    human_label(store, f"{WEEK}/0003", "red", "training")
    human_label(store, f"{WEEK}/0004", "green", "monitor", content_hash="hash of an earlier text")
    human_label(store, f"{WEEK}/0005", "blue", "monitor")
    change(store, "UPDATE llm_labels SET state = 'abstained', label = NULL WHERE record_id = ?", f"{WEEK}/0005")
    human_label(store, f"{HELD_OUT}/0000", "red", "evaluation")
    found = teacher_accuracy(store)
    assert (found.asked, found.records, found.overall.correct) == (4, 3, 2)
    assert found.value == pytest.approx(2 / 3)
    assert found.partitions.select("partition_key", "asked", "records", "correct", "accuracy").rows() == [
        (WEEK, 3, 2, 1, 0.5),
        (HELD_OUT, 1, 1, 1, 1.0),
    ]
    assert found.pairs["confidence"].to_list() == [0.8] * 3
    of_week = teacher_accuracy(store, WEEK)
    assert (of_week.asked, of_week.records, of_week.value) == (3, 2, 0.5)
    assert teacher_accuracy(store, WEEK, annotator_name=ANNOTATOR).records == 2
    assert teacher_accuracy(store, WEEK, annotator_name="somebody else").records == 0


def test_without_gold_there_is_no_accuracy(store):
    fill(store, WEEK, 3)
    found = teacher_accuracy(store, WEEK)
    assert (found.value, found.records, found.partitions.height) == (None, 0, 0)
