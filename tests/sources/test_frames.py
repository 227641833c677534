"""Rows made in Python, as a frame."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from annotation_pipelines.sources.frames import frame_of_rows

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.datetimes()
    | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)


@given(st.lists(st.dictionaries(st.sampled_from("abcd"), VALUES), max_size=6))
def test_any_rows_make_a_frame_of_their_height(rows: list[dict[str, object]]) -> None:
    frame = frame_of_rows(rows)
    assert frame.columns == list(dict.fromkeys(name for row in rows for name in row))
    if frame.width:
        assert frame.height == len(rows)
        for name in frame.columns:
            given = [row.get(name) for row in rows]
            for value, null in zip(given, frame[name].is_null(), strict=True):
                assert not null or value is None or (isinstance(value, float) and math.isnan(value))
        assert frame.to_arrow().num_rows == len(rows)


def test_columns_of_one_type_keep_it_and_mixed_ones_become_text() -> None:
    frame = frame_of_rows([{"a": 1, "b": 1, "c": {"k": [1]}}, {"a": 2, "b": "x", "c": None}, {"b": True}])
    assert frame["a"].to_list() == [1, 2, None]
    assert frame["b"].to_list() == ["1", "x", "true"]
    assert frame["c"].to_list() == ['{"k": [1]}', None, None]


def test_half_a_surrogate_pair_is_replaced() -> None:
    assert frame_of_rows([{"a": "x\ud800y", "b": ["\udfff"]}]).row(0) == ("x\ufffdy", '["\ufffd"]')


def test_times_of_several_zones_are_one_column_in_utc() -> None:
    two = timezone(timedelta(hours=2))
    frame = frame_of_rows([{"t": datetime(2020, 1, 1, tzinfo=two)}, {"t": datetime(2020, 1, 1, tzinfo=UTC)}])
    assert frame.schema["t"] == pl.Datetime("us", "UTC")
    assert frame["t"][0] == datetime(2019, 12, 31, 22, tzinfo=UTC)
