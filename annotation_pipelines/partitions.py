"""The calendar of a project: which partition an event time belongs to, and which partitions there are.

Keys and bounds equal those of Dagster's own hourly, daily, weekly (`day_offset=1`) and monthly definitions over
`first_day` and `end_day`, daylight saving included: a day in Berlin has 23, 24 or 25 hours, and the second of
two equal hours carries its UTC offset in the key ("2020-10-25-02:00+0100"). Two corners of Dagster are not
followed. Hours in the one zone that shifts by half an hour (Australia/Lord_Howe) go on in steps of 60 minutes,
where Dagster leaves a gap. And with `include_current`, Dagster shows the first partition one window early.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl

from annotation_pipelines.errors import SourceError
from annotation_pipelines.project import Partitions
from annotation_pipelines.store.schema import UNPARTITIONED

UTC_TIME = pl.Datetime("us", "UTC")
"""The type of event times: microseconds in UTC."""

Window = tuple[datetime | None, datetime | None]
"""Start (included) and end (excluded) of a partition, in UTC; None where there is no bound."""

_HOUR_KEY = "%Y-%m-%d-%H:%M"
_DAY_KEY = "%Y-%m-%d"
_HOUR = timedelta(hours=1)
_PERIODS = {"day": "1d", "week": "1w", "month": "1mo"}
_LAST_YEAR = 9998  # later times are typing errors or "for ever", and Python's dates end soon after


@dataclass(frozen=True)
class Calendar:
    """The partitions of a project.

    Args:
        partitions: What the declaration says. A start within a week or month moves back to its first day, and
            an end within one moves on to the first day of the next, so that the last one is whole too.
    """

    partitions: Partitions

    @property
    def every(self) -> str:
        """The length of a partition: hour, day, week, month or none."""
        return self.partitions.every

    @property
    def timezone(self) -> str:
        """The IANA time zone of the bounds."""
        return self.partitions.timezone

    @property
    def first_day(self) -> date | None:
        """The local day at whose midnight the first partition starts; None without partitions."""
        start = self.partitions.start
        return None if start is None or self.every == "none" else self._period_start(start)

    @property
    def end_day(self) -> date | None:
        """The local day at whose midnight the last partition ends; None where the calendar is open."""
        end = self.partitions.end
        if end is None or self.every == "none":
            return None
        begun = self._period_start(end)
        return end if begun == end else self._next_period(begun)

    @property
    def start(self) -> datetime | None:
        """The start of the first partition, in UTC."""
        return None if self.first_day is None else self._midnight(self.first_day)

    @property
    def end(self) -> datetime | None:
        """The end of the last partition, in UTC; None where the calendar is open."""
        return None if self.end_day is None else self._midnight(self.end_day)

    def key_of(self, times: pl.Series) -> pl.Series:
        """The partition of each time.

        Args:
            times: Datetimes in UTC; null where the time is unknown.

        Returns:
            Keys, of the same length; null where the time is null, before the first partition or after the
            last one. Without partitions every key is "all", whatever the time.
        """
        if self.start is None:
            return pl.repeat(UNPARTITIONED, len(times), dtype=pl.String, eager=True)
        time = pl.col("time")
        inside = (time >= self.start) & (time.dt.year() <= _LAST_YEAR)
        if self.end is not None:
            inside &= time < self.end
        frame = pl.DataFrame({"time": times.cast(UTC_TIME)}).select(pl.when(inside).then(time).alias("time"))
        keyed = self._hour_keys(frame) if self.every == "hour" else self._period_keys(frame)
        return keyed["key"]

    def window(self, key: str) -> Window:
        """Start and end of a partition, in UTC; (None, None) without partitions.

        Raises:
            SourceError: There is no such partition in this calendar.
        """
        if self.start is None:
            if key != UNPARTITIONED:
                raise self._unknown(key)
            return None, None
        start = self._parse(key)
        if start is None or start < self.start or (self.end is not None and start >= self.end):
            raise self._unknown(key)
        if self.every == "hour":
            return start, start + _HOUR
        return start, self._midnight(self._next_period(date.fromisoformat(key)))

    def keys(self, until: datetime) -> list[str]:
        """Every partition that exists at a moment, oldest first.

        These are the finished ones, and the running one where the declaration says include_current.

        Args:
            until: The moment, with a time zone.
        """
        if self.start is None:
            return [UNPARTITIONED]
        found = []
        for key, start, end in self._windows():
            if (start if self.partitions.include_current else end) > until:
                break
            found.append(key)
        return found

    # -- windows ---------------------------------------------------------------------------------------------

    def _windows(self) -> Iterator[tuple[str, datetime, datetime]]:
        """Every partition with its bounds, oldest first; without end where the calendar is open."""
        assert self.first_day is not None and self.start is not None
        end, end_day = self.end, self.end_day
        if self.every == "hour":
            start = self.start
            while end is None or start + _HOUR <= end:
                yield self._hour_key(start), start, start + _HOUR
                start += _HOUR
            return
        day = self.first_day
        while end_day is None or day < end_day:
            following = self._next_period(day)
            yield day.isoformat(), self._midnight(day), self._midnight(following)
            day = following

    def _parse(self, key: str) -> datetime | None:
        """The start that a key names, in UTC, or None where it is not a key of this calendar."""
        zone = ZoneInfo(self.timezone)
        if self.every != "hour":
            try:
                day = date.fromisoformat(key)
            except ValueError:
                return None
            return self._midnight(day) if day.isoformat() == key and self._period_start(day) == day else None
        for pattern in (_HOUR_KEY, f"{_HOUR_KEY}%z"):
            try:
                parsed = datetime.strptime(key, pattern)
            except ValueError:
                continue
            start = (parsed if parsed.tzinfo else parsed.replace(tzinfo=zone)).astimezone(UTC)
            whole = self.start is not None and not (start - self.start) % _HOUR
            return start if whole and self._hour_key(start) == key else None
        return None

    def _unknown(self, key: str) -> SourceError:
        example = UNPARTITIONED if self.start is None else next(self._windows())[0]
        bounds = "" if self.start is None else f" from {self.first_day} to {self.end_day or 'now'}"
        return SourceError(
            f"expected a partition by {self.every} in {self.timezone}{bounds}, such as {example}; found {key!r}",
            todo="Name a partition that the declaration's partitions: allows",
        )

    # -- hours -----------------------------------------------------------------------------------------------

    def _hour_key(self, start: datetime) -> str:
        local = start.astimezone(ZoneInfo(self.timezone))
        return local.strftime(f"{_HOUR_KEY}%z" if local.fold else _HOUR_KEY)

    def _hour_keys(self, frame: pl.DataFrame) -> pl.DataFrame:
        assert self.start is not None
        first = pl.lit(self.start, UTC_TIME)
        hours = frame.select(hour=first + pl.duration(hours=(pl.col("time") - first).dt.total_hours()))
        starts = hours["hour"].drop_nulls().unique()
        keys = pl.DataFrame(
            {"hour": starts, "key": [self._hour_key(start) for start in starts]},
            schema_overrides={"key": pl.String},
        )
        return hours.join(keys, on="hour", how="left", maintain_order="left")

    # -- days, weeks, months ---------------------------------------------------------------------------------

    def _period_keys(self, frame: pl.DataFrame) -> pl.DataFrame:
        local_day = pl.col("time").dt.convert_time_zone(self.timezone).dt.date()
        frame = frame.with_columns(day=local_day.dt.truncate(_PERIODS[self.every]))
        days = frame["day"].drop_nulls().unique()
        following = [self._next_period(day) for day in days]
        periods = pl.DataFrame(
            {
                "day": days,
                "this": [day.isoformat() for day in days],
                "following": [day.isoformat() for day in following],
                "end": [self._midnight(day) for day in following],
            },
            schema_overrides={"this": pl.String, "following": pl.String, "end": UTC_TIME},
        )
        # Where clocks go back over midnight, the next day has begun though they show the old one once more.
        key = pl.when(pl.col("time") >= pl.col("end")).then("following").otherwise("this")
        return frame.join(periods, on="day", how="left", maintain_order="left").select(key=key)

    def _period_start(self, day: date) -> date:
        if self.every == "week":
            return day - timedelta(days=day.weekday())
        return day.replace(day=1) if self.every == "month" else day

    def _next_period(self, start: date) -> date:
        if self.every == "month":
            return (start + timedelta(days=31)).replace(day=1)
        return start + timedelta(days=7 if self.every == "week" else 1)

    def _midnight(self, day: date) -> datetime:
        """The first moment of a local day, in UTC; where clocks skip midnight, the moment they skip it."""
        return datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(self.timezone)).astimezone(UTC)
