"""The rows of a project's source, whatever its kind."""

from __future__ import annotations

import polars as pl

from annotation_pipelines.partitions import Window
from annotation_pipelines.project import Project
from annotation_pipelines.sources import duckdb_query, sql
from annotation_pipelines.sources.columns import require_columns
from annotation_pipelines.sources.duckdb_query import read_duckdb
from annotation_pipelines.sources.files import read_files
from annotation_pipelines.sources.python_callable import read_callable
from annotation_pipelines.sources.sql import read_sql

WHOLE: Window = (None, None)


def read_rows(project: Project, window: Window | None = None) -> pl.DataFrame:
    """The rows of the source, as it gives them.

    Args:
        project: The project.
        window: Start and end of a partition. Databases and callables get it and may give its rows only; files are
            read whole. None: the whole source.

    Returns:
        A frame with every column that the declaration names; without rows, these may be all there is.

    Raises:
        SourceError: The source cannot be read or lacks a column.
        MissingExtra: A package for it is not installed.
    """
    source = project.declaration.source
    window = window or WHOLE
    if source.sql is not None:
        rows, where = read_sql(source.sql, window), f"the database of {source.sql.connection_env}"
    elif source.duckdb is not None:
        rows, where = read_duckdb(project, source.duckdb, window), f"the query on {source.duckdb.database}"
    elif source.python is not None:
        rows, where = read_callable(project, source.python, window), source.python
    else:
        locations = source.csv or source.parquet or source.jsonl
        assert locations is not None
        return read_files(project, source.kind, locations, source)
    if rows.width or rows.height:
        require_columns(rows.columns, source, where)
    return rows


def reads_whole_source(project: Project) -> bool:
    """Whether reading one partition reads all of the source, so that every copy of a record is seen at once."""
    source = project.declaration.source
    if project.declaration.partitions.every == "none":
        return True
    if source.sql is not None:
        return not sql.names_bounds(source.sql.query)
    if source.duckdb is not None:
        return not duckdb_query.names_bounds(source.duckdb.query)
    return source.python is None
