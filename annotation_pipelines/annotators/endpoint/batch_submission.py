"""Submit requests as batches, each once.

A submission takes four steps: its file is written and its requests are booked in the store under a name of our own;
the file is uploaded; the store notes that the batch is about to be created, with the file's id; the batch is created
and its id takes the place of our name. The name also travels in the batch's metadata. So a run that is killed in
between leaves a row from which `batch_recovery` knows what to do.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import compress, islice
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import polars as pl

from annotation_pipelines.annotators.base import Request
from annotation_pipelines.annotators.endpoint.batch_api import COMPLETIONS, BatchApi, Busy
from annotation_pipelines.annotators.endpoint.batch_files import PrivateFile, input_line, key_of
from annotation_pipelines.annotators.endpoint.batch_recovery import create_once, never_created, recover
from annotation_pipelines.annotators.endpoint.batch_rows import (
    CREATING,
    SUBMISSION,
    UPLOADING,
    BatchRow,
    adopt,
    batch_file,
    claimed,
    forget,
    waiting,
)
from annotation_pipelines.errors import AnnotatorError
from annotation_pipelines.project import Batch
from annotation_pipelines.store.database import Store

if TYPE_CHECKING:
    from annotation_pipelines.annotators.spending.purse import Purse, Reservation

_CHUNK = 5_000
_log = logging.getLogger(__name__)


@dataclass
class Submitted:
    """What became of requests that were to be submitted.

    Attributes:
        requests: Submitted now.
        batches: The batches they are in; one that the endpoint has not confirmed yet stands under a name of ours.
        waiting: Not submitted, because an open batch has them already.
        left: The keys of those that did not fit: the endpoint, or `max_enqueued_tokens`, takes no more for now.
        over_budget: The keys of those that the purse did not pay for.
    """

    requests: int = 0
    batches: list[str] = field(default_factory=list)
    waiting: int = 0
    left: list[str] = field(default_factory=list)
    over_budget: list[str] = field(default_factory=list)


def submit(
    store: Store,
    api: BatchApi,
    requests: Iterable[Request],
    *,
    line: Callable[[Request], bytes],
    partition_key: str,
    annotator: str,
    settings: Batch,
    tokens_of: Callable[[Request], int],
    answer_tokens: Callable[[Request], int] = lambda request: 0,
    purse: Purse | None = None,
    run_id: str | None = None,
    backfill_id: str | None = None,
    now: datetime | None = None,
) -> Submitted:
    """Submit requests to the batch API; those in open batches are left out.

    Requests are taken from the iterable as they are needed, and never held. One that is larger than a whole batch may
    be is left, with a warning.

    Args:
        line: The JSON body of a request, as live mode would send it.
        tokens_of: Its tokens to read, as estimated.
        answer_tokens: The most tokens that its answers may have.
        purse: Pays for every batch before it is submitted; what it does not pay for is not submitted.
        annotator: The annotator's name; with the endpoint's URL, whose open batches `max_enqueued_tokens` counts.
        now: Default: the time of the call.

    Raises:
        AnnotatorError: A refused key, no batch API, a refused file; Unavailable where the endpoint is in trouble.
            Batches that were submitted before stay so; of the one that failed nothing stays.
        StoreError: The disk is full.
    """
    recover(store, api, annotator=annotator, purse=purse, now=now)
    submission = _Submission(store, api, partition_key, annotator, settings, purse, run_id, backfill_id)
    with submission:
        for chunk in _chunks(requests):
            known = waiting(store, [request.key for request in chunk])
            for request in chunk:
                if request.key in known:
                    submission.done.waiting += 1
                    continue
                known.add(request.key)
                if submission.full:
                    submission.rest.append(request.key)
                else:
                    submission.add(request, line(request), tokens_of(request), answer_tokens(request))
        submission.send()
    return submission.done


class _Draft:
    """The file of one batch while it is filled, under the name of the submission.

    Attributes:
        rows: The rows of `batch_requests`.
        tokens: Of each request, those to read.
        sizes: Of each request, the bytes of its body and the most tokens of its answers.
    """

    def __init__(self, store: Store) -> None:
        self.name = f"{SUBMISSION}-{uuid.uuid4().hex}"
        self.path = batch_file(store, self.name, "jsonl")
        self.rows: list[tuple[str, str, str, str, str]] = []
        self.tokens: list[int] = []
        self.sizes: list[tuple[int, int]] = []
        self._file = PrivateFile(self.path)
        with ExitStack() as held:
            held.enter_context(claimed(store, self.name))
            held.callback(self.path.unlink, missing_ok=True)
            self._written = held.enter_context(ExitStack())
            self._written.enter_context(self._file)
            self._held = held.pop_all()

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return self._file.size

    @property
    def keys(self) -> list[str]:
        """The keys of the requests."""
        return [row[1] for row in self.rows]

    def add(self, request: Request, text: bytes, tokens: int, answer_tokens: int) -> None:
        self._file.write(text)
        self.rows.append((self.name, request.key, request.record_id, request.content_hash, request.purpose))
        self.tokens.append(tokens)
        self.sizes.append((len(text), answer_tokens))

    def finish(self) -> None:
        """Nothing more is added."""
        self._written.close()

    def close(self) -> None:
        """Remove the file, and give the claim on the submission back."""
        self._held.close()

    def drop(self, keys: set[str]) -> None:
        """Take requests out again; after `finish`."""
        rest = self.path.with_suffix(".rest")
        with self.path.open("rb") as lines, PrivateFile(rest) as kept:
            for text in lines:
                if key_of(text) not in keys:
                    kept.write(text)
        rest.replace(self.path)
        stay = [key not in keys for key in self.keys]
        self.rows, self.tokens = list(compress(self.rows, stay)), list(compress(self.tokens, stay))
        self.sizes = list(compress(self.sizes, stay))

    @property
    def frame(self) -> pl.DataFrame:
        """The rows of `batch_requests`."""
        names = ("batch_id", "request_key", "record_id", "content_hash", "purpose")
        return pl.DataFrame(self.rows, schema=dict.fromkeys(names, pl.String), orient="row")


class _Submission:
    """Fills drafts and sends them.

    Attributes:
        full: Whether nothing more can be submitted.
        rest: Where the keys of what is not submitted go then.
    """

    def __init__(
        self,
        store: Store,
        api: BatchApi,
        partition_key: str,
        annotator: str,
        settings: Batch,
        purse: Purse | None,
        run_id: str | None,
        backfill_id: str | None,
    ) -> None:
        self._store, self._api, self._partition, self._annotator = store, api, partition_key, annotator
        self._settings, self._purse, self._run_id, self._backfill_id = settings, purse, run_id, backfill_id
        self._most_bytes = int(settings.max_megabytes * 1e6)
        self._draft: _Draft | None = None
        self._room = self._free_tokens()
        self.done = Submitted()
        self.full, self.rest = False, self.done.left

    def __enter__(self) -> _Submission:
        return self

    def __exit__(self, *_: object) -> None:
        if self._draft:
            self._draft.close()

    def add(self, request: Request, body: bytes, tokens: int, answer_tokens: int) -> None:
        """Put a request into the draft, or leave it; a full draft is sent first."""
        text, most = input_line(request.key, body, COMPLETIONS), self._settings.max_enqueued_tokens
        if len(text) > self._most_bytes or (most is not None and tokens > most):
            _log.warning("record %s is too large for a batch: %d bytes", request.record_id, len(text))
            self.done.left.append(request.key)
            return
        self.full = self._room is not None and tokens > self._room
        if not self.full and self._draft and not self._takes(self._draft, text):
            self.send()
        if self.full:
            self.rest.append(request.key)
            return
        self._draft = self._draft or _Draft(self._store)
        self._draft.add(request, text, tokens, answer_tokens)
        if self._room is not None:
            self._room -= tokens

    def send(self) -> None:
        """Pay for, book, upload and create the draft's batch; what there is no room or money for is left."""
        draft, self._draft = self._draft, None
        if draft is None:
            return
        with closing(draft):
            draft.finish()
            try:
                row = self._submitted(draft, self._paid(draft))
            except Busy as error:
                _log.warning("%s", error)
                self.full = True
                self.done.left += draft.keys
                return
        if row:
            self.done.requests += row.requests
            self.done.batches.append(row.batch_id)

    def _submitted(self, draft: _Draft, reservation: Reservation | None) -> BatchRow | None:
        """The row of the draft's batch; None where nothing of it was to be submitted."""
        file_id = None
        try:
            row = self._book(draft)
            file_id = self._uploaded(row, draft.path) if row else None
        finally:
            if self._purse and reservation:
                if file_id:
                    self._purse.hand_over(reservation, file_id)
                else:
                    self._purse.release(reservation)
        if row is None:
            return None
        return self._create(replace(row, status=CREATING, input_file_id=file_id, submitted_at=datetime.now(UTC)))

    def _takes(self, draft: _Draft, text: bytes) -> bool:
        return len(draft.rows) < self._settings.max_requests and draft.size + len(text) <= self._most_bytes

    def _paid(self, draft: _Draft) -> Reservation | None:
        """What the purse holds for the draft; requests that it does not pay for are taken out."""
        if self._purse is None:
            return None
        fit, reservation = self._purse.reserve_batch(draft.sizes)
        if beyond := draft.keys[fit:]:
            self.full, self.rest = True, self.done.over_budget
            self.rest += beyond
            draft.drop(set(beyond))
        return reservation

    def _book(self, draft: _Draft) -> BatchRow | None:
        """Write down what is about to be submitted, unless others were faster; None where nothing is left of it."""
        while draft.rows:
            with self._store.transaction() as con:
                taken = _in_open_batches(con, draft.frame)
                if not taken:
                    tokens, limit = sum(draft.tokens), self._settings.max_enqueued_tokens
                    if limit is not None and self._enqueued(con) + tokens > limit:
                        self.full = True
                        self.done.left += draft.keys
                        return None
                    row = self._row(draft, tokens)
                    con.register("_mine", draft.frame.to_arrow())
                    con.execute("DELETE FROM batch_requests WHERE request_key IN (SELECT request_key FROM _mine)")
                    con.unregister("_mine")
                    self._store.append(con, "llm_batches", row.frame)
                    self._store.append(con, "batch_requests", draft.frame)
                    return row
            self.done.waiting += len(taken)
            draft.drop(taken)
        return None

    def _uploaded(self, row: BatchRow, path: Path) -> str:
        try:
            return self._api.upload(path)
        except Exception:
            forget(self._store, row.batch_id)
            raise

    def _create(self, row: BatchRow) -> BatchRow:
        """The row of the batch once the endpoint has it; as it was where nobody knows whether it has."""
        metadata = {
            "project": self._store.home.name,
            "annotator": row.annotator,
            "partition": row.partition_key,
            SUBMISSION: row.batch_id,
        }
        try:
            with self._store.transaction() as con:
                self._store.upsert(con, "llm_batches", row.frame)
            remote = create_once(self._api, row, metadata)
        except AnnotatorError:
            # Refused, or never sent. Anything else, such as Ctrl-C, may come after it was sent: `recover` finds out.
            never_created(self._store, row, self._purse)
            raise
        if remote is None:
            _log.warning("%s: whether the endpoint has taken this batch is looked up later", row.batch_id)
            return row
        return adopt(self._store, row, remote)

    def _row(self, draft: _Draft, tokens: int) -> BatchRow:
        return BatchRow(
            batch_id=draft.name,
            partition_key=self._partition,
            annotator=self._annotator,
            endpoint=self._api.url,
            status=UPLOADING,
            requests=len(draft.rows),
            prompt_tokens=tokens,
            input_file_id=None,
            answered=None,
            failed=None,
            error=None,
            submitted_at=datetime.now(UTC),
            polled_at=None,
            harvested_at=None,
            run_id=self._run_id,
            backfill_id=self._backfill_id,
        )

    def _free_tokens(self) -> int | None:
        limit = self._settings.max_enqueued_tokens
        if limit is None:
            return None
        with self._store.transaction() as con:
            return limit - self._enqueued(con)

    def _enqueued(self, con: duckdb.DuckDBPyConnection) -> int:
        ((tokens,),) = con.execute(
            "SELECT coalesce(sum(prompt_tokens), 0) FROM llm_batches "
            "WHERE harvested_at IS NULL AND annotator = ? AND endpoint = ?",
            [self._annotator, self._api.url],
        ).fetchall()
        return int(tokens)


def _chunks(requests: Iterable[Request]) -> Iterator[Sequence[Request]]:
    iterator = iter(requests)
    while chunk := list(islice(iterator, _CHUNK)):
        yield chunk


def _in_open_batches(con: duckdb.DuckDBPyConnection, rows: pl.DataFrame) -> set[str]:
    found = Store.frame(
        con,
        "SELECT r.request_key FROM batch_requests r JOIN _rows USING (request_key) "
        "JOIN llm_batches b ON b.batch_id = r.batch_id WHERE b.harvested_at IS NULL",
        _rows=rows.select("request_key"),
    )
    return set(found["request_key"])
