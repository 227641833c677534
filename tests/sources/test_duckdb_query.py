"""Records from a DuckDB query."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from annotation_pipelines.errors import SourceError
from annotation_pipelines.sources.rows import read_rows, reads_whole_source
from tests.sources.shop import project, write

WINDOW = (datetime(2020, 3, 1, 23, tzinfo=UTC), datetime(2020, 3, 2, 23, tzinfo=UTC))
PART = "SELECT * FROM notes WHERE seen >= $start AND seen < $end"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with duckdb.connect(tmp_path / "notes.duckdb") as con:
        con.execute("CREATE TABLE notes (id INTEGER, text VARCHAR, seen TIMESTAMP, tag VARCHAR)")
        con.execute(
            "INSERT INTO notes VALUES (1, 'a', '2020-03-02 00:30:00', 'good'), (2, 'b', '2020-03-02 23:30:00', NULL), "
            "(3, 'c', '2020-03-03 00:00:00', NULL)"
        )
    return tmp_path


def read(folder: Path, query: str, window: Any = None, database: str = "notes.duckdb") -> list[int]:
    declared = project(
        folder,
        {"duckdb": {"query": query, "database": database}, "time": "seen"},
        partitions={"every": "day", "start": "2020-03-02", "timezone": "Europe/Berlin"},
    )
    return read_rows(declared, window)["id"].to_list()


def test_a_partition_is_cut_in_the_time_zone_of_the_partitions(folder: Path) -> None:
    assert read(folder, PART, WINDOW) == [1, 2]
    assert read(folder, PART) == [1, 2, 3]


def test_bounds_that_the_query_does_not_name_are_not_passed(folder: Path) -> None:
    assert read(folder, "SELECT *, '$end' AS more FROM notes WHERE seen < $end", WINDOW) == [1, 2]
    assert read(folder, "FROM notes", WINDOW) == [1, 2, 3]
    assert reads_whole_source(project(folder, {"duckdb": {"query": "FROM notes"}}))
    assert not reads_whole_source(project(folder, {"duckdb": {"query": PART}}))


def test_files_in_a_query_lie_beside_the_declaration(tmp_path: Path) -> None:
    write(tmp_path, ("1", "a", "2020-03-02", "good"), columns=("id", "text", "seen", "tag"))
    assert read(tmp_path, "FROM read_csv('records.csv')", database=":memory:") == [1]


def test_the_file_is_opened_read_only(folder: Path) -> None:
    with duckdb.connect(folder / "notes.duckdb", read_only=True):
        assert read(folder, "FROM notes") == [1, 2, 3]


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("SELEC 1", "the query is not valid"),
        ("FROM note", "Table with name note does not exist"),
        ("FROM project", "Table with name project does not exist"),
        ("FROM notes; FROM notes", "expected one SELECT, found SELECT, SELECT"),
        ("DELETE FROM notes", "expected one SELECT, found DELETE"),
        ("FROM notes WHERE seen < $until", "expected no parameters but $start and $end, found $until"),
        ("SELECT id, text, tag FROM notes", "expected a column 'seen', found 'id', 'text', 'tag'"),
        ("SELECT *, INTERVAL 1 DAY AS span FROM notes", "the query failed"),
    ],
)
def test_a_bad_query_is_one_clear_error(folder: Path, query: str, problem: str) -> None:
    with pytest.raises(SourceError, match=r"the query on notes.duckdb: ") as error:
        read(folder, query)
    assert problem in str(error.value)


def test_a_missing_file_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"notes.duckdb: there is no such file"):
        read(tmp_path, PART)
    assert not (tmp_path / "notes.duckdb").exists()
