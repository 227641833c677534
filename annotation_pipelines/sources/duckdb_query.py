"""Records from a DuckDB file, or from whatever a DuckDB query can read.

`$start` and `$end` in the query are the bounds of the partition, as timestamps with time zone. The session's time zone
is that of the partitions, so a column of times without zone is compared as the declaration means it. Files named in
the query are looked for beside defs.yaml.
"""

from __future__ import annotations

from pathlib import Path

import duckdb
import polars as pl

from annotation_pipelines.errors import SourceError
from annotation_pipelines.partitions import Window
from annotation_pipelines.project import DuckDBQuery, Project
from annotation_pipelines.sources.redaction import first_lines
from annotation_pipelines.sources.sql import EARLIEST, LATEST

_MEMORY = ":memory:"
_BOUNDS = {"start", "end"}


def read_duckdb(project: Project, source: DuckDBQuery, window: Window) -> pl.DataFrame:
    """The rows of a query, cut to a window where the query names its bounds; the file is opened read-only.

    Raises:
        SourceError: There is no such file, or DuckDB refuses it or the query.
    """
    where = f"the query on {source.database}"
    file = source.database if source.database == _MEMORY else project.resolve(source.database)
    if file != _MEMORY and "://" not in file and not Path(file).is_file():
        raise SourceError(
            "there is no such file", where=file, todo="Correct the path in defs.yaml; relative paths start beside it"
        )
    parameters = _parameters(source.query, where)
    bounds = {"start": window[0] or EARLIEST, "end": window[1] or LATEST}
    try:
        with duckdb.connect(file, read_only=file != _MEMORY) as con:
            con.execute("SET python_enable_replacements = false")  # no table is a variable of this function
            con.execute(f"SET TimeZone = {_quoted(project.declaration.partitions.timezone)}")
            con.execute(f"SET file_search_path = {_quoted(str(project.folder))}")
            rows: pl.DataFrame = con.sql(source.query, params={name: bounds[name] for name in parameters}).pl()
            return rows
    except (duckdb.Error, pl.exceptions.PolarsError) as error:
        raise SourceError(
            f"the query failed: {first_lines(error)}", where=where, todo="Try it in DuckDB, with the bounds filled in"
        ) from None


def names_bounds(query: str) -> bool:
    """Whether a query asks for its partition only."""
    return bool(_parameters(query, "the query"))


def _parameters(query: str, where: str) -> set[str]:
    try:
        statements = duckdb.extract_statements(query)
    except duckdb.Error as error:
        raise SourceError(f"the query is not valid: {first_lines(error)}", where=where) from None
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        kinds = ", ".join(statement.type.name for statement in statements) or "nothing"
        raise SourceError(f"expected one SELECT, found {kinds}", where=where, todo="Put all of it into one SELECT")
    parameters = set(statements[0].named_parameters)
    if unknown := parameters - _BOUNDS:
        raise SourceError(
            f"expected no parameters but $start and $end, found {', '.join(f'${name}' for name in sorted(unknown))}",
            where=where,
        )
    return parameters


def _quoted(value: str) -> str:
    doubled = value.replace("'", "''")
    return f"'{doubled}'"
