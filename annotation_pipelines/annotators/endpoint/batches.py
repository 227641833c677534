"""Annotate by the batch API: ask after open batches, bring their replies into the ledger, cancel.

    submit -> (at the endpoint, for up to a day) -> poll -> llm_calls -> the next labelling run finds its replies there

A batch is harvested as often as it takes: the file is downloaded whole, every reply goes into the journal as it stands
in the file and under a call id that follows from batch and request, and only then is the batch closed. A run that is
killed anywhere in between costs nothing but the repetition.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from annotation_pipelines.annotators.endpoint.batch_api import BatchApi, Unavailable, batch_api
from annotation_pipelines.annotators.endpoint.batch_files import OutputLine, output_lines
from annotation_pipelines.annotators.endpoint.batch_recovery import recover
from annotation_pipelines.annotators.endpoint.batch_rows import (
    BY_HAND,
    LATE,
    LOST,
    BatchRow,
    batch_file,
    batch_rows,
    claimed,
    late,
    unanswered,
    waiting,
)
from annotation_pipelines.annotators.endpoint.batch_submission import Submitted, submit
from annotation_pipelines.annotators.endpoint.remote_batch import RemoteBatch
from annotation_pipelines.annotators.endpoint.verdicts import Failure, judge
from annotation_pipelines.annotators.endpoint.wire import Completion
from annotation_pipelines.annotators.spending.prices import cost
from annotation_pipelines.errors import AnnotatorError
from annotation_pipelines.project import Price, digest
from annotation_pipelines.store.database import Store
from annotation_pipelines.store.journal import Journal
from annotation_pipelines.store.ledger import SERVED_AGAIN, call_row

__all__ = [
    "BY_HAND",
    "LATE",
    "BatchApi",
    "BatchRow",
    "Cost",
    "Submitted",
    "at_batch_price",
    "batch_api",
    "batch_rows",
    "cancel",
    "late",
    "poll",
    "submit",
    "unanswered",
    "waiting",
]

if TYPE_CHECKING:
    from annotation_pipelines.annotators.spending.purse import Purse

Cost = Callable[[Completion], float | None]
"""US dollars of an answer, at the price of a batch; None where it is unknown."""

GIVEN_UP = timedelta(hours=1)
"""What an endpoint gets to end a cancellation (OpenAI: ten minutes), and to show the files of an ended batch."""

_FOLD_EVERY = 5_000
_log = logging.getLogger(__name__)


def poll(
    store: Store,
    api: BatchApi,
    *,
    annotator: str,
    model: str,
    cost: Cost,
    purse: Purse | None = None,
    now: datetime | None = None,
    seconds: float = float("inf"),
) -> list[BatchRow]:
    """Ask after every open batch of an annotator at this endpoint, and bring in the replies of those that have ended.

    Replies are in `llm_calls` when this returns, with the run and backfill that submitted them. Requests without a
    reply are free to be asked again. What killed runs were about to submit is settled first.

    Args:
        annotator: The annotator's name.
        model: The model it asks, for messages.
        cost: What an answer has cost; see `at_batch_price`.
        purse: Held what the batches may cost, and is told what they did.
        now: Default: the time of the call.
        seconds: No batch is begun after this time; the others are left for the next poll.

    Returns:
        The batches that were open before, as they stand now, the oldest first.

    Raises:
        AnnotatorError: A refused key, no batch API. Unavailable: the endpoint did not answer about some batch; the
            others have been brought in.
        StoreError: The disk is full; what was not brought in is, by the next poll.
    """
    now, start = now or datetime.now(UTC), time.monotonic()
    rows: list[BatchRow] = []
    trouble: Unavailable | None = None
    try:
        recover(store, api, annotator=annotator, purse=purse, now=now)
    except Unavailable as error:
        trouble = error
    for row in batch_rows(store, annotator=annotator, open_only=True):
        if row.endpoint != api.url or not row.submitted or time.monotonic() - start > seconds:
            rows.append(row)
            continue
        try:
            rows.append(_Poll(store, api, model, cost, purse, now).ask(row))
        except Unavailable as error:
            rows.append(row)
            trouble = error
    if trouble:
        raise trouble
    return rows


def cancel(
    store: Store,
    api: BatchApi,
    batch_ids: Sequence[str] | None = None,
    *,
    annotator: str,
    why: str = BY_HAND,
    now: datetime | None = None,
) -> list[BatchRow]:
    """Ask the endpoint to cancel open batches; the replies there are by then come in with a later poll.

    Args:
        batch_ids: Default: all open ones of the annotator.
        why: Kept as the batch's error: `BY_HAND` or `LATE`.

    Returns:
        The batches, as they stand now.

    Raises:
        AnnotatorError: No such open batch, or as `poll`.
    """
    now = now or datetime.now(UTC)
    recover(store, api, annotator=annotator, now=now)
    open_rows = {
        row.batch_id: row
        for row in batch_rows(store, annotator=annotator, open_only=True)
        if row.endpoint == api.url and row.submitted
    }
    if unknown := [batch_id for batch_id in batch_ids or () if batch_id not in open_rows]:
        raise AnnotatorError(
            f"there is no open batch {', '.join(unknown)} of {annotator}; open are: {', '.join(open_rows) or 'none'}",
            where=api.url,
        )
    cancelled = []
    for batch_id in open_rows if batch_ids is None else batch_ids:
        # Why comes first: whoever sees the batch cancelled must know it.
        row = _written(store, replace(open_rows[batch_id], error=why))
        remote = api.cancel(batch_id)
        cancelled.append(_written(store, replace(row, status=remote.status, polled_at=now)) if remote else row)
    return cancelled


def at_batch_price(price: Price | None) -> Cost:
    """What an answer costs by the batch API, where a million tokens cost this."""

    def of(completion: Completion) -> float | None:
        return cost(
            price,
            prompt_tokens=completion.prompt_tokens,
            completion_tokens=completion.completion_tokens,
            cached_tokens=completion.cached_tokens,
            batch=True,
        )

    return of


class _Poll:
    """One look at one batch."""

    def __init__(self, store: Store, api: BatchApi, model: str, cost: Cost, purse: Purse | None, now: datetime) -> None:
        self._store, self._api, self._model, self._cost, self._purse, self._now = store, api, model, cost, purse, now

    def ask(self, row: BatchRow) -> BatchRow:
        remote = self._api.retrieve(row.batch_id)
        if remote is None:
            return self._lost(row, "the endpoint does not know it any more")
        row = replace(row, status=remote.status, error=row.error or remote.problem, polled_at=self._now)
        if not remote.ended:
            if remote.status == "cancelling" and self._long_ago(remote.cancelling_at):
                return self._lost(row, "the endpoint did not end its cancellation")
            return _written(self._store, row)
        if remote.completed and not remote.output_file_id and not self._long_ago(remote.ended_at):
            return _written(self._store, row)  # it says that there are answers: their file appears later
        with claimed(self._store, row.batch_id) as mine:
            return self._harvest(row, remote) if mine and self._still_open(row) else row

    def _harvest(self, row: BatchRow, remote: RemoteBatch) -> BatchRow:
        """Bring the replies of an ended batch into the ledger, and close it."""
        output = self._file(row, "output.jsonl", remote.output_file_id)
        if output is None and (remote.output_file_id or remote.completed):
            row = replace(row, status=LOST, error="the endpoint does not have its output file any more")
        errors = self._file(row, "errors.jsonl", remote.error_file_id)
        files = [path for path in (output, errors) if path]
        tally = _Tally(self._requests(row))
        with Journal(self._store.home) as journal:
            for number, reply in enumerate(
                self._replies(row, tally, (line for file in files for line in output_lines(file))), 1
            ):
                journal.append(reply)
                if number % _FOLD_EVERY == 0:
                    journal.fold(self._store)
            journal.fold(self._store)
        if tally.unknown or tally.unreadable:
            _log.warning(
                "batch %s: %d lines of requests that were not in it, %d lines that cannot be read (kept in %s)",
                row.batch_id,
                tally.unknown,
                tally.unreadable,
                files[0].parent if tally.unreadable else "the endpoint's file",
            )
        self._settle(row)
        row = self._close(replace(row, answered=len(tally.answered), failed=len(tally.errors)), tally.answered)
        for path in files if not tally.unreadable else ():
            path.unlink(missing_ok=True)
        return row

    def _still_open(self, row: BatchRow) -> bool:
        """Whether nobody has harvested the batch since it was listed."""
        return any(other.batch_id == row.batch_id for other in batch_rows(self._store, open_only=True))

    def _file(self, row: BatchRow, kind: str, file_id: str | None) -> Path | None:
        """A file of the batch on this disk; None where the endpoint has none."""
        path = batch_file(self._store, row.batch_id, kind)
        return path if path.exists() or (file_id and self._api.download(file_id, path)) else None

    def _requests(self, row: BatchRow) -> dict[str, tuple[str, str, str]]:
        frame = self._store.query(
            "SELECT request_key, record_id, content_hash, purpose FROM batch_requests WHERE batch_id = ?",
            [row.batch_id],
        )
        return {key: (record, content, purpose) for key, record, content, purpose in frame.iter_rows()}

    def _replies(self, row: BatchRow, tally: _Tally, lines: Iterator[OutputLine | None]) -> Iterator[dict[str, Any]]:
        """Rows of the ledger: each request's answer, else its error; whichever line comes first, an answer counts."""
        for line in lines:
            if line is None:
                tally.unreadable += 1
            elif line.custom_id not in tally.requests:
                tally.unknown += 1
            elif line.tried and line.custom_id not in tally.answered:
                reply = self._reply(row, tally.requests[line.custom_id], line)
                if reply["status"] in SERVED_AGAIN:
                    tally.answered.add(line.custom_id)
                    tally.errors.pop(line.custom_id, None)
                    yield reply
                else:
                    tally.errors.setdefault(line.custom_id, reply)
        yield from tally.errors.values()

    def _reply(self, row: BatchRow, request: tuple[str, str, str], line: OutputLine) -> dict[str, Any]:
        text = None if line.body is None else self._api.without_key(line.body)
        completion, error, status = None, line.error, "error"
        if line.status is not None:
            verdict = judge(line.status, text or "", model=self._model)
            if isinstance(verdict, Failure):
                error, status = verdict.problem, "refused" if verdict.refused else "error"
            else:
                completion, error = verdict, verdict.refusal
                status = "refused" if verdict.refusal else "ok"
        record_id, content_hash, purpose = request
        return call_row(
            # The same whenever this line is read, so that it counts once; servers that start over use ids again.
            call_id=digest([row.batch_id, row.submitted_at.isoformat(), line.custom_id]),
            request_key=line.custom_id,
            record_id=record_id,
            content_hash=content_hash,
            annotator=row.annotator,
            endpoint=row.endpoint,
            status=status,
            http_status=line.status,
            reply=text,
            error=error and self._api.without_key(error),
            prompt_tokens=completion and completion.prompt_tokens,
            completion_tokens=completion and completion.completion_tokens,
            cached_tokens=completion and completion.cached_tokens,
            cost_usd=completion and self._cost(completion),
            run_id=row.run_id,
            backfill_id=row.backfill_id,
            purpose=purpose,
            batch_id=row.batch_id,
        )

    def _settle(self, row: BatchRow) -> None:
        """Tell the purse what the batch has cost: of a lost one nobody knows. Told again, it knows already."""
        if self._purse is None or row.input_file_id is None:
            return
        read, written, usd = self._store.query(
            "SELECT coalesce(sum(prompt_tokens), 0)::BIGINT, coalesce(sum(completion_tokens), 0)::BIGINT, "
            "sum(cost_usd) FROM llm_calls WHERE batch_id = ?",
            [row.batch_id],
        ).row(0)
        known = row.status != LOST
        self._purse.settle_batch(
            row.input_file_id,
            prompt_tokens=read if known else None,
            completion_tokens=written if known else None,
            cost_usd=usd if known else None,
        )

    def _lost(self, row: BatchRow, problem: str) -> BatchRow:
        _log.warning("batch %s is lost: %s; its %d requests may be asked again", row.batch_id, problem, row.requests)
        row = replace(row, status=LOST, error=problem, answered=0, failed=0)
        self._settle(row)
        return self._close(row, set())

    def _close(self, row: BatchRow, answered: set[str]) -> BatchRow:
        """Write that a batch is done; what it left unanswered stays in `batch_requests`."""
        row = replace(row, polled_at=self._now, harvested_at=self._now)
        with self._store.transaction() as con:
            self._store.upsert(con, "llm_batches", row.frame)
            con.register("_answered", pl.DataFrame({"key": list(answered)}, schema={"key": pl.String}).to_arrow())
            con.execute(
                """
                DELETE FROM batch_requests WHERE batch_id IN (SELECT batch_id FROM llm_batches WHERE harvested_at
                IS NOT NULL) AND (request_key IN (SELECT key FROM _answered) OR request_key IN
                (SELECT request_key FROM llm_calls WHERE status IN ('ok', 'refused')))
                """
            )
            con.unregister("_answered")
        return row

    def _long_ago(self, moment: int | None) -> bool:
        return moment is None or self._now - datetime.fromtimestamp(moment, UTC) > GIVEN_UP


@dataclass
class _Tally:
    """What the lines of a batch have brought so far.

    Attributes:
        requests: Key to record id, content hash and purpose.
        errors: Rows of requests that ended in an error and have no answer.
        unknown: Lines of requests that were not in the batch.
        unreadable: Lines that are no lines of a batch.
    """

    requests: dict[str, tuple[str, str, str]]
    answered: set[str] = field(default_factory=set)
    errors: dict[str, dict[str, Any]] = field(default_factory=dict)
    unknown: int = 0
    unreadable: int = 0


def _written(store: Store, row: BatchRow) -> BatchRow:
    """Keep what is known of an open batch; one that somebody else has closed meanwhile stays closed."""
    with store.transaction() as con:
        con.execute(
            "UPDATE llm_batches SET status = ?, error = ?, polled_at = ? WHERE batch_id = ? AND harvested_at IS NULL",
            [row.status, row.error, row.polled_at, row.batch_id],
        )
    return row
