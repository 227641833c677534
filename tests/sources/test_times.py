"""Event times, as sources write them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotation_pipelines.errors import SourceError
from annotation_pipelines.sources.times import event_times


def read(value: Any, zone: str = "UTC", time_format: str | None = None, dtype: Any = None) -> datetime | None:
    times: datetime | None = event_times(pl.Series("at", [value], dtype=dtype), zone, time_format).item()
    return times


OFFSETS = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(
    time=st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=OFFSETS | st.just(UTC)),
    separator=st.sampled_from("T "),
)
def test_iso_text_with_an_offset_is_read_as_python_reads_it(time: datetime, separator: str) -> None:
    assert read(time.isoformat(sep=separator)) == time
    if time.utcoffset() == timedelta(0):
        assert read(time.isoformat().replace("+00:00", "Z"), "Asia/Tokyo") == time


@given(time=st.datetimes(datetime(1980, 1, 1), datetime(2037, 1, 1)))
def test_times_without_a_zone_are_in_that_of_the_partitions(time: datetime) -> None:
    expected = time.replace(tzinfo=ZoneInfo("Europe/Berlin")).astimezone(UTC)
    assert read(time.isoformat(), "Europe/Berlin") == expected
    assert read(time, "Europe/Berlin") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2020-03-04", datetime(2020, 3, 4, tzinfo=UTC)),
        ("2020-03-04T05:06", datetime(2020, 3, 4, 5, 6, tzinfo=UTC)),
        (" 2020-03-04 05:06:07 ", datetime(2020, 3, 4, 5, 6, 7, tzinfo=UTC)),
        ("2020-03-04 05:06:07.123456789", datetime(2020, 3, 4, 5, 6, 7, 123456, tzinfo=UTC)),
        ("2020-03-04T05:06:07,5+0130", datetime(2020, 3, 4, 3, 36, 7, 500000, tzinfo=UTC)),
        ("2020-03-04 05:06:07-08", datetime(2020, 3, 4, 13, 6, 7, tzinfo=UTC)),
        ("2020-03-04 05:06:07 UTC", datetime(2020, 3, 4, 5, 6, 7, tzinfo=UTC)),
        ("", None),
        ("yesterday", None),
        ("2020-02-30", None),
        ("2020-03-04T25:00", None),
        ("2020-03-04T05:06+24:00", None),
        ("04.03.2020", None),
        ("2020", None),
    ],
)
def test_text_that_is_not_iso_has_no_time(text: str, expected: datetime | None) -> None:
    assert read(text) == expected


def test_a_time_that_the_clocks_skip_keeps_the_offset_of_before() -> None:
    assert read("2020-03-29 02:30:00", "Europe/Berlin") == datetime(2020, 3, 29, 1, 30, tzinfo=UTC)


def test_of_two_equal_times_the_first_is_meant() -> None:
    assert read("2020-10-25 02:30:00", "Europe/Berlin") == datetime(2020, 10, 25, 0, 30, tzinfo=UTC)


def test_dates_are_their_midnight_and_zones_are_kept() -> None:
    assert read(date(2020, 3, 4), "Europe/Berlin") == datetime(2020, 3, 3, 23, tzinfo=UTC)
    tokyo = datetime(2020, 3, 4, 9, tzinfo=ZoneInfo("Asia/Tokyo"))
    assert read(tokyo, "Europe/Berlin", dtype=pl.Datetime("ns", "Asia/Tokyo")) == tokyo
    assert read(None, dtype=pl.Null) is None


@pytest.mark.parametrize(
    ("value", "time_format", "expected"),
    [
        ("04/03/2020", "%d/%m/%Y", datetime(2020, 3, 3, 23, tzinfo=UTC)),
        ("04.03.2020 05:06", "%d.%m.%Y %H:%M", datetime(2020, 3, 4, 4, 6, tzinfo=UTC)),
        ("10/Oct/2000:13:55:36 -0700", "%d/%b/%Y:%H:%M:%S %z", datetime(2000, 10, 10, 20, 55, 36, tzinfo=UTC)),
        ("1583298367", "%s", datetime(2020, 3, 4, 5, 6, 7, tzinfo=UTC)),
        (1583298367, "%s", datetime(2020, 3, 4, 5, 6, 7, tzinfo=UTC)),
        (20200304, "%Y%m%d", datetime(2020, 3, 3, 23, tzinfo=UTC)),
        ("nothing", "%d/%m/%Y", None),
    ],
)
def test_other_times_need_a_format(value: Any, time_format: str, expected: datetime | None) -> None:
    assert read(value, "Europe/Berlin", time_format) == expected


def test_numbers_without_a_format_are_refused() -> None:
    with pytest.raises(SourceError, match=r"column 'at': expected dates, .* found Int64.*time_format"):
        read(1583298367)
