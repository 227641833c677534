"""CSV, Parquet and JSON Lines files."""

from __future__ import annotations

import gzip
from pathlib import Path

import polars as pl
import pytest

from annotation_pipelines.errors import SourceError
from annotation_pipelines.sources.rows import read_rows
from tests.sources.shop import unpartitioned

HEADER = b"id,text,tag\n"


def read(folder: Path, location: str | list[str] = "records.csv", kind: str = "csv") -> list[tuple[object, ...]]:
    return read_rows(unpartitioned(folder, {"csv": None, kind: location})).rows()


def csv(folder: Path, content: bytes, name: str = "records.csv") -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)


def test_csv_values_stay_as_written(tmp_path: Path) -> None:
    csv(tmp_path, HEADER + b"007,1.0,true\n,2020-01-01,\n")
    assert read(tmp_path) == [("007", "1.0", "true"), (None, "2020-01-01", None)]


def test_a_byte_order_mark_windows_lines_and_blank_lines_do_no_harm(tmp_path: Path) -> None:
    csv(tmp_path, b'\xef\xbb\xbfid,text,tag\r\n\r\n1,"a\r\nb, ""c""",good\r\n\r\n2,\xc3\xa9,\r\n\r\n')
    assert read(tmp_path) == [("1", 'a\r\nb, "c"', "good"), ("2", "é", None)]


def test_a_compressed_file_is_read(tmp_path: Path) -> None:
    csv(tmp_path, gzip.compress(HEADER + b"1,a,\n"), "records.csv.gz")
    assert read(tmp_path, "records.csv.gz") == [("1", "a", None)]


def test_a_header_alone_is_a_source_without_records(tmp_path: Path) -> None:
    csv(tmp_path, HEADER)
    assert read(tmp_path) == []


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "expected a header line, found an empty file"),
        (b"\xef\xbb\xbf", "expected a header line, found an empty file"),
        ("id,text,tag\n1,café,good\n".encode("latin1"), "expected UTF-8 text"),
        ("id,text,tag\n1,café,good\n".encode("utf-16"), "expected UTF-8 text"),
        (HEADER + b"1,a,good,more\n", "found more fields than defined"),
        (HEADER + b'1,"a,good\n2,b,good\n', "cannot be read as csv"),
        (b"id;text;tag\n1;a;good\n", "Separate the columns by commas"),
        (b"id,txt,tag\n1,a,good\n", "expected a column 'text', found 'id', 'txt', 'tag'. Did you mean 'txt'"),
    ],
)
def test_a_damaged_csv_file_is_one_clear_error(tmp_path: Path, content: bytes, problem: str) -> None:
    csv(tmp_path, content)
    with pytest.raises(SourceError) as error:
        read(tmp_path)
    assert problem in str(error.value)
    assert str(error.value).startswith(f"{tmp_path}/records.csv: ")


def test_a_missing_file_is_named_with_its_neighbours(tmp_path: Path) -> None:
    csv(tmp_path, HEADER, "record.csv")
    with pytest.raises(SourceError, match=r"records.csv: there is no such file; its folder has record.csv"):
        read(tmp_path)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    csv(tmp_path, HEADER, "data/a.csv")
    with pytest.raises(SourceError, match=r"expected a file, found a folder. Write data/\*"):
        read(tmp_path, "data/")


def test_a_glob_reads_the_files_in_the_order_of_their_names(tmp_path: Path) -> None:
    csv(tmp_path, HEADER + b"2,b,\n", "data/b.csv")
    csv(tmp_path, b"tag,id,text,more\ngood,1,a,x\n", "data/a.csv")
    expected = [("good", "1", "a", "x"), (None, "2", "b", None)]
    assert read(tmp_path, "data/*.csv") == expected
    assert read(tmp_path, "**/*.csv") == expected
    assert read(tmp_path, str(tmp_path / "data" / "?.csv")) == expected
    assert read(tmp_path, ["data/a.csv", "data/b.csv"]) == expected


def test_a_glob_without_a_match_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no file matches this pattern"):
        read(tmp_path, "data/*.csv")


def test_brackets_in_names_are_letters_where_there_is_such_a_file(tmp_path: Path) -> None:
    folder = tmp_path / "shop [old]"
    csv(folder, HEADER + b"1,a,\n", "a[1].csv")
    assert len(read(folder, "a[1].csv")) == len(read(folder, "*.csv")) == 1


def test_each_file_must_have_the_columns(tmp_path: Path) -> None:
    csv(tmp_path, HEADER + b"1,a,\n", "a.csv")
    csv(tmp_path, b"id,text\n2,b\n", "b.csv")
    with pytest.raises(SourceError, match=r"b.csv: expected a column 'tag', found 'id', 'text'"):
        read(tmp_path, "*.csv")


def test_parquet_files_of_differing_types_are_united(tmp_path: Path) -> None:
    pl.DataFrame({"id": [7], "text": ["a"], "tag": [None]}).write_parquet(tmp_path / "a.parquet")
    pl.DataFrame({"id": ["b"], "text": ["c"], "tag": ["good"]}).write_parquet(tmp_path / "b.parquet")
    assert read(tmp_path, "*.parquet", "parquet") == [("7", "a", None), ("b", "c", "good")]


def test_what_is_not_parquet_is_one_clear_error(tmp_path: Path) -> None:
    csv(tmp_path, HEADER, "a.parquet")
    with pytest.raises(SourceError, match=r"a.parquet: cannot be read as parquet"):
        read(tmp_path, "a.parquet", "parquet")


def test_json_lines_may_mix_types_lack_keys_and_hold_half_a_surrogate_pair(tmp_path: Path) -> None:
    csv(
        tmp_path,
        b'\xef\xbb\xbf{"id": 1, "text": "a\\ud800", "tag": null}\r\n\r\n'
        b'{"id": "b2", "text": "\\ud83d\\ude00", "n": {"k": 1}}\n',
        "a.jsonl",
    )
    assert read(tmp_path, "a.jsonl", "jsonl") == [("1", "a\ufffd", None, None), ("b2", "😀", None, '{"k": 1}')]


def test_an_empty_json_lines_file_has_no_records(tmp_path: Path) -> None:
    csv(tmp_path, b"", "a.jsonl")
    csv(tmp_path, b'{"id": 1, "text": "a", "tag": null}', "b.jsonl")
    assert read(tmp_path, "a.jsonl", "jsonl") == []
    assert read(tmp_path, "*.jsonl", "jsonl") == [(1, "a", None)]


@pytest.mark.parametrize("line", [b'{"id": 1, "text"', b"[1, 2]", b'"text"', b"id,text,tag"])
def test_a_line_that_is_no_json_object_is_named(tmp_path: Path, line: bytes) -> None:
    csv(tmp_path, b'{"id": 1, "text": "a", "tag": null}\n\n' + line + b"\n", "a.jsonl")
    with pytest.raises(SourceError, match=r"a.jsonl:3: expected (one|a) JSON object"):
        read(tmp_path, "a.jsonl", "jsonl")


def test_json_lines_that_are_not_utf_8_are_refused(tmp_path: Path) -> None:
    csv(tmp_path, '{"id": 1, "text": "é"}'.encode("latin1"), "a.jsonl")
    with pytest.raises(SourceError, match="expected UTF-8 text"):
        read(tmp_path, "a.jsonl", "jsonl")


def test_a_url_that_cannot_be_read_is_an_error_without_its_credentials(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as error:
        read(tmp_path, "unheard-of://someone:s3cret@host/a.parquet?X-Signature=abcdef", "parquet")
    assert "s3cret" not in str(error.value)
    assert "abcdef" not in str(error.value)
    assert "host/a.parquet" in str(error.value)


def test_a_local_url_is_read(tmp_path: Path) -> None:
    pl.DataFrame({"id": [7], "text": ["a"], "tag": ["good"]}).write_parquet(tmp_path / "a.parquet")
    assert read(tmp_path, f"file://{tmp_path}/*.parquet", "parquet") == [(7, "a", "good")]
