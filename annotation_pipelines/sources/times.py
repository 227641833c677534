"""Event times, as sources write them, in UTC."""

from __future__ import annotations

import re
from datetime import timedelta

import polars as pl

from annotation_pipelines.errors import SourceError
from annotation_pipelines.partitions import UTC_TIME
from annotation_pipelines.sources.redaction import first_lines

_ISO = (
    r"^(?<day>\d{4}-\d{2}-\d{2})"
    r"(?:[Tt ](?<minute>\d{2}:\d{2})(?::(?<second>\d{2})(?:[.,](?<fraction>\d{1,6})\d*)?)?"
    r" ?(?:(?<utc>[Zz]|UTC)|(?<sign>[+-])(?<hours>[01]\d|2[0-3])(?::?(?<minutes>[0-5]\d))?)?)?$"
)
_DAY = timedelta(days=1)


def event_times(times: pl.Series, timezone: str, time_format: str | None = None) -> pl.Series:
    """Times in UTC; null where there is none, or where text cannot be read.

    Args:
        times: Datetimes, dates (their midnight), or text: ISO 8601 with `T` or a blank, with or without seconds and
            offset; or whatever `time_format` says.
        timezone: The zone of times that name none. Of two equal times when clocks go back, the first is meant; a time
            that clocks skip is taken as if they had not been changed yet.
        time_format: strftime codes for text and numbers, such as "%d/%m/%Y" or "%s" (seconds since 1970).

    Raises:
        SourceError: The column holds something else, or the format is none.
    """
    time = pl.col("time")
    frame = times.alias("time").to_frame()
    match times.dtype:
        case pl.Datetime(time_zone=zone):
            read = time.cast(pl.Datetime("us", zone))
            read = _localise(read, timezone) if zone is None else read.dt.convert_time_zone("UTC")
        case pl.Date():
            read = _localise(time.cast(pl.Datetime("us")), timezone)
        case pl.Null():
            read = time.cast(UTC_TIME)
        case _ if time_format is not None:
            read = _formatted(time.cast(pl.String).str.strip_chars(), timezone, time_format)
        case pl.String() | pl.Categorical() | pl.Enum():
            return _iso(frame, timezone)
        case _:
            raise SourceError(
                f"expected dates, timestamps or ISO 8601 text as event times, found {times.dtype}",
                where=f"column {times.name!r}",
                todo='Say how to read them with time_format, such as "%s" for seconds since 1970',
            )
    try:
        return frame.select(read.cast(UTC_TIME))["time"]
    except pl.exceptions.PolarsError as error:
        raise SourceError(
            f"expected strftime codes, found {time_format!r} ({first_lines(error)})", where="source.time_format"
        ) from None


def _formatted(text: pl.Expr, timezone: str, time_format: str) -> pl.Expr:
    if re.search(r"%(?:[:#]*z|s|\+)", time_format):
        return text.str.to_datetime(time_format, time_unit="us", time_zone="UTC", strict=False)
    return _localise(text.str.to_datetime(time_format, time_unit="us", strict=False), timezone)


def _iso(frame: pl.DataFrame, timezone: str) -> pl.Series:
    parts = frame.select(part=pl.col("time").cast(pl.String).str.strip_chars().str.extract_groups(_ISO)).unnest("part")
    clock = pl.concat_str(
        "day",
        pl.lit(" "),
        pl.col("minute").fill_null("00:00"),
        pl.lit(":"),
        pl.col("second").fill_null("00"),
        pl.lit("."),
        pl.col("fraction").fill_null("0"),
    ).str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="us", strict=False)
    offset = pl.duration(
        hours=pl.col("hours").cast(pl.Int64).fill_null(0), minutes=pl.col("minutes").cast(pl.Int64).fill_null(0)
    )
    shifted = pl.when(pl.col("sign") == "-").then(clock + offset).otherwise(clock - offset)
    absolute = pl.col("utc").is_not_null() | pl.col("sign").is_not_null()
    read = pl.when(absolute).then(shifted.dt.replace_time_zone("UTC")).otherwise(_localise(clock, timezone))
    return parts.select(time=read.cast(UTC_TIME))["time"]


def _localise(naive: pl.Expr, timezone: str) -> pl.Expr:
    def in_zone(time: pl.Expr) -> pl.Expr:
        local = time.dt.replace_time_zone(timezone, ambiguous="earliest", non_existent="null")
        return local.dt.convert_time_zone("UTC")

    # A skipped time gets the offset of the day before, as Python's zoneinfo gives it.
    return pl.coalesce(in_zone(naive), in_zone(naive - _DAY) + _DAY)
