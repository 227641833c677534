"""Records from a database, through polars and connectorx.

`:start` and `:end` in the query become the bounds of the partition, as quoted ISO timestamps in UTC. The database
compares them with the column as it is: convert a column of local times in the query, or records near midnight will
be missed. SQLite has no time type and compares text, so there the bounds are written as its own functions write
times, without offset.
"""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import polars as pl

from annotation_pipelines.errors import MissingExtra, SourceError
from annotation_pipelines.partitions import Window
from annotation_pipelines.project import SqlQuery
from annotation_pipelines.sources.redaction import first_lines

EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)
LATEST = datetime(9999, 1, 1, tzinfo=UTC)
"""What stands for a bound that is open, in queries that name it."""

# Quoted text and comments are stepped over, and so is the cast `::type` of PostgreSQL.
_TOKEN = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|--[^\n]*|/\*.*?\*/|::|:(?P<bound>start|end)\b", re.DOTALL)


def read_sql(source: SqlQuery, window: Window) -> pl.DataFrame:
    """The rows of a query, cut to a window where the query names its bounds.

    Raises:
        SourceError: The environment variable is not set, the database cannot be reached, or it refuses the query. The
            message never holds the connection URL.
        MissingExtra: connectorx is not installed.
    """
    url = os.environ.get(source.connection_env)
    where = f"the database of {source.connection_env}"
    if not url:
        raise SourceError(
            "expected a connection URL, found none",
            where=f"environment variable {source.connection_env}",
            todo="Set it, as in: export " + source.connection_env + "=postgresql://user:password@host/database",
        )
    if find_spec("connectorx") is None:
        raise MissingExtra("connectorx", "sql", "reading from SQL")
    _require_sqlite_file(url, where)
    try:
        return pl.read_database_uri(with_bounds(source.query, window, _dialect(url)), url, engine="connectorx")
    except SourceError:
        raise
    except BaseException as error:  # a panic in connectorx is no Exception
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise SourceError(
            f"the query failed: {first_lines(error, url)}",
            where=where,
            todo="Try the query in the database's own client, with the bounds filled in",
        ) from None


def names_bounds(query: str) -> bool:
    """Whether a query asks for its partition only."""
    return any(token["bound"] for token in _TOKEN.finditer(query))


def with_bounds(query: str, window: Window, dialect: Literal["sqlite", "other"] = "other") -> str:
    """The query with `:start` and `:end` filled in.

    Raises:
        SourceError: They stand in quotes, where they would be text.
    """
    bounds = {"start": window[0] or EARLIEST, "end": window[1] or LATEST}

    def fill(token: re.Match[str]) -> str:
        if token[0] in ("':start'", "':end'"):
            raise SourceError(
                f"found {token[0]} in quotes: it would stay as it is",
                where="source.sql.query",
                todo=f"Write {token[0][1:-1]} without quotes; they are added",
            )
        if not token["bound"]:
            return token[0]
        time = bounds[token["bound"]].astimezone(UTC)
        return f"'{time:%Y-%m-%d %H:%M:%S}'" if dialect == "sqlite" else f"'{time:%Y-%m-%d %H:%M:%S+00:00}'"

    return _TOKEN.sub(fill, query)


def _dialect(url: str) -> Literal["sqlite", "other"]:
    return "sqlite" if url.startswith("sqlite:") else "other"


def _require_sqlite_file(url: str, where: str) -> None:
    # connectorx would make an empty database, or try for half a minute.
    if _dialect(url) == "sqlite":
        file = Path(url.partition("://")[2].partition("?")[0])
        if not file.is_file():
            raise SourceError(f"there is no SQLite file {file}", where=where, todo="Correct the path in the URL")
