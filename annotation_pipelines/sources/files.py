"""Records in CSV, Parquet and JSON Lines files: local ones, globs, and objects behind a URL.

CSV values stay text, as written: an id "007" does not become 7. A line without any value is no row. Files must be
UTF-8, with or without a byte order mark, and end their lines in either way. Of several files the columns are united.
"""

from __future__ import annotations

import glob
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import polars as pl

from annotation_pipelines.errors import SourceError
from annotation_pipelines.project import Project, RecordColumns
from annotation_pipelines.sources.columns import require_columns
from annotation_pipelines.sources.frames import frame_of_rows
from annotation_pipelines.sources.redaction import first_lines, redacted

_WILDCARDS = "*?["


def read_files(project: Project, kind: str, locations: str | list[str], columns: RecordColumns) -> pl.DataFrame:
    """All rows of some files, in the order of the locations and, in a glob, of the names.

    Args:
        project: Relative paths start in its folder.
        kind: csv, parquet or jsonl.
        locations: Paths, globs or object-store URLs (s3://, gs://, az://, https://).
        columns: What the declaration names; each CSV or Parquet file must have these.

    Raises:
        SourceError: A file is missing, is not what it should be, or lacks a column; or a glob matches nothing.
    """
    files = [
        f for location in ([locations] if isinstance(locations, str) else locations) for f in _files(project, location)
    ]
    frames = []
    for file in files:
        where = redacted(file)
        frame = _read(file, kind, where)
        if kind != "jsonl":
            require_columns(frame.columns, columns, where)
        frames.append(frame)
    try:
        rows = pl.concat(frames, how="diagonal_relaxed")
    except pl.exceptions.PolarsError as error:
        raise SourceError(
            f"the files have columns of different types: {first_lines(error)}",
            where=", ".join(redacted(file) for file in files[:3]),
            todo="Write the column with one type in all of them",
        ) from None
    if rows.width or kind != "jsonl":
        require_columns(rows.columns, columns, ", ".join(redacted(file) for file in files[:3]))
    return rows


def _files(project: Project, location: str) -> list[str]:
    """The files that a location names."""
    path = project.resolve(location)
    if "://" in path or Path(path).is_file():
        return [path]
    if Path(path).is_dir():
        raise SourceError("expected a file, found a folder", where=path, todo=f"Write {location.rstrip('/')}/*")
    if not any(character in location for character in _WILDCARDS):
        beside = sorted(p.name for p in Path(path).parent.glob("*") if p.is_file())
        there = f"; its folder has {', '.join(beside[:5])}{', ...' if len(beside) > 5 else ''}" if beside else ""
        raise SourceError(
            f"there is no such file{there}",
            where=path,
            todo="Correct the path in defs.yaml; relative paths start beside it",
        )
    # Beside the folder, not with it in the pattern: its name may hold brackets.
    names = glob.glob(location, root_dir=project.folder, recursive=True)  # noqa: PTH207
    matches = sorted(match for match in map(project.resolve, names) if Path(match).is_file())
    if not matches:
        raise SourceError(
            "no file matches this pattern", where=path, todo="Correct it in defs.yaml; relative paths start beside it"
        )
    return matches


def _read(file: str, kind: str, where: str) -> pl.DataFrame:
    remote = "://" in file
    try:
        match kind:
            case "csv":
                frame = pl.scan_csv(file, infer_schema=False, glob=remote).collect()
                return frame.filter(~pl.all_horizontal(pl.all().is_null()))
            case "parquet":
                return pl.scan_parquet(file, glob=remote).collect()
            case _:
                return frame_of_rows(json_rows(pl.scan_lines(file, glob=remote).collect().to_series(), where))
    except pl.exceptions.NoDataError:
        raise SourceError(
            "expected a header line, found an empty file", where=where, todo="Was it written to the end?"
        ) from None
    except (pl.exceptions.PolarsError, OSError, UnicodeError) as error:
        problem = first_lines(error)
        if "utf-8" in problem.lower() or "utf8" in problem.lower():
            raise SourceError(
                "expected UTF-8 text, found bytes that are not",
                where=where,
                todo="Convert it, as in: iconv -f latin1 -t utf-8 FILE > NEW",
            ) from None
        raise SourceError(
            f"cannot be read as {kind}: {problem}", where=where, todo=_ADVICE.get(kind, "Write the file again")
        ) from None


_ADVICE = {
    "csv": 'Check that each row has as many fields as the header, and that quotes inside a field are doubled ("")',
    "parquet": "Was it written to the end, and is it Parquet?",
}


def json_rows(lines: Iterable[str], where: str) -> Iterator[dict[str, Any]]:
    """The objects of JSON Lines; empty lines are passed over.

    Raises:
        SourceError: A line is no JSON object.
    """
    for number, line in enumerate(lines, start=1):
        text = line.removeprefix("\ufeff").strip() if number == 1 else line.strip()
        if not text:
            continue
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise SourceError(
                f"expected one JSON object a line, found {text[:80]!r} ({error})", where=f"{where}:{number}"
            ) from None
        if not isinstance(row, dict):
            raise SourceError(f"expected a JSON object, found {text[:80]!r}", where=f"{where}:{number}")
        yield row
