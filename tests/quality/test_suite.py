"""Great Expectations judges a frame: every generated expectation fails on data that violates it, and only there."""

import polars as pl
import pytest
from labelled_partitions import ANNOTATOR, NOW, declare

from annotation_pipelines.errors import DeclarationError
from annotation_pipelines.quality.expectations import COLUMNS, SELECTED_COUNT, check_names, expectations_for
from annotation_pipelines.quality.suite import run_suite

TYPES = {
    **dict.fromkeys(COLUMNS, pl.String),
    "confidence": pl.Float64,
    "score": pl.Float64,
    "label_shift": pl.Float64,
    "label_problem": pl.String,
    "rationale": pl.String,
    "rationale_problem": pl.String,
    "reused": pl.Boolean,
    "event_time": pl.Datetime("us", "UTC"),
}


def sound_frame(rows=20):
    """Rows that meet everything, with an abstention and a missing confidence among them."""
    frame = pl.DataFrame(
        {
            "record_id": [f"r{number}" for number in range(rows)],
            "content_hash": ["h"] * rows,
            "text": ["A text."] * rows,
            "state": ["labelled"] * rows,
            "outcome": ["labelled"] * rows,
            "label": ["red", "green"] * (rows // 2) + ["blue"] * (rows % 2),
            "confidence": [0.0, 1.0] * (rows // 2) + [0.5] * (rows % 2),
            "problem": [None] * rows,
            "reused": [False] * rows,
            "annotator": [ANNOTATOR] * rows,
            "strategy": ["all"] * rows,
            "score": [None] * rows,
            "event_time": [NOW] * rows,
            "gold": [None] * rows,
            "upstream": ["current"] * rows,
            "accounted_for": ["once"] * rows,
            "label_shift": [0.0] * rows,
            "label_problem": [None] * rows,
            "rationale": [None] * rows,
            "rationale_problem": [None] * rows,
        },
        schema=TYPES,
    )
    if rows < 2:
        return frame
    return put(put(frame, 1, state="abstained", outcome="abstained", label=None), 0, confidence=None)


def put(frame, row, **values):
    """The frame with other values in one row."""
    here = pl.int_range(pl.len()) == row
    return frame.with_columns(
        **{name: pl.when(here).then(pl.lit(value, TYPES[name])).otherwise(name) for name, value in values.items()}
    )


def judge(frame, *, selected=None, **quality):
    """Check name to outcome."""
    expectations = expectations_for(declare(**quality))
    run = run_suite(
        frame,
        expectations,
        parameters={SELECTED_COUNT: frame.height if selected is None else selected},
        project_name="colours",
        partition_key="2026-11-20",
        run_time=NOW,
    )
    return dict(zip([e.check_name for e in expectations], run.outcomes, strict=True))


def failed(outcomes):
    return {name for name, outcome in outcomes.items() if not outcome.passed}


VIOLATIONS = {
    "one_row_per_selected_record": lambda f: f.head(19),
    "selected_records_accounted_for": lambda f: put(f, 3, accounted_for="not_selected"),
    "record_id_unique": lambda f: put(f, 3, record_id="r4"),
    "record_id_present": lambda f: put(f, 3, record_id=None),
    "content_hash_present": lambda f: put(f, 3, content_hash=None),
    "record_upstream": lambda f: put(f, 3, upstream="changed"),
    "text_not_empty": lambda f: put(f, 3, text=" \n"),
    "state_present": lambda f: put(f, 3, state=None),
    "state_known": lambda f: put(f, 3, state="lost"),
    "label_present": lambda f: put(f, 3, label=None),
    "label_in_set": lambda f: put(f, 3, label="violet"),
    "confidence_in_range": lambda f: put(f, 3, confidence=1.01),
    "share_labelled": lambda f: put(put(f, 3, outcome="missing"), 4, outcome="failed"),
    "label_distribution_stable": lambda f: f.with_columns(label_shift=0.31),
}


def test_there_is_a_violation_for_every_generated_expectation():
    assert set(VIOLATIONS) == set(check_names(declare()))


def test_sound_data_meets_every_expectation():
    outcomes = judge(sound_frame())
    assert not failed(outcomes)
    assert not [name for name, outcome in outcomes.items() if outcome.problem]


@pytest.mark.parametrize("name", VIOLATIONS)
def test_every_expectation_fails_on_data_that_violates_it_and_no_other_does(name):
    assert failed(judge(VIOLATIONS[name](sound_frame()), selected=20)) == {name}


def test_a_label_of_a_record_that_is_not_labelled_is_not_looked_at():
    frame = put(sound_frame(), 3, state="refused", label="violet")
    assert not failed(judge(frame, min_labelled=0))


def test_an_outcome_counts_the_rows_and_names_ten_records():
    frame = sound_frame(100).with_columns(
        label=pl.when(pl.int_range(pl.len()) >= 50).then(pl.lit("violet")).otherwise("label")
    )
    outcome = judge(frame)["label_in_set"]
    assert (outcome.element_count, outcome.unexpected_count) == (99, 50)
    assert outcome.examples == tuple(f"r{number}" for number in range(50, 60))
    assert outcome.in_words() == "50 of 99 do not meet it: 'violet'"


@pytest.mark.parametrize("rows", [0, 1])
def test_no_rows_violate_nothing(rows):
    declared = [
        {"expect_column_mean_to_be_between": {"column": "score", "min_value": 1}},
        {"expect_column_quantile_values_to_be_between": {
            "column": "confidence", "quantile_ranges": {"quantiles": [0.5], "value_ranges": [[0, 1]]}}},
    ]  # fmt: skip
    outcomes = judge(sound_frame(rows), expectations=declared if rows == 0 else [])
    assert not failed(outcomes)


def test_declared_expectations_are_judged_like_the_others():
    declared = [
        {"expect_column_mean_to_be_between": {"column": "confidence", "min_value": 0.9}},
        {"expect_column_values_to_match_regex": {"column": "text", "regex": "^A"}},
        {"expect_column_quantile_values_to_be_between": {
            "column": "confidence", "quantile_ranges": {"quantiles": [0.5], "value_ranges": [[0.9, 1]]}}},
    ]  # fmt: skip
    outcomes = judge(sound_frame(), expectations=declared)
    assert failed(outcomes) == {
        "expect_column_mean_to_be_between_confidence",
        "expect_column_quantile_values_to_be_between_confidence",
    }
    assert isinstance(outcomes["expect_column_mean_to_be_between_confidence"].observed, float)


def test_a_declared_expectation_that_does_not_fit_the_values_fails_and_says_why():
    outcomes = judge(
        sound_frame(), expectations=[{"expect_column_values_to_be_between": {"column": "text", "max_value": 4}}]
    )
    assert failed(outcomes) == {"expect_column_values_to_be_between_text"}
    assert outcomes["expect_column_values_to_be_between_text"].in_words().startswith("could not be evaluated: ")


def test_arguments_that_only_great_expectations_can_judge_are_refused_by_name():
    entry = {"expect_column_values_to_not_be_null": {"column": "text", "mostly": 7}}
    with pytest.raises(
        DeclarationError, match=r"colours: quality.expectations: expect_column_values_to_not_be_null.*mostly"
    ):
        judge(sound_frame(), expectations=[entry])


def test_one_partition_after_another_is_judged_by_its_own_rows():
    assert failed(judge(put(sound_frame(), 3, label="violet"))) == {"label_in_set"}
    assert not failed(judge(sound_frame()))
    assert judge(sound_frame(40))["record_id_unique"].element_count == 40
