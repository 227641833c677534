"""The store of one project: a DuckDB file, opened for milliseconds at a time.

DuckDB lets one process write. So every use takes the same turn: a file lock, open, one transaction, close; calls,
encoding and training happen outside. Waits are bounded, announced, and name the process that is in the way, be it
another run of ours (it wrote its name beside the lock) or a person's DuckDB command line (DuckDB names it).
"""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
from filelock import FileLock, Timeout

from annotation_pipelines.errors import StoreCorrupted, StoreError, StoreLocked
from annotation_pipelines.store.attaching import attached
from annotation_pipelines.store.migrations import migrate
from annotation_pipelines.store.schema import TABLES

DEFAULT_WAIT_SECONDS = 300.0
ANNOUNCE_EVERY_SECONDS = 5.0
_POLL_SECONDS = 0.02
_MAKE_WRITABLE = "Free the disk or make the folder writable, and run again; nothing that was written before is lost"
_DISK_TROUBLE = tuple(
    os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS)
)

Announce = Callable[[str], None]


def wait_limit() -> float:
    """Seconds to wait for the store: ANNOTATION_PIPELINES_LOCK_WAIT, or five minutes."""
    value = os.environ.get("ANNOTATION_PIPELINES_LOCK_WAIT", "")
    try:
        return float(value) if value else DEFAULT_WAIT_SECONDS
    except ValueError:
        raise StoreError(
            f"expected a number of seconds, found {value!r}",
            where="environment variable ANNOTATION_PIPELINES_LOCK_WAIT",
        ) from None


class Store:
    """The tables of one project.

    Args:
        home: The project's storage folder; made when first used.
        announce: Told what one has to wait for: every few seconds when somebody else holds the store, and when long
            work begins that shows no progress; default: a warning in the log.
        wait: Seconds to wait for it; default: `wait_limit()`.
    """

    def __init__(self, home: Path, *, announce: Announce | None = None, wait: float | None = None) -> None:
        self.home = home
        self.path = home / f"{home.name}.duckdb"
        self.announce = announce or logging.getLogger(__name__).warning
        self._wait = wait

    # -- turns ---------------------------------------------------------------------------------------------------

    @contextmanager
    def transaction(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """One short transaction on an open connection; rolled back when the block raises.

        Raises:
            StoreLocked: Somebody else held the store for longer than the wait.
            StoreCorrupted: The file is damaged.
            StoreTooNew: A later version of this package wrote the file.
            StoreError: The disk is full, or the file cannot be written.
        """
        with self._turn() as con:
            try:
                con.execute("BEGIN")
                yield con
                con.execute("COMMIT")
            except BaseException as error:
                with suppress(duckdb.Error):  # after a failed COMMIT there is nothing to roll back
                    con.execute("ROLLBACK")
                for cause in _causes(error):
                    if trouble := _trouble(cause, self.path):
                        raise trouble from None
                raise

    def query(
        self, sql: str, params: Mapping[str, Any] | Sequence[Any] | None = None, **frames: pl.DataFrame
    ) -> pl.DataFrame:
        """The result of one statement as a polars frame; `frames` are visible in it by name."""
        with self.transaction() as con:
            return self.frame(con, sql, params, **frames)

    @staticmethod
    def frame(
        con: duckdb.DuckDBPyConnection,
        sql: str,
        params: Mapping[str, Any] | Sequence[Any] | None = None,
        **frames: pl.DataFrame,
    ) -> pl.DataFrame:
        """Like `query`, on a connection that is open already."""
        for name, frame in frames.items():
            con.register(name, frame.to_arrow())
        try:
            result: pl.DataFrame = con.sql(sql, params=params).pl()
            return result
        finally:
            for name in frames:
                con.unregister(name)

    # -- writes --------------------------------------------------------------------------------------------------

    def append(self, con: duckdb.DuckDBPyConnection, table: str, frame: pl.DataFrame) -> None:
        """Add rows. Columns go by name; those that are missing become null."""
        self._insert(con, "INSERT", table, frame)

    def upsert(self, con: duckdb.DuckDBPyConnection, table: str, frame: pl.DataFrame) -> None:
        """Add rows, replacing those with the same key."""
        self._insert(con, "INSERT OR REPLACE", table, frame)

    def replace(self, con: duckdb.DuckDBPyConnection, table: str, frame: pl.DataFrame, **where: str) -> None:
        """Put rows in the place of all rows for which the given columns have the given values."""
        condition = " AND ".join(f'"{column}" = ?' for column in where) or "true"
        con.execute(f"DELETE FROM {TABLES[table].name} WHERE {condition}", list(where.values()))
        self._insert(con, "INSERT OR REPLACE" if TABLES[table].key else "INSERT", table, frame)

    def record_stage(
        self,
        con: duckdb.DuckDBPyConnection,
        stage: str,
        partition_key: str,
        facts: Mapping[str, float | int | str | None],
        run_id: str | None = None,
    ) -> None:
        """Keep the counts of a stage's latest run on a partition."""
        con.execute(
            "INSERT OR REPLACE INTO stage_runs (stage, partition_key, facts, finished_at, run_id) "
            "VALUES (?, ?, ?, ?, ?)",
            [stage, partition_key, json.dumps(dict(facts)), datetime.now(UTC), run_id],
        )

    @staticmethod
    def _insert(con: duckdb.DuckDBPyConnection, verb: str, table: str, frame: pl.DataFrame) -> None:
        declared = TABLES[table]
        if unknown := set(frame.columns) - set(declared.column_names):
            raise ValueError(f"table {table} has no column {', '.join(sorted(unknown))}")
        if frame.is_empty():
            return
        columns = ", ".join(f'"{name}"' for name in frame.columns)
        con.register("_rows", frame.to_arrow())
        try:
            con.execute(f"{verb} INTO {table} ({columns}) SELECT {columns} FROM _rows")
        finally:
            con.unregister("_rows")

    # -- locking -------------------------------------------------------------------------------------------------

    @contextmanager
    def _turn(self) -> Iterator[duckdb.DuckDBPyConnection]:
        wait = _Wait(self.path, self.announce, self._wait if self._wait is not None else wait_limit())
        lock = FileLock(f"{self.path}.lock")
        with writing(self.home):
            self.home.mkdir(parents=True, exist_ok=True)
            _acquire(lock, self._holder_file, wait)
        try:
            with self._connected(wait) as con:
                yield con
        finally:
            with suppress(OSError):
                self._holder_file.unlink(missing_ok=True)
            lock.release()

    @property
    def _holder_file(self) -> Path:
        return Path(f"{self.path}.lock.holder")

    @contextmanager
    def _connected(self, wait: _Wait) -> Iterator[duckdb.DuckDBPyConnection]:
        with ExitStack() as stack:
            while True:
                try:
                    con = stack.enter_context(attached(self.path))
                    break
                except duckdb.Error as error:
                    holder = _duckdb_holder(str(error))
                    if holder is None:
                        raise _unusable(error, self.path) from None
                wait.pause(holder)
            try:
                con.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
                migrate(con, self.path)
            except duckdb.Error as error:
                raise _unusable(error, self.path) from None
            yield con


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Trouble with the disk, in our words.

    Raises:
        StoreError: The block raised OSError; the file or folder is named as what cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise cannot_write(path, error) from None


def cannot_write(path: Path, error: OSError) -> StoreError:
    """The disk is full or gone, or the folder is not writable."""
    return StoreError(f"cannot be written: {error.strerror or error}", where=path, todo=_MAKE_WRITABLE)


class _Wait:
    """A bounded, announced wait."""

    def __init__(self, path: Path, announce: Announce, limit: float) -> None:
        self.path, self.announce, self.limit = path, announce, limit
        self.start = self.announced = time.monotonic()

    def pause(self, holder: str) -> None:
        now = time.monotonic()
        if now - self.start >= self.limit:
            raise StoreLocked(
                f"held by {holder} for longer than {self.limit:g} seconds",
                where=self.path,
                todo="Close that program, or set ANNOTATION_PIPELINES_LOCK_WAIT to wait longer; nothing was lost",
            )
        if now - self.announced >= min(ANNOUNCE_EVERY_SECONDS, self.limit / 2):
            self.announced = now
            self.announce(f"{self.path.name} is held by {holder}; waiting, {now - self.start:.0f} s so far")
        time.sleep(_POLL_SECONDS)


def _acquire(lock: FileLock, holder_file: Path, wait: _Wait) -> None:
    while True:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            wait.pause(_our_holder(holder_file))
            continue
        with suppress(OSError):  # on a full disk there is no name, but what is there can be read
            holder_file.write_text(f"{Path(sys.argv[0]).name or 'python'} (PID {os.getpid()})", encoding="utf-8")
        return


def _our_holder(holder_file: Path) -> str:
    try:
        return holder_file.read_text(encoding="utf-8") or "another run"
    except OSError:
        return "another run"


def _duckdb_holder(message: str) -> str | None:
    """The process that DuckDB names when it cannot lock the file, or None when the trouble is another."""
    if "Could not set lock" not in message and "Conflicting lock" not in message:
        return None
    found = re.search(r"Conflicting lock is held in (.+?)\.? See also", message) or re.search(r"\(PID (\d+)\)", message)
    return found.group(1) if found else "another process"


def _unusable(error: duckdb.Error, path: Path) -> StoreError:
    """Why a connection could not be opened."""
    return _trouble(error, path) or StoreError(_first_line(error), where=path, todo="See the message of DuckDB")


def _trouble(error: duckdb.Error, path: Path) -> StoreError | None:
    """What is wrong with the disk or the file, in our words; None where it is the statement that is wrong."""
    message = _first_line(error)
    for reason in _DISK_TROUBLE:
        if reason in message:
            return StoreError(f"cannot be written: {reason}", where=path, todo=_MAKE_WRITABLE)
    if ".parquet" in message:
        return None
    damaged = isinstance(error, duckdb.SerializationException | duckdb.FatalException | duckdb.InternalException)
    if damaged or "Corrupt" in message or (isinstance(error, duckdb.IOException) and path.name in message):
        return StoreCorrupted(
            f"the database cannot be read ({message})",
            where=path,
            todo="Move the file away or put a backup in its place, and run again: paid answers are in the journal, too",
        )
    return None


def _causes(error: BaseException | None) -> Iterator[duckdb.Error]:
    """The errors of DuckDB behind an error: after the first, clearing up fails as well."""
    while error is not None:
        if isinstance(error, duckdb.Error):
            yield error
        error = error.__cause__ or error.__context__


def _first_line(error: duckdb.Error) -> str:
    return str(error).splitlines()[0][:300]
