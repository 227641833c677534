"""Rows made in Python, as a frame: whatever a JSON line or a callable gives."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from typing import Any

import polars as pl

_REPLACEMENT = "\ufffd"
_TYPES: dict[type, pl.DataType] = {
    str: pl.String(),
    bool: pl.Boolean(),
    int: pl.Int64(),
    float: pl.Float64(),
    date: pl.Date(),
}


def frame_of_rows(rows: Iterable[Mapping[str, Any]]) -> pl.DataFrame:
    """A frame with a column for every key, in the order in which they first appear.

    A column whose values share one simple type has that type; all others become text: what is nested as JSON, true
    and false in lower case, numbers and times as they print. Half a surrogate pair, which no file or database can
    hold, is replaced by U+FFFD. A key that a row lacks is null.
    """
    columns: dict[str, list[Any]] = {}
    for above, row in enumerate(rows):
        for name, value in row.items():
            column = columns.get(name)
            if column is None:
                column = columns[name] = [None] * above
            column.append(value)
        if len(row) < len(columns):
            for name, column in columns.items():
                if name not in row:
                    column.append(None)
    return pl.DataFrame([_series(_clean(str(name)), values) for name, values in columns.items()])


def _series(name: str, values: list[Any]) -> pl.Series:
    types = {type(value) for value in values} - {type(None)}
    if not types:
        return pl.Series(name, values, pl.String())
    if types == {datetime} and len({value.tzinfo is None for value in values if value is not None}) == 1:
        aware = any(value is not None and value.tzinfo is not None for value in values)
        return pl.Series(name, values, pl.Datetime("us", "UTC" if aware else None))
    if len(types) == 1 and (dtype := _TYPES.get(next(iter(types)))) is not None:
        try:
            return pl.Series(name, values, dtype)
        except (UnicodeEncodeError, OverflowError, TypeError, pl.exceptions.PolarsError):
            pass  # half a surrogate pair, or a whole number beyond 64 bits
    return pl.Series(name, [as_plain_text(value) for value in values], pl.String())


def as_plain_text(value: object) -> str | None:
    """A value of any type as text without lone surrogates."""
    match value:
        case None:
            return None
        case float() | datetime() if value != value:  # NaN and NaT are how pandas says missing
            return None
        case str():
            return _clean(value)
        case bool():
            return "true" if value else "false"
        case bytes():
            return value.decode("utf-8", errors="replace")
        case datetime() | date():
            return value.isoformat()
        case Mapping() | list() | tuple():
            return _clean(json.dumps(value, ensure_ascii=False, default=as_plain_text))
        case _:
            return None if type(value).__name__ == "NAType" else _clean(str(value))


def _clean(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return "".join(_REPLACEMENT if "\ud800" <= c <= "\udfff" else c for c in text)
    return text
