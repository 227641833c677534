"""Texts out of files and streams: the project's columns, any length, and one clear error where something is wrong."""

from __future__ import annotations

import io
from pathlib import Path

import polars as pl
import pytest

from annotation_pipelines.content import Content
from annotation_pipelines.errors import AnnotationPipelinesError, SourceError
from annotation_pipelines.project import RecordColumns
from annotation_pipelines.serving import reading
from annotation_pipelines.serving.reading import Kind, Texts, kind_of, read_chunks

COLUMNS = Texts.declared(RecordColumns(id="number", text="{title}. {body}"))
PARTS = Texts.declared(RecordColumns(parts={"question": "{asked}", "answer": "{said}"}))
ROWS = pl.DataFrame({"number": [7, 8], "title": ["One", None], "body": ["a, b\nc", "d"]})


def read(text: str, kind: Kind, texts: Texts = COLUMNS) -> pl.DataFrame:
    return pl.concat(read_chunks(io.BytesIO(text.encode()), kind, texts))


@pytest.mark.parametrize("ending", ["csv", "jsonl", "ndjson", "parquet"])
def test_rows_become_the_contents_that_records_would_have(tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"rows.{ending}"
    {"csv": ROWS.write_csv, "parquet": ROWS.write_parquet}.get(ending, ROWS.write_ndjson)(file)
    (found,) = read_chunks(file, kind_of(file), COLUMNS)
    assert found.rows() == [("7", "One. a, b\nc"), ("8", ". d")]
    assert found.columns == ["number", "content"]


def test_lines_are_texts_and_blank_ones_are_left_out() -> None:
    assert read("\ufeffone\r\n\n  two \n", "txt")["content"].to_list() == ["one", "two"]
    assert list(read_chunks(io.BytesIO(b""), "txt", COLUMNS)) == []


def test_a_record_of_several_parts_is_a_json_object_on_a_line() -> None:
    found = read('{"answer": "no", "question": "why?"}\n', "txt", PARTS)
    assert found["content"].to_list() == [Content.of_parts({"question": "why?", "answer": "no"}).stored]
    assert read('{"asked": "why?", "said": ""}', "jsonl", PARTS)["content"].to_list() == [
        Content.of_parts({"question": "why?", "answer": ""}).stored
    ]


def test_another_column_or_template_may_be_named() -> None:
    line = '{"a": "x", "b": "y"}'
    assert read(line, "jsonl", Texts.declared(RecordColumns(), "b"))["content"].to_list() == ["y"]
    assert read(line, "jsonl", Texts.declared(RecordColumns(), "{b}-{a}"))["content"].to_list() == ["y-x"]


def test_a_long_file_comes_in_chunks_in_its_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(reading, "_CHUNK", 3)
    whole = [f"text {row}" for row in range(8)]
    file = tmp_path / "rows.parquet"
    pl.DataFrame({"title": whole, "body": whole}).write_parquet(file)
    for chunks in (
        list(read_chunks(io.BytesIO("\n".join(whole).encode()), "txt", COLUMNS)),
        list(read_chunks(file, "parquet", Texts.declared(RecordColumns(), "title"))),
    ):
        assert [chunk.height for chunk in chunks] == [3, 3, 2]
        assert pl.concat(chunks)["content"].to_list() == whole


@pytest.mark.parametrize(
    ("text", "kind", "problem"),
    [
        ("title\nx\n", "csv", "expected a column 'body', found 'title'"),
        ("", "csv", "empty file"),
        ("title,body\nx\n", "csv", r":2: expected 2 fields.*found 1"),
        ("title,body\nx,y,z\n", "csv", r":2: expected 2 fields.*found 3"),
        ('title,body\n"x,y\n', "csv", "expected CSV"),
        ('{"title": "a", "body": "b"}\nnonsense\n', "jsonl", ":2: expected one JSON object a line"),
        ("[1]\n", "jsonl", ":1: expected a JSON object"),
        ("anything", "parquet", "cannot be read from a stream"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text: str, kind: Kind, problem: str) -> None:
    with pytest.raises(SourceError, match=problem) as caught:
        read(text, kind)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes("schön".encode("latin-1"))
    (tmp_path / "half.parquet").write_bytes(b"PAR1")
    for name, problem in (("latin.txt", "UTF-8"), ("half.parquet", "as Parquet"), ("none.csv", "No such file")):
        with pytest.raises(SourceError, match=problem):
            list(read_chunks(tmp_path / name, kind_of(tmp_path / name), COLUMNS))
    with pytest.raises(AnnotationPipelinesError, match=r"ending in \.txt, \.csv, \.jsonl, \.parquet"):
        kind_of(tmp_path / "rows.xlsx")
    with pytest.raises(SourceError, match="with a text for question, answer"):
        read('{"question": "a"}', "txt", PARTS)
