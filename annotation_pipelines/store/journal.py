"""The journal: every reply, raw, on disk the moment it arrives, before anything parses it.

One append-only file a writing process, one line a reply: a CRC-32 of the text, a blank, the row of `llm_calls` as
JSON. Folding copies the lines into `llm_calls` and removes the file. A journal whose writer was killed is folded by
the next run; the line the kill cut short fails its checksum and is set aside, never taken for an answer.
"""

from __future__ import annotations

import json
import logging
import os
import time
import uuid
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import duckdb
import polars as pl
from filelock import FileLock, Timeout

from annotation_pipelines.errors import StoreError
from annotation_pipelines.store.database import Store
from annotation_pipelines.store.schema import LLM_CALLS

SYNC_EVERY_SECONDS = 0.05

_POLARS_TYPES: dict[str, Any] = {
    "VARCHAR": pl.String,
    "INTEGER": pl.Int32,
    "BIGINT": pl.Int64,
    "DOUBLE": pl.Float64,
    "TIMESTAMPTZ": pl.Datetime("us", "UTC"),
}


@dataclass(frozen=True)
class Folded:
    """What folding found.

    Attributes:
        replies: Replies that the ledger did not have yet.
        damaged: Lines that failed their checksum; their files are kept in `journal/damaged/`.
    """

    replies: int = 0
    damaged: int = 0


class Journal:
    """The journal of one process, as a context manager.

    Args:
        home: The project's storage folder.
    """

    def __init__(self, home: Path) -> None:
        self.folder = home / "journal"
        self.path = self.folder / f"{time.strftime('%Y%m%dT%H%M%S')}-{uuid.uuid4().hex[:12]}.jsonl"
        self._lock = FileLock(f"{self.path}.lock")
        self._file = -1
        self._synced = 0.0

    def __enter__(self) -> Journal:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
            self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_EXCL, 0o600)
        except OSError as error:
            raise self._unwritable(error) from None
        return self

    def append(self, row: Mapping[str, Any]) -> None:
        """Write one row of `llm_calls`; it is in the file when this returns, and on the disk within 50 ms of work.

        Raises:
            StoreError: The disk is full or gone. The row may be lost; rows before it are not.
        """
        text = json.dumps(row, ensure_ascii=True, default=str).encode()
        line = b"%08x %s\n" % (zlib.crc32(text), text)
        try:
            written = os.write(self._file, line)
            if written != len(line):
                raise OSError("no space left on device")
            now = time.monotonic()
            if now - self._synced >= SYNC_EVERY_SECONDS:
                os.fdatasync(self._file)
                self._synced = now
        except OSError as error:
            raise self._unwritable(error) from None

    def fold(self, store: Store) -> Folded:
        """Copy what was written so far into the ledger and start over with an empty file."""
        folded = _fold_file(self.path, store)
        os.ftruncate(self._file, 0)
        return folded

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        empty = os.fstat(self._file).st_size == 0
        os.close(self._file)
        if empty:
            self.path.unlink(missing_ok=True)
        self._lock.release()
        Path(self._lock.lock_file).unlink(missing_ok=True)

    def _unwritable(self, error: OSError) -> StoreError:
        return StoreError(
            f"the journal cannot be written: {error.strerror or error}",
            where=self.path,
            todo="Free the disk or make the folder writable, and run again: replies written before are kept",
        )


def fold_leftovers(store: Store) -> Folded:
    """Fold the journals of runs that ended without doing so; those of living runs are left alone."""
    replies = damaged = 0
    for path in sorted((store.home / "journal").glob("*.jsonl")):
        lock = FileLock(f"{path}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        try:
            if path.exists():
                folded = _fold_file(path, store)
                replies, damaged = replies + folded.replies, damaged + folded.damaged
                path.unlink(missing_ok=True)
        finally:
            lock.release()
            Path(lock.lock_file).unlink(missing_ok=True)
    return Folded(replies, damaged)


def read_journal(path: Path) -> tuple[pl.DataFrame, int]:
    """The whole rows of a journal file, and how many lines failed their checksum."""
    rows, damaged = [], 0
    for line in path.read_bytes().split(b"\n"):
        if not line:
            continue
        checksum, _, text = line.partition(b" ")
        try:
            if int(checksum, 16) != zlib.crc32(text):
                raise ValueError
            rows.append(json.loads(text))
        except ValueError:
            damaged += 1
    schema = {c.name: pl.String if c.type == "TIMESTAMPTZ" else _POLARS_TYPES[c.type] for c in LLM_CALLS.columns}
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    return frame.with_columns(pl.col("called_at").str.to_datetime(time_zone="UTC", time_unit="us")), damaged


def _fold_file(path: Path, store: Store) -> Folded:
    frame, damaged = read_journal(path)
    if damaged:
        keep = path.parent / "damaged" / path.name
        keep.parent.mkdir(exist_ok=True)
        keep.write_bytes(path.read_bytes())
        logging.getLogger(__name__).warning(
            "%s: %d damaged lines set aside in %s; the other %d replies are kept",
            path.name,
            damaged,
            keep,
            len(frame),
        )
    if frame.is_empty():
        return Folded(0, damaged)
    with store.transaction() as con:
        return Folded(_add_new(con, frame), damaged)


def _add_new(con: duckdb.DuckDBPyConnection, frame: pl.DataFrame) -> int:
    columns = ", ".join(LLM_CALLS.column_names)
    con.register("_journal", frame.select(LLM_CALLS.column_names).to_arrow())
    try:
        row = con.execute(f"INSERT OR IGNORE INTO llm_calls ({columns}) SELECT {columns} FROM _journal").fetchone()
    finally:
        con.unregister("_journal")
    return int(row[0]) if row else 0
