"""The lines of a journal: a CRC-32 of the text, a blank, a row of `llm_calls` as JSON.

A line that was cut short, overwritten or glued to another fails its checksum; it is counted, never taken for a row.
"""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Mapping
from typing import Any

import duckdb
import polars as pl

from annotation_pipelines.store.schema import LLM_CALLS

_POLARS_TYPES: dict[str, Any] = {
    "VARCHAR": pl.String,
    "INTEGER": pl.Int32,
    "BIGINT": pl.Int64,
    "DOUBLE": pl.Float64,
    "TIMESTAMPTZ": pl.String,  # ISO 8601, until the whole column is read
}
_json = json.JSONEncoder(ensure_ascii=False, default=str, separators=(",", ":")).encode
_SCHEMA = {column.name: _POLARS_TYPES[column.type] for column in LLM_CALLS.columns}


def encode(row: Mapping[str, Any]) -> bytes:
    """The line of a row; a lone surrogate, which no database takes, becomes a question mark."""
    text = _json(row).encode("utf-8", "replace")
    return b"%08x %s\n" % (zlib.crc32(text), text)


def decode(content: bytes) -> tuple[pl.DataFrame, int]:
    """The whole rows of a journal's content, as a frame like `llm_calls`, and how many lines failed their checksum."""
    texts: list[bytes] = []
    damaged = 0
    # Zeros at the end are space that was set apart and not used, or what some file systems leave after a power failure.
    for line in content.rstrip(b"\0").split(b"\n"):
        text = line[9:]
        if line[:9] == b"%08x " % zlib.crc32(text):
            texts.append(text)
        elif line:
            damaged += 1
    frame = _frame(texts)
    return frame.with_columns(pl.col("called_at").str.to_datetime(time_zone="UTC", time_unit="us")), damaged


def add_rows(con: duckdb.DuckDBPyConnection, rows: pl.DataFrame) -> int:
    """Add to the ledger the rows that it does not have; returns how many those were."""
    columns = ", ".join(LLM_CALLS.column_names)
    con.register("_journal", rows.select(LLM_CALLS.column_names).to_arrow())
    try:
        added = con.execute(f"INSERT OR IGNORE INTO llm_calls ({columns}) SELECT {columns} FROM _journal").fetchall()
    finally:
        con.unregister("_journal")
    return int(added[0][0])


def _frame(texts: list[bytes]) -> pl.DataFrame:
    if not texts:
        return pl.DataFrame(schema=_SCHEMA)
    try:
        return pl.read_ndjson(io.BytesIO(b"\n".join(texts)), schema=_SCHEMA)
    except pl.exceptions.PolarsError:
        # Three times slower, but it takes what JSON does not know, such as NaN, and makes null of what no column takes.
        rows = [{name: _fitting(value) for name, value in json.loads(text).items()} for text in texts]
        return pl.DataFrame(rows, schema=_SCHEMA, orient="row", strict=False)


def _fitting(value: Any) -> Any:
    return None if isinstance(value, int) and not -(2**63) <= value < 2**63 else value
