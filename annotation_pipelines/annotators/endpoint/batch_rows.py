"""Which batches there are, and which requests are in them: the tables `llm_batches` and `batch_requests`.

A batch is open until its replies are in the ledger. Before the endpoint has one, its row stands under a name of ours:
what a killed run was about to submit is found there by the next. Of a batch that has ended, the requests it left
without an answer stay, so that `mode: auto` can ask those live.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import duckdb
import polars as pl
from filelock import FileLock, Timeout

from annotation_pipelines.annotators.endpoint.remote_batch import RemoteBatch
from annotation_pipelines.errors import StoreError
from annotation_pipelines.project import Batch
from annotation_pipelines.store.database import Store

UPLOADING, CREATING = "uploading", "creating"
"""Not at the endpoint yet: its file is on the way; its creation was sent, and no answer has been written down."""

LOST = "lost"
"""The endpoint does not know it any more."""

SUBMISSION = "submission"
"""How our own names begin, and where they stand in a batch's metadata."""

BY_HAND, LATE = "cancelled by hand", "cancelled: late"
"""What `error` says of batches that were cancelled."""


@dataclass(frozen=True, slots=True)
class BatchRow:
    """A row of `llm_batches`; its columns are described there."""

    batch_id: str
    partition_key: str
    annotator: str
    endpoint: str
    status: str
    requests: int
    prompt_tokens: int
    input_file_id: str | None
    answered: int | None
    failed: int | None
    error: str | None
    submitted_at: datetime
    polled_at: datetime | None
    harvested_at: datetime | None
    run_id: str | None
    backfill_id: str | None

    @property
    def open(self) -> bool:
        """Whether its replies are still to come."""
        return self.harvested_at is None

    @property
    def submitted(self) -> bool:
        """Whether the endpoint is known to have it."""
        return self.status not in (UPLOADING, CREATING)

    @property
    def frame(self) -> pl.DataFrame:
        """The row, to be written."""
        times = dict.fromkeys(("submitted_at", "polled_at", "harvested_at"), pl.Datetime("us", "UTC"))
        counts = dict.fromkeys(("requests", "prompt_tokens", "answered", "failed"), pl.Int64)
        row = asdict(self)
        schema = {name: times.get(name) or counts.get(name) or pl.String for name in row}
        return pl.DataFrame([row], schema=schema, orient="row")


def batch_rows(store: Store, *, annotator: str | None = None, open_only: bool = False) -> list[BatchRow]:
    """The batches of a project, the oldest first.

    Args:
        annotator: Only those of this annotator.
        open_only: Only those whose replies are still to come.
    """
    frame = store.query(
        "SELECT * FROM llm_batches WHERE ($annotator IS NULL OR annotator = $annotator) "
        "AND (NOT $open_only OR harvested_at IS NULL) ORDER BY submitted_at, batch_id",
        {"annotator": annotator, "open_only": open_only},
    )
    return [BatchRow(**row) for row in frame.iter_rows(named=True)]


def waiting(store: Store, keys: Sequence[str]) -> set[str]:
    """Of these requests, those in open batches."""
    return _in_batches(store, keys, "b.harvested_at IS NULL")


def unanswered(store: Store, keys: Sequence[str]) -> set[str]:
    """Of these requests, those that a batch has ended without answering and that are in no open one."""
    return _in_batches(store, keys, "b.harvested_at IS NOT NULL") - waiting(store, keys)


def late(store: Store, annotator: str, now: datetime, settings: Batch) -> list[BatchRow]:
    """The open batches that have taken longer than `late_after_hours`; not those that are being cancelled already."""
    before = now - timedelta(hours=settings.late_after_hours)
    return [
        row
        for row in batch_rows(store, annotator=annotator, open_only=True)
        if row.submitted and row.status != "cancelling" and row.submitted_at < before
    ]


def batch_folder(store: Store) -> Path:
    """Where the files of batches lie while they are needed."""
    return store.home / "batches"


def batch_file(store: Store, batch_id: str, kind: str) -> Path:
    """A file of a batch; an id that an endpoint made up stays in the folder."""
    return batch_folder(store) / f"{quote(batch_id, safe='')}.{kind}"


@contextmanager
def claimed(store: Store, batch_id: str) -> Iterator[bool]:
    """Whether this process alone may work on a batch for the time of the block; a claim goes with its process.

    Raises:
        StoreError: The folder cannot be written.
    """
    path = batch_file(store, batch_id, "lock")
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    except OSError as error:
        raise StoreError(
            f"cannot be written: {error.strerror or error}",
            where=path.parent,
            todo="Free the disk or make the folder writable, and run again: nothing was lost",
        ) from None
    try:
        yield True
    finally:
        path.unlink(missing_ok=True)
        lock.release()


def adopt(store: Store, row: BatchRow, remote: RemoteBatch) -> BatchRow:
    """Put the endpoint's id in the place of our name; done already where somebody else was faster."""
    adopted = replace(
        row, batch_id=remote.batch_id, status=remote.status, input_file_id=remote.input_file_id or row.input_file_id
    )
    with store.transaction() as con:
        if con.execute("SELECT 1 FROM llm_batches WHERE batch_id = ?", [row.batch_id]).fetchall():
            store.upsert(con, "llm_batches", adopted.frame)
            con.execute(
                "INSERT OR REPLACE INTO batch_requests SELECT ?, request_key, record_id, content_hash, purpose "
                "FROM batch_requests WHERE batch_id = ?",
                [adopted.batch_id, row.batch_id],
            )
            _delete(con, row.batch_id)
    return adopted


def forget(store: Store, batch_id: str) -> None:
    with store.transaction() as con:
        _delete(con, batch_id)


def _delete(con: duckdb.DuckDBPyConnection, batch_id: str) -> None:
    for table in ("batch_requests", "llm_batches"):
        con.execute(f"DELETE FROM {table} WHERE batch_id = ?", [batch_id])


def _in_batches(store: Store, keys: Sequence[str], condition: str) -> set[str]:
    if not keys:
        return set()
    found = store.query(
        f"SELECT DISTINCT r.request_key FROM batch_requests r JOIN wanted USING (request_key) "
        f"JOIN llm_batches b USING (batch_id) WHERE {condition}",
        wanted=pl.DataFrame({"request_key": keys}, schema={"request_key": pl.String}),
    )
    return set(found["request_key"])
