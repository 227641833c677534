"""From rows to records: what becomes of every row."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotation_pipelines.errors import SourceError
from annotation_pipelines.partitions import Calendar
from annotation_pipelines.project import Partitions, RecordColumns
from annotation_pipelines.sources.records import Records, content_hashes, to_records
from annotation_pipelines.tasks.classification import Classification, ClassificationTask
from tests.sources.shop import COLUMNS, Row

TASK = ClassificationTask(Classification(labels=["good", "bad"]))
SOURCE = RecordColumns(id="id", text="{text}", time="at", gold="tag")
DAYS = Calendar(Partitions.model_validate({"every": "day", "start": "2020-03-02", "end": "2020-03-09"}))
ALL = Calendar(Partitions())


def records(*rows: Row, source: RecordColumns = SOURCE, calendar: Calendar = DAYS) -> Records:
    frame = pl.DataFrame(rows, schema=dict.fromkeys(COLUMNS, pl.String()), orient="row")
    return to_records(frame, source, TASK, calendar)


def rejected(found: Records) -> list[tuple[str, str | None, str]]:
    return found.rejected.select("partition_key", "record_id", "reason").rows()


def test_a_row_becomes_a_record() -> None:
    found = records(("7", " a text ", "2020-03-02T05:00Z", "good"))
    assert found.records.to_dicts() == [
        {
            "record_id": "7",
            "content_hash": content_hashes(pl.Series(["a text"])).item(),
            "content": "a text",
            "attributes": None,
            "event_time": datetime(2020, 3, 2, 5, tzinfo=UTC),
            "partition_key": "2020-03-02",
            "gold": "good",
            "synthetic": None,
        }
    ]
    assert rejected(found) == []


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ((None, "a", "2020-03-02", None), ("2020-03-02", None, "no_id")),
        (("  ", "a", None, None), ("", None, "no_id")),
        (("1", " \n", "2020-03-02", None), ("2020-03-02", "1", "empty_content")),
        (("1", None, None, None), ("", "1", "empty_content")),
        (("1", "a", None, None), ("", "1", "no_time")),
        (("1", "a", "yesterday", None), ("", "1", "no_time")),
        (("1", "a", "2020-03-01", None), ("", "1", "outside_partitions")),
        (("1", "a", "2020-03-09", None), ("", "1", "outside_partitions")),
    ],
)
def test_a_row_that_is_no_record_is_rejected_with_the_first_reason(row: Row, expected: tuple[str, ...]) -> None:
    found = records(row)
    assert found.records.is_empty()
    assert rejected(found) == [expected]
    assert json.loads(found.rejected["row"].item()) == dict(zip(COLUMNS, row, strict=True))


def test_an_unknown_label_is_dropped_and_noted_but_the_record_stays() -> None:
    found = records(("1", "a", "2020-03-02", "Good"), ("2", "b", "2020-03-02", " good "), ("3", "c", "2020-03-02", " "))
    assert found.records["gold"].to_list() == [None, "good", None]
    assert rejected(found) == [("2020-03-02", "1", "unknown_label")]
    assert found.dropped.is_empty()


def test_of_one_id_the_newest_wins_and_the_others_are_noted() -> None:
    found = records(
        ("1", "old", "2020-03-02", None),
        ("1", "new", "2020-03-04", None),
        ("1", "between", "2020-03-03", "nonsense"),
    )
    assert found.records["content"].to_list() == ["new"]
    assert rejected(found) == [("2020-03-02", "1", "duplicate_id"), ("2020-03-03", "1", "duplicate_id")]


def test_of_equal_times_or_none_the_last_in_the_source_wins() -> None:
    equal = records(("1", "a", "2020-03-02", None), ("1", "b", "2020-03-02", None))
    assert equal.records["content"].to_list() == ["b"]
    timeless = records(("1", "a", None, None), ("1", "b", None, None), calendar=ALL)
    assert timeless.records["content"].to_list() == ["b"]
    one_timed = records(("1", "a", "2020-03-02", None), ("1", "b", None, None), calendar=ALL)
    assert one_timed.records["content"].to_list() == ["a"]


def test_exact_duplicates_collapse_and_each_dropped_row_is_noted() -> None:
    found = records(*[("1", "a", "2020-03-02", "good")] * 3)
    assert len(found.records) == 1
    assert rejected(found) == [("2020-03-02", "1", "duplicate_id")] * 2


def test_a_row_outside_the_partitions_does_not_push_out_one_inside() -> None:
    found = records(("1", "inside", "2020-03-02", None), ("1", "outside", "2020-03-20", None))
    assert found.records["content"].to_list() == ["inside"]
    assert rejected(found) == [("", "1", "outside_partitions")]


def test_without_partitions_the_time_may_be_missing() -> None:
    found = records(("1", "a", None, None), ("2", "b", "2020-03-02", None), calendar=ALL)
    assert found.records.select("partition_key", "event_time").rows() == [
        ("all", None),
        ("all", datetime(2020, 3, 2, tzinfo=UTC)),
    ]


def test_nul_and_other_oddities_in_texts_are_kept_or_replaced() -> None:
    text = "\u200bé\u0301 👩‍👩‍👧 \u2028 \x01 ﷽ \u202eevil"
    found = records(("1\0", f"a\0b {text}", "2020-03-02", None))
    assert found.records.select("record_id", "content").row(0) == ("1\ufffd", f"a\ufffdb {text}")


def test_attributes_are_the_other_columns_or_those_that_are_named() -> None:
    rows = pl.DataFrame({"id": ["1"], "text": ["a"], "x": [1], "y": [None], "tag": ["good"]})
    columns = RecordColumns(id="id", text="{text}", gold="tag")
    for attributes, expected in ((None, '{"x":1,"y":null}'), (["x", "tag"], '{"x":1,"tag":"good"}'), ([], None)):
        source = columns.model_copy(update={"attributes": attributes})
        assert to_records(rows, source, TASK, ALL).records["attributes"].to_list() == [expected]


def test_ids_of_any_type_become_text() -> None:
    rows = pl.DataFrame({"id": [1, 20], "text": ["a", "b"]})
    assert to_records(rows, RecordColumns(), TASK, ALL).records["record_id"].to_list() == ["1", "20"]


def test_a_missing_column_is_refused() -> None:
    with pytest.raises(SourceError, match="expected a column 'at'"):
        to_records(pl.DataFrame({"id": [1], "text": ["a"], "tag": [None]}), SOURCE, TASK, DAYS)


def test_the_hash_depends_on_the_content_only_and_never_changes() -> None:
    assert content_hashes(pl.Series(["Grüße", "a"])).to_list() == [
        "c483baa27a9abd2202924662a88aaf32",
        "27c35e6e9373877f29e562464e46497e",
    ]


def test_a_hundred_thousand_records_are_hashed_in_well_under_a_second() -> None:
    contents = pl.Series(["the model learns to label text " * 5 + str(i) for i in range(100_000)])
    start = time.process_time()
    assert content_hashes(contents).n_unique() == 100_000
    assert time.process_time() - start < 1


def test_records_can_be_rejected_later() -> None:
    found = records(("1", "a", "2020-03-02", "x"), ("2", "b", "2020-03-02", None)).without(
        pl.Series(["1"]), "duplicate_id"
    )
    assert found.records["record_id"].to_list() == ["2"]
    assert rejected(found) == [("2020-03-02", "1", "duplicate_id")]
    assert json.loads(found.rejected["row"].item())["text"] == "a"


DAY = datetime(2020, 3, 1)
ROWS = st.lists(
    st.tuples(
        st.sampled_from(["1", "2", "3", " ", None]),
        st.sampled_from(["a", "b", "", " ", None]),
        st.integers(-1, 10).map(lambda days: str(DAY + timedelta(days=days))) | st.sampled_from([None, "never"]),
        st.sampled_from(["good", "bad", "ugly", "", None]),
    ),
    max_size=12,
)


@settings(max_examples=60)
@given(rows=ROWS, calendar=st.sampled_from([DAYS, ALL]))
def test_every_row_ends_as_exactly_one_record_or_one_rejected_row(rows: list[Any], calendar: Calendar) -> None:
    found = records(*rows, calendar=calendar)
    assert len(found.records) + len(found.dropped) == len(rows)
    assert found.records["record_id"].is_unique().all()
    ended = [tuple(rows[p]) for p in found.positions] + [
        tuple(json.loads(row)[c] for c in COLUMNS) for row in found.dropped["row"]
    ]
    assert sorted(map(repr, ended)) == sorted(repr(tuple(row)) for row in rows)
    notes = len(found.rejected) - len(found.dropped)
    assert notes == sum(rows[p][3] == "ugly" for p in found.positions)


@settings(max_examples=60)
@given(rows=ROWS)
def test_partitions_and_unplaced_rows_add_up_to_the_whole(rows: list[Any]) -> None:
    found = records(*rows)
    parts = [found.of_partition(key) for key in [*DAYS.keys(datetime(2021, 1, 1, tzinfo=UTC)), ""]]
    assert sum(len(part.records) for part in parts) == len(found.records)
    assert sum(len(part.rejected) for part in parts) == len(found.rejected)
