"""Write a table to a file that other tools read."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from annotation_pipelines.errors import WorkspaceError
from annotation_pipelines.project import Project
from annotation_pipelines.store.database import Store
from annotation_pipelines.store.schema import TABLES

FORMATS = (".csv", ".jsonl", ".parquet")


def export_table(store: Store, table: str, file: Path) -> int:
    """Write a table, with the text of each record where the table has records but no text.

    Args:
        file: Its ending names the format; a file that is there is replaced whole, never left half written.

    Returns:
        How many rows were written.

    Raises:
        WorkspaceError: The ending is not one of FORMATS, or the file cannot be written.
    """
    _check(file)
    columns = TABLES[table].column_names
    with_text = "record_id" in columns and "content" not in columns
    frame = store.query(
        f"SELECT t.*, r.content FROM {table} t LEFT JOIN records r USING (record_id) ORDER BY ALL"
        if with_text
        else f"SELECT * FROM {table} ORDER BY ALL"
    )
    return _replace(frame, file)


def export_review_queue(store: Store, project: Project, file: Path) -> int:
    """Write what people should look at: abstained predictions, and records of which student and teacher differ.

    Filled in, the file is one that `human_labels` can name; see `review_queue`.

    Args:
        file: As for `export_table`.

    Returns:
        How many rows were written.

    Raises:
        WorkspaceError: The ending is not one of FORMATS, or the file cannot be written.
    """
    from annotation_pipelines.distillation.review import review_queue

    _check(file)
    return _replace(review_queue(store, project), file)


def _check(file: Path) -> None:
    if file.suffix not in FORMATS:
        raise WorkspaceError(f"expected a file ending in {', '.join(FORMATS)}, found {file.name!r}", where=file)


def _replace(frame: pl.DataFrame, file: Path) -> int:
    part = file.with_name(f".{file.name}.part")
    try:
        _write(frame, part, file.suffix)
        part.replace(file)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise WorkspaceError(f"cannot be written: {error.strerror or error}", where=file) from None
    return len(frame)


def _write(frame: pl.DataFrame, file: Path, suffix: str) -> None:
    match suffix:
        case ".csv":
            frame.write_csv(file)
        case ".jsonl":
            frame.write_ndjson(file)
        case _:
            frame.write_parquet(file)
