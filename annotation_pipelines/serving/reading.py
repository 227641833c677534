"""Texts to be predicted, out of files and streams, a chunk at a time: memory does not grow with the file."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any, Literal, TypeVar, cast

import polars as pl

from annotation_pipelines.content import SOLE, Content
from annotation_pipelines.errors import SourceError
from annotation_pipelines.project import RecordColumns
from annotation_pipelines.sources.columns import Template, as_text, without_nul
from annotation_pipelines.sources.files import json_rows
from annotation_pipelines.sources.frames import frame_of_rows

Kind = Literal["txt", "csv", "jsonl", "parquet"]
KINDS: tuple[Kind, ...] = ("txt", "csv", "jsonl", "parquet")

Row = TypeVar("Row")

_CHUNK = 8_192
_LONGEST_FIELD = 1 << 26  # characters of a CSV field; the csv module's own limit is 131,072


@dataclass(frozen=True)
class Texts:
    """Which columns make a content.

    Attributes:
        templates: The template of every part, by name.
        id: The column with the id, kept where a file has it.
        line: The name under which a line of a text file stands, where lines are texts; None: they are JSON objects.
    """

    templates: Mapping[str, str]
    id: str
    line: str | None

    @classmethod
    def declared(cls, source: RecordColumns, text: str | None = None) -> Texts:
        """As a project's source declares them.

        Args:
            text: A column, or a template over columns, in place of what is declared.
        """
        if text is None:
            return cls(source.templates, source.id, SOLE if source.parts is None else None)
        return cls({SOLE: text if "{" in text else f"{{{text}}}"}, source.id, SOLE)


def kind_of(file: Path) -> Kind:
    """What kind of file it is, by its ending.

    Raises:
        SourceError: It has another ending.
    """
    ending = file.suffix.lower().removeprefix(".")
    if ending == "ndjson":
        return "jsonl"
    if ending not in KINDS:
        raise SourceError(
            f"expected a file ending in {', '.join('.' + kind for kind in KINDS)}, found {file.name!r}",
            where=file,
            todo="Rename it, or say what it is with --format",
        )
    return ending


def read_chunks(file: Path | IO[bytes], kind: Kind, texts: Texts) -> Iterator[pl.DataFrame]:
    """The contents of a file or stream, in its order, 8,192 at a time.

    Args:
        file: UTF-8 text, but for Parquet, which cannot be a stream.
        kind: txt: a text a line, or a JSON object with the parts, where a record has several; lines without text are
            left out. csv, jsonl, parquet: a record a row.

    Yields:
        The id, where there is a column of that name, as text, and content as it is stored; '' where it is empty.

    Raises:
        SourceError: It cannot be read, is not what it should be, or lacks a column; the message names the line.
    """
    where = str(file) if isinstance(file, Path) else "standard input"
    try:
        if kind == "parquet":
            if not isinstance(file, Path):
                raise SourceError("expected a file: Parquet cannot be read from a stream", where=where)
            for frame in _parquet(file):
                yield _contents(frame, texts, where)
            return
        with _text(file) as stream:
            if kind == "txt" and texts.line is not None:
                for lines in _chunks(line for line in (line.strip() for line in stream) if line):
                    yield pl.DataFrame(
                        {"content": [Content.of_text(line.replace("\0", "\ufffd")).stored for line in lines]}
                    )
            elif kind == "csv":
                for rows in _chunks(_csv_rows(stream, where)):
                    yield _contents(pl.DataFrame(rows, schema=dict.fromkeys(rows[0], pl.String())), texts, where)
            else:
                for rows in _chunks(json_rows(stream, where)):
                    if kind == "txt":
                        yield _parts(rows, texts, where)
                    else:
                        yield _contents(frame_of_rows(rows), texts, where)
    except UnicodeDecodeError:
        raise SourceError(
            "expected UTF-8 text, found bytes that are not",
            where=where,
            todo="Convert it, as in: iconv -f latin1 -t utf-8 FILE > NEW",
        ) from None
    except OSError as error:
        raise SourceError(f"cannot be read: {error.strerror or error}", where=where) from None


def contents_of(frame: pl.DataFrame, templates: Mapping[str, str]) -> pl.Series:
    """The content of every row of a frame that has the templates' columns, as it is stored; '' where all is empty."""
    schema = frame.schema
    parts = frame.select(**{name: Template.parse(t).render(schema).str.strip_chars() for name, t in templates.items()})
    if parts.columns == [SOLE]:
        return pl.Series("content", [Content.of_text(text).stored for (text,) in parts.iter_rows()], pl.String)
    stored = [
        Content.of_parts(dict(zip(parts.columns, row, strict=True))).stored if any(row) else ""
        for row in parts.iter_rows()
    ]
    return pl.Series("content", stored, pl.String)


def _contents(frame: pl.DataFrame, texts: Texts, where: str) -> pl.DataFrame:
    for template in texts.templates.values():
        for name in Template.parse(template).columns:
            if name not in frame.columns:
                raise SourceError(
                    f"expected a column {name!r}, found {', '.join(map(repr, frame.columns)) or 'no columns'}",
                    where=where,
                    todo="Name the column with the text, or a template over columns, with --text",
                )
    frame = without_nul(frame)
    kept = [frame.select(as_text(texts.id, frame.schema[texts.id])).to_series()] if texts.id in frame.columns else []
    return pl.DataFrame([*kept, contents_of(frame, texts.templates)])


def _parts(rows: list[dict[str, Any]], texts: Texts, where: str) -> pl.DataFrame:
    """Contents of lines that give the parts by name."""
    names = list(texts.templates)
    for row in rows:
        if set(row) != set(names):
            raise SourceError(
                f"expected on each line a JSON object with a text for {', '.join(names)}, found one for "
                f"{', '.join(row) or 'nothing'}",
                where=where,
                todo="Say what the columns are with --format jsonl, if it holds rows of the source",
            )
    return _contents(frame_of_rows(rows), Texts({name: f"{{{name}}}" for name in names}, texts.id, None), where)


def _chunks(rows: Iterable[Row]) -> Iterator[list[Row]]:
    given = iter(rows)
    while chunk := list(islice(given, _CHUNK)):
        yield chunk


def _text(file: Path | IO[bytes]) -> IO[str]:
    import io

    if isinstance(file, Path):
        return file.open(encoding="utf-8-sig", newline="")
    return io.TextIOWrapper(file, encoding="utf-8-sig", newline="")


def _csv_rows(stream: IO[str], where: str) -> Iterator[dict[str, str]]:
    csv.field_size_limit(_LONGEST_FIELD)
    reader = csv.DictReader(stream, strict=True)
    try:
        if not reader.fieldnames:
            raise SourceError("expected a header line, found an empty file", where=where)
        for row in reader:
            if None in row or None in row.values():
                found = (
                    len(row) - (None in row) + len(cast("Any", row).get(None) or ()) - list(row.values()).count(None)
                )
                raise SourceError(
                    f"expected {len(reader.fieldnames)} fields, as in the header, found {found}",
                    where=f"{where}:{reader.line_num}",
                    todo='Check that quotes inside a field are doubled ("")',
                )
            yield row
    except csv.Error as error:
        raise SourceError(f"expected CSV: {error}", where=f"{where}:{reader.line_num}") from None


def _parquet(file: Path) -> Iterator[pl.DataFrame]:
    import pyarrow
    import pyarrow.parquet as parquet

    try:
        with parquet.ParquetFile(file, buffer_size=1 << 20) as reader:
            for batch in reader.iter_batches(_CHUNK):
                yield pl.DataFrame(pl.from_arrow(batch))
    except pyarrow.ArrowException as error:
        problem = " ".join(str(error).split())[:200]
        raise SourceError(
            f"cannot be read as Parquet: {problem}", where=file, todo="Was it written to the end?"
        ) from None
