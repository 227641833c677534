"""The file with labels that people gave later: id, label, and optionally annotator and labelled_at."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from annotation_pipelines.content import Content
from annotation_pipelines.errors import SourceError
from annotation_pipelines.partitions import UTC_TIME
from annotation_pipelines.sources.frames import as_plain_text
from annotation_pipelines.sources.times import event_times
from annotation_pipelines.tasks.base import Invalid, Task

COLUMNS = ("id", "label", "annotator", "labelled_at")
REQUIRED = COLUMNS[:2]
SUGGESTED = "suggested"
"""A column that only review queues have: their lines without a label are passed over."""

SCHEMA = pl.Schema({"record_id": pl.String(), "label": pl.String(), "person": pl.String(), "labelled_at": UTC_TIME})


def read_person_labels(file: Path, task: Task, contents: Mapping[str, str], timezone: str) -> pl.DataFrame:
    """The labels in a CSV file, in its order, several for one record included.

    Args:
        file: UTF-8, with a header; further columns are ignored. In a review queue, which has a column `suggested`,
            lines without a label are passed over.
        task: What labels may be; what has a structure stands as JSON.
        contents: The content of every known record, as it is stored, by its id.
        timezone: Of times that name none.

    Returns:
        record_id, label, person, labelled_at; the last two null where unknown.

    Raises:
        SourceError: The file cannot be read, lacks a column, or has a line without id, with a label that the task does
            not have, or with a time that is none. The message names the line.
    """
    rows, lines = _read(file)
    frame = pl.DataFrame(rows, schema=dict.fromkeys(COLUMNS, pl.String()), orient="row")
    frame = frame.with_columns(
        pl.col("label", "annotator", "labelled_at").str.strip_chars(),
        line=pl.Series(lines, dtype=pl.Int64),
    ).with_columns(time=event_times(frame["labelled_at"], timezone))
    _refuse(frame.filter(pl.col("id").str.strip_chars() == ""), file, "id", "an id", "Add the record's id")
    canonical = [
        _canonical(task, label, contents.get(record_id), f"{file}:{line}")
        for record_id, label, line in frame.select("id", "label", "line").iter_rows()
    ]
    no_time = frame.filter(pl.col("time").is_null() & (pl.col("labelled_at") != ""))
    _refuse(no_time, file, "labelled_at", "a time such as 2020-02-20T06:43:18Z", "Correct it, or leave it empty")
    return frame.select(
        record_id="id",
        label=pl.Series(canonical, dtype=pl.String),
        person=pl.when(pl.col("annotator") != "").then("annotator"),
        labelled_at="time",
    )


def latest(labels: pl.DataFrame) -> pl.DataFrame:
    """One label a record: the one that was given last; without times, the last in the file."""
    return (
        labels.with_row_index("position")
        .sort("labelled_at", "position", nulls_last=False)
        .unique("record_id", keep="last", maintain_order=True)
        .sort("position")
        .drop("position")
    )


def _read(file: Path) -> tuple[list[list[str]], list[int]]:
    """The fields of each line, in the order of `COLUMNS`, and the number of its last line."""
    rows, lines = list[list[str]](), list[int]()
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            header = reader.fieldnames or []
            if missing := [name for name in REQUIRED if name not in header]:
                raise SourceError(
                    f"expected the columns id and label, found {', '.join(header) or 'an empty file'}; "
                    f"{missing[0]} is missing",
                    where=file,
                    todo="Write the header: id,label,annotator,labelled_at",
                )
            queue = SUGGESTED in header
            for row in reader:
                if queue and not _plain(row.get("label")).strip():
                    continue  # nobody has looked at it yet
                rows.append([_plain(row.get(name)) for name in COLUMNS])
                lines.append(reader.line_num)
    except OSError as error:
        raise SourceError(
            f"the people's labels cannot be read: {error.strerror}",
            where=file,
            todo="Put the file there, if only with the header: id,label,annotator,labelled_at",
        ) from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"expected CSV in UTF-8: {error}", where=file, todo="Save it as CSV in UTF-8") from None
    return rows, lines


def _canonical(task: Task, given: str, content: str | None, where: str) -> str:
    """The label as it is stored; that of a record which is not known is left as it is where it depends on it."""
    if content is None and task.reads_content:
        return given
    try:
        return task.canonical(given, Content.read(content or ""))
    except Invalid as problem:
        raise SourceError(str(problem), where=where, todo="Correct it, or take the line out") from None


def _plain(value: str | None) -> str:
    return (as_plain_text(value) or "").replace("\0", "\ufffd")


def _refuse(wrong: pl.DataFrame, file: Path, column: str, expected: str, todo: str) -> None:
    if wrong.is_empty():
        return
    row = wrong.row(0, named=True)
    more = f" (and so on {len(wrong) - 1} more lines)" if len(wrong) > 1 else ""
    raise SourceError(f"expected {expected}, found {row[column]!r}{more}", where=f"{file}:{row['line']}", todo=todo)
