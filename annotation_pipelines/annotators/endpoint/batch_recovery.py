"""Settle what runs that were killed while they submitted a batch have left behind.

Their row in `llm_batches` says how far they came. Before the creation was sent there is no batch, and the row goes.
After it the endpoint's list says whether there is one: it has the name of the submission in its metadata, and its file.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from annotation_pipelines.annotators.endpoint.batch_api import TRIES, BatchApi, Refused, Unclear
from annotation_pipelines.annotators.endpoint.batch_rows import (
    CREATING,
    SUBMISSION,
    BatchRow,
    adopt,
    batch_folder,
    batch_rows,
    claimed,
    forget,
)
from annotation_pipelines.annotators.endpoint.remote_batch import RemoteBatch
from annotation_pipelines.annotators.endpoint.verdicts import pause
from annotation_pipelines.errors import AnnotatorError
from annotation_pipelines.store.database import Store

if TYPE_CHECKING:
    from annotation_pipelines.annotators.spending.purse import Purse

SETTLED = timedelta(seconds=60)
"""After this time a batch that the endpoint does not list was not created."""

WINDOW_OVER = timedelta(hours=25)
"""After this time a batch is over, whether the endpoint lists batches or not."""

_log = logging.getLogger(__name__)


def recover(
    store: Store, api: BatchApi, *, annotator: str, purse: Purse | None = None, now: datetime | None = None
) -> None:
    """Settle what killed runs have left: take over batches that were created, forget those that were not.

    Submissions of living runs are left alone. One that the endpoint does not list stays open for `SETTLED`: its
    creation may still be under way.

    Raises:
        AnnotatorError: As `submit`.
    """
    now = now or datetime.now(UTC)
    for row in batch_rows(store, annotator=annotator, open_only=True):
        if row.submitted or row.endpoint != api.url:
            continue
        with claimed(store, row.batch_id) as mine:
            # It may have come further since it was listed.
            current = mine and next((r for r in batch_rows(store, open_only=True) if r.batch_id == row.batch_id), None)
            if current:
                _recover(store, api, current, purse, now)
    _sweep(store)


def _recover(store: Store, api: BatchApi, row: BatchRow, purse: Purse | None, now: datetime) -> None:
    found, age = None, now - row.submitted_at
    if row.status == CREATING:
        try:
            found = find_batch(api, row)
        except Refused as error:
            if age < WINDOW_OVER:
                _log.warning("%s: it is not known whether the endpoint has this batch: %s", row.batch_id, error)
                return
        if found is None and age < SETTLED:
            return
    if found:
        _log.warning("batch %s was created by a run that did not live to see it: taken over", found.batch_id)
        adopt(store, row, found)
    else:
        never_created(store, row, purse)


def never_created(store: Store, row: BatchRow, purse: Purse | None) -> None:
    """Forget a submission that did not become a batch, and give back what was held for it."""
    if purse and row.input_file_id:
        purse.settle_batch(row.input_file_id, prompt_tokens=0, completion_tokens=0, cost_usd=0.0)
    forget(store, row.batch_id)


def _sweep(store: Store) -> None:
    """Remove the files of submissions that nobody makes any more: they hold texts."""
    for path in batch_folder(store).glob(f"{SUBMISSION}-*.jsonl"):
        with claimed(store, path.stem) as mine:
            if mine:
                path.unlink(missing_ok=True)


def create_once(api: BatchApi, row: BatchRow, metadata: Mapping[str, str]) -> RemoteBatch | None:
    """Make the batch of a submission whose file is uploaded; None where nobody knows whether it was made.

    Where the endpoint says that it failed, its list says whether it has made the batch all the same; if not, it is
    asked again.

    Raises:
        AnnotatorError: As `submit`: it was certainly not made.
    """
    assert row.input_file_id
    for attempt in range(TRIES):
        try:
            return api.create(row.input_file_id, metadata)
        except Unclear as error:
            _log.warning("%s", error)
            answered = error.answered
        except AnnotatorError:
            if attempt:  # of the first creation nobody knows for certain
                return None
            raise
        time.sleep(pause(attempt, random.random()))
        try:
            found = find_batch(api, row)
        except AnnotatorError:
            return None
        if found or not answered:
            return found
    return None


def find_batch(api: BatchApi, row: BatchRow) -> RemoteBatch | None:
    """The endpoint's batch of a submission, if it made one.

    Raises:
        Refused: The endpoint does not list batches.
        AnnotatorError: As `submit`.
    """
    oldest = (row.submitted_at - timedelta(hours=1)).timestamp()  # clocks differ
    last, falling = None, True
    for batch in api.recent():
        if batch.metadata.get(SUBMISSION) == row.batch_id or (
            row.input_file_id and batch.input_file_id == row.input_file_id  # some endpoints drop metadata
        ):
            return batch
        if batch.created_at is not None:
            falling = falling and (last is None or batch.created_at <= last)
            # Not every endpoint lists the latest first: only where this one is seen to may the rest be left unread.
            if falling and last is not None and batch.created_at < min(oldest, last):
                return None
            last = batch.created_at
    return None
