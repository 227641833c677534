"""Records from a function in the project's folder."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from textwrap import dedent

import pytest

from annotation_pipelines.errors import SourceError
from annotation_pipelines.sources.rows import read_rows, reads_whole_source
from tests.sources.shop import project

WINDOW = (datetime(2020, 3, 2, tzinfo=UTC), datetime(2020, 3, 3, tzinfo=UTC))
ROW = "{'id': 1, 'text': 'a', 'at': start, 'tag': 'good'}"


def read(folder: Path, body: str, window: tuple[datetime, datetime] | None = WINDOW) -> list[tuple[object, ...]]:
    (folder / "notes.py").write_text(dedent(body), encoding="utf-8")
    return read_rows(project(folder, {"python": "notes.py:fetch"}), window).rows()


@pytest.mark.parametrize(
    "given",
    [
        f"[{ROW}]",
        f"iter([{ROW}])",
        f"pl.DataFrame([{ROW}])",
        f"pl.LazyFrame([{ROW}])",
        f"pd.DataFrame([{ROW}])",
    ],
)
def test_frames_and_rows_of_any_kind_are_taken(tmp_path: Path, given: str) -> None:
    body = f"import pandas as pd, polars as pl\ndef fetch(start, end):\n    return {given}\n"
    [(id, text, at, tag)] = read(tmp_path, body)
    assert (id, text, tag) == (1, "a", "good")
    assert at == WINDOW[0] or datetime.fromisoformat(str(at)) == WINDOW[0]


def test_what_pandas_calls_missing_is_null(tmp_path: Path) -> None:
    body = """
        import pandas as pd
        def fetch(start, end):
            first = {"id": "x", "text": "a", "at": pd.NaT, "tag": pd.NA}
            return pd.DataFrame([first, {"id": 7, "text": float("nan"), "at": start, "tag": "good"}])
        """
    [first, second] = read(tmp_path, body)
    assert first == ("x", "a", None, None)
    assert (second[0], second[1], second[3]) == ("7", None, "good")


def test_the_function_gets_the_window_or_nothing(tmp_path: Path) -> None:
    body = "def fetch(start, end):\n    yield {'id': str(start), 'text': str(end), 'at': None, 'tag': None}\n"
    assert read(tmp_path, body)[0][:2] == ("2020-03-02 00:00:00+00:00", "2020-03-03 00:00:00+00:00")
    assert read(tmp_path, body, None)[0][:2] == ("None", "None")
    assert not reads_whole_source(project(tmp_path, {"python": "notes.py:fetch"}))


def test_an_edit_counts_from_the_next_read(tmp_path: Path) -> None:
    for text in ("a", "b"):
        body = f"def fetch(start, end):\n    return [{{'id': 1, 'text': {text!r}, 'at': None, 'tag': None}}]\n"
        assert read(tmp_path, body)[0][1] == text


def test_no_rows_need_no_columns(tmp_path: Path) -> None:
    assert read(tmp_path, "def fetch(start, end):\n    return []\n") == []


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (
            "def fetch(start, end):\n    return 1 / 0\n",
            "notes.py:2 (fetch): raised ZeroDivisionError: division by zero",
        ),
        (
            "def fetch(start, end):\n    yield {}\n    raise OSError('no network')\n",
            "notes.py:3 (fetch): raised OSError",
        ),
        ("def fetch(start, end)\n", "notes.py:1 (fetch): raised SyntaxError"),
        ("import nowhere_at_all\n", "notes.py:1 (fetch): raised ModuleNotFoundError"),
        ("def fetch():\n    return []\n", "raised TypeError"),
        ("fetch = 3\n", "there is no function 'fetch'"),
        (
            "def fetch(start, end):\n    return 3\n",
            "expected a polars frame, a pandas frame or an iterable of dicts, found int",
        ),
        ("def fetch(start, end):\n    return [3]\n", "expected rows as dicts, found int as row 1"),
        ("def fetch(start, end):\n    return [{'id': 1}]\n", "expected a column 'text', found 'id'"),
    ],
)
def test_a_function_that_fails_is_one_clear_error(tmp_path: Path, body: str, problem: str) -> None:
    with pytest.raises(SourceError) as error:
        read(tmp_path, body)
    assert problem in str(error.value)


def test_a_missing_file_or_a_wrong_reference_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"notes.py: there is no such file"):
        read_rows(project(tmp_path, {"python": "notes.py:fetch"}))
    with pytest.raises(SourceError, match=r"expected file.py:function, found 'notes.fetch'"):
        read_rows(project(tmp_path, {"python": "notes.fetch"}))
