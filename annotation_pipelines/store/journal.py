"""The journal: every reply, raw, on disk the moment it arrives, before anything parses it.

One append-only file a writing process, in segments, one line a reply (see `journal_lines`). Folding copies the lines
into `llm_calls` and moves the segment into the archive. A journal whose writer was killed is folded by the next run;
the line the kill cut short fails its checksum and is set aside, never taken for an answer.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import polars as pl
from filelock import FileLock, Timeout

from annotation_pipelines.store.archive import archive, restore
from annotation_pipelines.store.database import Store, cannot_write, writing
from annotation_pipelines.store.journal_lines import add_rows, decode, encode

SYNC_EVERY_SECONDS = 0.05

RESERVE_BYTES = 4 * 2**20
"""Disk space that a journal sets apart at its start: on a full disk the replies in flight still find room there."""


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
    """The journal of one process, as a context manager. Threads may append while another folds.

    It is written in segments: folding begins a new one and copies the old one into the ledger. Beside them lies a file
    of reserved space, for the replies that are in flight when the disk is full.

    Args:
        home: The project's storage folder.
    """

    def __init__(self, home: Path) -> None:
        self.folder = home / "journal"
        self._session = f"{time.strftime('%Y%m%dT%H%M%S')}-{uuid.uuid4().hex[:12]}"
        self._segment = 0
        self._process_lock = FileLock(self.folder / f"{self._session}.lock", thread_local=False)
        self._turn = threading.Lock()
        self._file = self._reserve = -1
        self._reserve_used = 0
        self._unsynced = self._torn = False
        self._broken: OSError | None = None
        self._closed = threading.Event()
        self._syncing = threading.Thread(target=self._sync_now_and_then, name="journal", daemon=True)

    @property
    def path(self) -> Path:
        """The segment that is written now."""
        return self.folder / f"{self._session}-{self._segment:04d}.jsonl"

    def __enter__(self) -> Journal:
        with writing(self.path):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._process_lock.acquire()
            try:
                self._file = self._begin()
                self._reserve = os.open(self._reserve_path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
                _allocate(self._reserve)
            except OSError:
                self._reserve_path.unlink(missing_ok=True)
                self.path.unlink(missing_ok=True)
                self._process_lock.release()
                raise
        self._syncing.start()
        return self

    def append(self, row: Mapping[str, Any]) -> None:
        """Write one row of `llm_calls`; it is in the file when this returns, and on the disk within 50 ms.

        Raises:
            StoreError: The disk is full or gone. The row is kept, too, as long as the reserved space lasts.
        """
        line = encode(row)
        with self._turn:
            # What is left of a line that did not fit must not spoil the next one, should there be room again.
            if self._torn:
                line = b"\n" + line
            self._torn = True
            try:
                if self._broken:
                    raise self._broken
                if os.write(self._file, line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError as error:
                self._append_to_reserve(line)
                raise cannot_write(self.path, error) from None
            self._torn = False
            self._unsynced = True

    def fold(self, store: Store) -> Folded:
        """Copy what was written so far into the ledger, and go on in a new segment.

        Raises:
            StoreError: The store or the journal cannot be written. What could not be copied, the next run copies.
        """
        with self._turn, writing(self.path):
            if not os.fstat(self._file).st_size:
                return Folded()
            full, path = self._file, self.path
            self._segment += 1
            try:
                self._file = self._begin()
            except OSError:
                self._segment -= 1
                raise
            self._unsynced = self._torn = False
        with writing(path):
            try:
                os.fdatasync(full)  # the store may be a while in coming
            finally:
                os.close(full)
        return _fold_file(path, store)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        self._syncing.join()
        os.close(self._reserve)
        self._reserve_path.unlink(missing_ok=True)
        empty = os.fstat(self._file).st_size == 0
        os.close(self._file)
        if empty:
            self.path.unlink(missing_ok=True)
        self._process_lock.release()
        Path(self._process_lock.lock_file).unlink(missing_ok=True)

    @property
    def _reserve_path(self) -> Path:
        return self.folder / f"{self._session}.reserve"

    def _append_to_reserve(self, line: bytes) -> None:
        """Write a line where there is room for certain, unless so many came that it is used up."""
        if self._reserve_used + len(line) > RESERVE_BYTES:
            return
        with suppress(OSError):
            self._reserve_used += os.pwrite(self._reserve, line, self._reserve_used)
            os.fdatasync(self._reserve)
            if self._reserve_path.exists():  # from now on it is a segment as any other, and the next run folds it
                self._reserve_path.rename(self.folder / f"{self._session}-reserve.jsonl")

    def _begin(self) -> int:
        return os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_EXCL, 0o600)

    def _sync_now_and_then(self) -> None:
        """A slow disk must not hold up the replies that arrive meanwhile: syncing has a thread of its own."""
        last = False
        while not last:
            last = self._closed.wait(SYNC_EVERY_SECONDS)
            with self._turn:
                if not self._unsynced:
                    continue
                self._unsynced = False
                file = os.dup(self._file)
            try:
                os.fdatasync(file)
            except OSError as error:
                self._broken = error
            finally:
                os.close(file)


def fold_leftovers(store: Store) -> Folded:
    """Fold the journals of runs that ended without doing so; those of living runs are left alone.

    What an older or a new database lacks of what was ever folded, comes back from the archive.

    Raises:
        StoreError: A journal cannot be read, or the store not written. The journals are where they were.
    """
    folder = store.home / "journal"
    replies, damaged = restore(store), 0
    for path in sorted(folder.glob("*.jsonl")):
        session = path.stem.rpartition("-")[0]
        lock = FileLock(folder / f"{session}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        except OSError as error:
            raise cannot_write(path, error) from None
        try:
            if path.exists():
                folded = _fold_file(path, store)
                replies, damaged = replies + folded.replies, damaged + folded.damaged
            path.with_name(f"{session}.reserve").unlink(missing_ok=True)
        finally:
            lock.release()
            Path(lock.lock_file).unlink(missing_ok=True)
    return Folded(replies, damaged)


def read_journal(path: Path) -> tuple[pl.DataFrame, int]:
    """The whole rows of a journal file, and how many lines failed their checksum."""
    return decode(path.read_bytes())


def _fold_file(path: Path, store: Store) -> Folded:
    with writing(path):
        rows, damaged = read_journal(path)
        if damaged:
            _set_aside(path, damaged, len(rows))
    replies = 0
    if not rows.is_empty():
        with store.transaction() as con:
            replies = add_rows(con, rows)
    with writing(path):
        if rows.is_empty():
            path.unlink()
        else:
            archive(path, len(rows))
    return Folded(replies, damaged)


def _allocate(file: int) -> None:
    """Set the reserved space apart."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, RESERVE_BYTES)
    elif os.pwrite(file, bytes(RESERVE_BYTES), 0) != RESERVE_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _set_aside(path: Path, damaged: int, whole: int) -> None:
    keep = path.parent / "damaged" / path.name
    keep.parent.mkdir(exist_ok=True)
    keep.write_bytes(path.read_bytes())
    logging.getLogger(__name__).warning(
        "%s: %d damaged lines set aside in %s; the other %d replies are kept", path.name, damaged, keep, whole
    )
