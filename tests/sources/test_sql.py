"""Records from a database, through connectorx: here SQLite."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest

from annotation_pipelines.errors import MissingExtra, SourceError
from annotation_pipelines.sources import sql
from annotation_pipelines.sources.redaction import first_lines
from annotation_pipelines.sources.rows import read_rows, reads_whole_source
from annotation_pipelines.sources.sql import names_bounds, with_bounds
from tests.sources.shop import project

WINDOW = (datetime(2020, 3, 2, tzinfo=UTC), datetime(2020, 3, 3, tzinfo=UTC))
PART = "SELECT * FROM notes WHERE at >= :start AND at < :end"


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    with sqlite3.connect(tmp_path / "notes.db") as con:
        con.execute("CREATE TABLE notes (id INTEGER, text TEXT, at TEXT, tag TEXT)")
        rows = [
            (1, "a", "2020-03-02 00:00:00", "good"),
            (2, "b", "2020-03-02 23:59:59", None),
            (3, "c", "2020-03-03 00:00:00", None),
        ]
        con.executemany("INSERT INTO notes VALUES (?, ?, ?, ?)", rows)
    monkeypatch.setenv("NOTES_URL", f"sqlite://{tmp_path}/notes.db")
    return tmp_path


def read(folder: Path, query: str, window: tuple[datetime, datetime] | None = None) -> list[int]:
    rows = read_rows(project(folder, {"sql": {"query": query, "connection_env": "NOTES_URL"}}), window)
    return rows["id"].to_list()


def test_the_database_gives_the_partition_only(database: Path) -> None:
    assert read(database, PART, WINDOW) == [1, 2]
    assert read(database, PART) == [1, 2, 3]
    assert read(database, "SELECT * FROM notes WHERE id > 9") == []


def test_the_whole_source_is_read_only_where_the_query_does_not_name_bounds(tmp_path: Path) -> None:
    for query, whole in ((PART, False), ("SELECT * FROM notes", True)):
        declared = project(tmp_path, {"sql": {"query": query, "connection_env": "NOTES_URL"}})
        assert reads_whole_source(declared) is whole


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("at >= :start AND at < :end", "at >= '2020-03-02 00:00:00+00:00' AND at < '2020-03-03 00:00:00+00:00'"),
        ("at::start", "at::start"),
        (":started", ":started"),
        (
            "'it''s :start' || \":end\" -- :start\n/* :end\n :end */",
            "'it''s :start' || \":end\" -- :start\n/* :end\n :end */",
        ),
        ("at>:start::timestamptz", "at>'2020-03-02 00:00:00+00:00'::timestamptz"),
    ],
)
def test_only_bounds_outside_quotes_and_comments_are_filled_in(query: str, expected: str) -> None:
    assert with_bounds(query, WINDOW) == expected
    assert names_bounds(query) is (query != expected)


def test_a_bound_in_quotes_is_refused() -> None:
    with pytest.raises(SourceError, match="Write :start without quotes"):
        with_bounds("at >= ':start'", WINDOW)


def test_without_the_environment_variable_the_message_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTES_URL", raising=False)
    with pytest.raises(SourceError, match="environment variable NOTES_URL: expected a connection URL"):
        read(tmp_path, PART)


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("SELEC * FROM notes", "syntax error"),
        ("SELECT * FROM note", "no such table: note"),
        ("SELECT id, text, at FROM notes", "expected a column 'tag', found 'id', 'text', 'at'"),
    ],
)
def test_a_bad_query_is_one_clear_error(database: Path, query: str, problem: str) -> None:
    with pytest.raises(SourceError, match="the database of NOTES_URL: ") as error:
        read(database, query)
    assert problem in str(error.value)


def test_a_missing_sqlite_file_is_not_made(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTES_URL", f"sqlite://{database}/none.db")
    with pytest.raises(SourceError, match="there is no SQLite file"):
        read(database, PART)
    assert not (database / "none.db").exists()


@pytest.mark.parametrize("url", ["nonsense", "unheard-of://someone:s3cret@host/db", "://s3cret@"])
def test_a_wrong_url_is_an_error_that_does_not_show_it(
    database: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("NOTES_URL", url)
    with pytest.raises(SourceError) as error:
        read(database, PART)
    assert url not in str(error.value)
    assert "s3cret" not in str(error.value)


def test_a_driver_that_repeats_the_url_shows_no_credentials() -> None:
    url = "postgresql://someone:p%40ss/word@host:5432/db?sslmode=on&password=other"
    said = f"cannot connect to {url}: password p@ss/word of mysql://root:else@h/x was refused; pwd=third"
    text = first_lines(RuntimeError(said), url)
    for secret in (url, "p%40ss/word", "p@ss/word", "else", "other", "third"):
        assert secret not in text
    assert "was refused" in text


def test_without_connectorx_the_extra_is_named(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"connectorx.*pip install 'annotation-pipelines\[sql\]'"):
        read(database, PART)
