"""Partitions: the keys and bounds that Dagster has too, found without Dagster."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any, Literal

import dagster as dg
import polars as pl
import pytest
from dagster._core.definitions.partitions.context import partition_loading_context
from hypothesis import given
from hypothesis import strategies as st

from annotation_pipelines.errors import SourceError
from annotation_pipelines.partitions import UTC_TIME, Calendar
from annotation_pipelines.project import Partitions

Every = Literal["hour", "day", "week", "month", "none"]


def calendar(every: Every, start: str | None = None, **more: Any) -> Calendar:
    return Calendar(Partitions.model_validate({"every": every, "start": start, **more}))


def key_of(calendar: Calendar, *times: str | None) -> list[str | None]:
    moments = [None if time is None else datetime.fromisoformat(time).astimezone(UTC) for time in times]
    return calendar.key_of(pl.Series(moments, dtype=UTC_TIME)).to_list()


def dagster_partitions(calendar: Calendar) -> dg.TimeWindowPartitionsDefinition:
    assert calendar.first_day is not None
    arguments: dict[str, Any] = {
        "start_date": datetime.combine(calendar.first_day, datetime.min.time()),
        "end_date": calendar.end_day and datetime.combine(calendar.end_day, datetime.min.time()),
        "timezone": calendar.timezone,
        "end_offset": int(calendar.partitions.include_current),
    }
    match calendar.every:
        case "hour":
            return dg.HourlyPartitionsDefinition(**arguments)
        case "day":
            return dg.DailyPartitionsDefinition(**arguments)
        case "week":
            return dg.WeeklyPartitionsDefinition(**arguments, day_offset=1)
        case _:
            return dg.MonthlyPartitionsDefinition(**arguments)


def dagster_keys(calendar: Calendar, until: datetime) -> Sequence[str]:
    with partition_loading_context(effective_dt=until):
        return dagster_partitions(calendar).get_partition_keys()


STARTS: dict[Every, tuple[str, str]] = {
    # Around both changes of 2020 in Berlin: 29 March and 25 October.
    "hour": ("2020-03-28", "2020-10-24"),
    "day": ("2020-03-20", "2020-10-20"),
    "week": ("2020-03-11", "2020-10-07"),
    "month": ("2020-02-17", "2020-09-30"),
}
LENGTHS = {
    "hour": timedelta(days=3),
    "day": timedelta(days=12),
    "week": timedelta(60),
    "month": timedelta(150),
}


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/Sao_Paulo", "Asia/Kathmandu"])
@pytest.mark.parametrize("change", [0, 1])
@pytest.mark.parametrize("every", list(STARTS))
@pytest.mark.parametrize("include_current", [False, True])
def test_keys_and_bounds_are_those_of_dagster(every: Every, change: int, zone: str, include_current: bool) -> None:
    ours = calendar(every, STARTS[every][change], timezone=zone, include_current=include_current)
    assert ours.start is not None
    until = ours.start + LENGTHS[every] + timedelta(minutes=20)
    keys = ours.keys(until)
    assert len(keys) >= 4
    assert keys == dagster_keys(ours, until)
    theirs = dagster_partitions(ours)
    for key in keys:
        window = theirs.time_window_for_partition_key(key)
        assert ours.window(key) == (window.start.astimezone(UTC), window.end.astimezone(UTC))


@pytest.mark.parametrize("every", ["hour", "day", "week", "month"])
@given(
    minutes=st.lists(st.integers(0, 60 * 24 * 400), min_size=1, max_size=20),
    zone=st.sampled_from(
        ["UTC", "Europe/Berlin", "America/Sao_Paulo", "America/Havana", "America/St_Johns", "Africa/Cairo"]
    ),
    year=st.sampled_from([2010, 2017, 2020, 2023]),
)
def test_a_time_lies_in_the_window_of_its_key(every: Every, minutes: list[int], zone: str, year: int) -> None:
    ours = calendar(every, f"{year}-01-10", timezone=zone)
    assert ours.start is not None
    times = [ours.start + timedelta(minutes=m) for m in minutes]
    for time, key in zip(times, ours.key_of(pl.Series(times, dtype=UTC_TIME)), strict=True):
        start, end = ours.window(key)
        assert start is not None and end is not None and start <= time < end


@pytest.mark.parametrize("every", ["day", "week", "month"])
@pytest.mark.parametrize(
    ("zone", "start"),
    [
        ("America/Sao_Paulo", "2018-10-25"),  # clocks skip midnight
        ("America/Havana", "2022-10-25"),  # midnight comes twice
        ("America/St_Johns", "2010-10-25"),  # clocks go back over midnight
        ("Pacific/Apia", "2011-12-19"),  # a day that never was
    ],
)
def test_strange_midnights_are_those_of_dagster(every: Every, zone: str, start: str) -> None:
    ours = calendar(every, start, timezone=zone)
    assert ours.start is not None
    until = ours.start + timedelta(days=70)
    keys = ours.keys(until)
    assert keys == dagster_keys(ours, until)
    theirs = dagster_partitions(ours)
    for key in keys:
        assert ours.window(key)[0] == theirs.time_window_for_partition_key(key).start.astimezone(UTC)
    for key, following in pairwise(keys):
        assert ours.window(key)[1] == ours.window(following)[0]


def test_the_second_of_two_equal_hours_carries_its_offset() -> None:
    ours = calendar("hour", "2020-10-25", timezone="Europe/Berlin")
    assert key_of(ours, "2020-10-25T02:30+02:00", "2020-10-25T02:30+01:00") == [
        "2020-10-25-02:00",
        "2020-10-25-02:00+0100",
    ]
    assert ours.window("2020-10-25-02:00+0100")[0] == datetime(2020, 10, 25, 1, tzinfo=UTC)


def test_an_hour_that_the_clocks_skip_is_no_partition() -> None:
    with pytest.raises(SourceError, match="found '2020-03-29-02:00'"):
        calendar("hour", "2020-03-28", timezone="Europe/Berlin").window("2020-03-29-02:00")


@pytest.mark.parametrize(("day", "hours"), [("2020-03-29", 23), ("2020-06-01", 24), ("2020-10-25", 25)])
def test_days_in_berlin_have_23_24_or_25_hours(day: str, hours: int) -> None:
    start, end = calendar("day", "2020-01-01", timezone="Europe/Berlin").window(day)
    assert start is not None and end is not None
    assert end - start == timedelta(hours=hours)


def test_a_start_within_a_period_moves_back_and_an_end_moves_on() -> None:
    week = calendar("week", "2020-02-19", end="2020-03-04")
    assert (week.first_day, week.end_day) == (date(2020, 2, 17), date(2020, 3, 9))
    month = calendar("month", "2020-02-19", end="2020-03-04")
    assert (month.first_day, month.end_day) == (date(2020, 2, 1), date(2020, 4, 1))
    day = calendar("day", "2020-02-19", end="2020-03-04")
    assert (day.first_day, day.end_day) == (date(2020, 2, 19), date(2020, 3, 4))


def test_a_calendar_with_an_end_has_every_partition_once_it_is_over() -> None:
    for every in ("hour", "day", "week", "month"):
        ours = calendar(every, "2020-03-25", end="2020-04-02", timezone="Europe/Berlin", include_current=True)
        until = datetime(2021, 1, 1, tzinfo=UTC)
        assert ours.keys(until) == dagster_keys(ours, until)
        assert ours.window(ours.keys(until)[-1])[1] == ours.end


def test_times_outside_the_calendar_have_no_partition() -> None:
    ours = calendar("day", "2020-02-17", end="2020-02-19")
    times = [
        "2020-02-16T23:59:59.999999Z",
        "2020-02-17T00:00Z",
        "2020-02-18T23:59Z",
        "2020-02-19T00:00Z",
        None,
    ]
    assert key_of(ours, *times) == [None, "2020-02-17", "2020-02-18", None, None]
    assert key_of(calendar("day", "2020-02-17"), "9999-12-31T00:00Z") == [None]


def test_the_running_partition_exists_only_when_asked_for() -> None:
    now = datetime(2020, 2, 18, 12, tzinfo=UTC)
    assert calendar("day", "2020-02-17").keys(now) == ["2020-02-17"]
    assert calendar("day", "2020-02-17", include_current=True).keys(now) == ["2020-02-17", "2020-02-18"]
    assert calendar("day", "2020-02-17").keys(datetime(2020, 2, 18, tzinfo=UTC)) == ["2020-02-17"]
    assert calendar("day", "2020-02-17").keys(datetime(2020, 1, 1, tzinfo=UTC)) == []


def test_without_partitions_there_is_one() -> None:
    ours = calendar("none")
    assert ours.keys(datetime(2020, 1, 1, tzinfo=UTC)) == ["all"]
    assert ours.window("all") == (None, None)
    assert key_of(ours, "2020-01-01T00:00Z", None) == ["all", "all"]


@pytest.mark.parametrize(
    ("every", "key"),
    [
        ("none", "2020-02-17"),
        ("day", "all"),
        ("day", "2020-02-16"),
        ("day", "20200217"),
        ("day", "2020-02-30"),
        ("day", "2020-03-01"),
        ("week", "2020-02-18"),
        ("month", "2020-02-17"),
        ("hour", "2020-02-17"),
        ("hour", "2020-02-17-05:30"),
        ("hour", "2020-02-17-05:00+0000"),
    ],
)
def test_a_key_of_another_calendar_is_refused(every: Every, key: str) -> None:
    bounds = {} if every == "none" else {"start": "2020-02-17", "end": "2020-03-01"}
    with pytest.raises(SourceError, match="expected a partition by"):
        Calendar(Partitions.model_validate({"every": every, **bounds})).window(key)


def test_no_times_have_no_keys() -> None:
    for every in ("hour", "day", "week", "month", "none"):
        ours = calendar(every, "2020-02-17")
        assert ours.key_of(pl.Series([], dtype=UTC_TIME)).to_list() == []
    assert calendar("week", "2020-02-17").key_of(pl.Series([None, None], dtype=UTC_TIME)).to_list() == [
        None,
        None,
    ]
