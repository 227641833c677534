"""One pass of an annotator over the records that need it; by the batch API see `batch_passes`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any, Literal

import polars as pl

from annotation_pipelines.annotators.base import (
    Annotator,
    Conversation,
    LocalAnnotator,
    RemoteAnnotator,
    Reply,
    ReplyStatus,
    Request,
    Turn,
)
from annotation_pipelines.annotators.conversations import LocalTalk, RemoteTalk, Talk, advance
from annotation_pipelines.annotators.counts import AnnotationCounts, Occasion
from annotation_pipelines.annotators.pending import CHUNK, Pending
from annotation_pipelines.annotators.spending.purse import Purse
from annotation_pipelines.store.database import Store
from annotation_pipelines.store.journal import Journal
from annotation_pipelines.store.ledger import call_row, find_replies

WRITE_EVERY_SECONDS = 5.0
"""Labels are written at least so often: what a kill may leave to be read again from the ledger."""

LabelTable = Literal["llm_labels", "llm_votes", "synthetic_annotations"]
Progress = Callable[[int, int], None]


class LivePass:
    """One pass of an annotator over what is pending: every request is sent, and its reply waited for."""

    def __init__(
        self,
        store: Store,
        annotator: Annotator,
        pending: Pending,
        partition_key: str,
        table: LabelTable,
        occasion: Occasion,
        counts: AnnotationCounts,
        progress: Progress | None,
    ) -> None:
        self._store, self._annotator, self._pending = store, annotator, pending
        self._partition, self._table, self._occasion = partition_key, table, occasion
        self._counts, self._progress = counts, progress
        self._journal = Journal(store.home)
        self._ended: list[Conversation] = []
        self._done = 0
        self._written = time.monotonic()

    def run(self) -> None:
        """Ask about everything that is pending, and write how each record ended."""
        with ExitStack() as open_now:
            open_now.enter_context(self._journal)
            talk = open_now.enter_context(self._talk(open_now))
            try:
                self._ask(talk)
            finally:
                # Also where the annotator gave up: what was answered before is kept and labelled.
                self._write(talk)

    def _ask(self, talk: Talk) -> None:
        chunks = self._pending.chunks()
        chunk = next(chunks, None)
        while chunk is not None or talk.open:
            while chunk is not None and talk.open < CHUNK // 2:
                talk.put(self._begun(chunk, talk))
                chunk = next(chunks, None)
            self._take(talk.take())
            self._write_in_time(talk)

    def _talk(self, open_now: ExitStack) -> Talk:
        if isinstance(self._annotator, RemoteAnnotator):
            return RemoteTalk(self._annotator, self._keep, open_now.enter_context(self._purse(self._annotator)))
        assert isinstance(self._annotator, LocalAnnotator)
        return LocalTalk(self._annotator, self._keep)

    def _purse(self, annotator: RemoteAnnotator) -> Purse:
        return open_purse(self._store, annotator, self._occasion)

    def _begun(self, chunk: pl.DataFrame, talk: Talk) -> list[Conversation]:
        """The conversations on a chunk of records, gone on with what the ledger has; those that ended are taken."""
        requests = self._annotator.requests(chunk)
        talk.turn_page()
        self._journal.fold(self._store)
        conversations = resumed(self._store, self._annotator, requests)
        self._take([c for c in conversations if c.annotation])
        return [c for c in conversations if c.request]

    def _take(self, ended: list[Conversation]) -> None:
        if not ended:
            return
        self._ended += ended
        self._done += len(ended)
        self._counts.from_ledger += sum(not c.bought and c.turns != [] for c in ended)
        if self._progress:
            self._progress(self._done, len(self._pending))

    def _write_in_time(self, talk: Talk) -> None:
        if len(self._ended) >= CHUNK or time.monotonic() - self._written > WRITE_EVERY_SECONDS:
            self._write(talk)

    def _write(self, talk: Talk) -> None:
        self._written = time.monotonic()
        talk.turn_page()
        self._journal.fold(self._store)
        if self._ended:
            _write_labels(self._store, self._table, self._annotator, self._partition, self._ended, self._occasion)
            self._ended = []

    def _keep(self, reply: Reply) -> None:
        """Write a reply to the journal; called the moment it arrives."""
        request = reply.request
        self._journal.append(
            call_row(
                request_key=request.key,
                record_id=request.record_id,
                content_hash=request.content_hash,
                annotator=self._annotator.name,
                endpoint=self._annotator.endpoint,
                status=reply.status,
                http_status=reply.http_status,
                reply=reply.text,
                error=reply.error,
                prompt_tokens=reply.prompt_tokens,
                completion_tokens=reply.completion_tokens,
                cost_usd=reply.cost_usd,
                seconds=reply.seconds,
                run_id=self._occasion.run_id,
                purpose=request.purpose,
                cached_tokens=reply.cached_tokens,
                backfill_id=self._occasion.backfill_id,
                batch_id=reply.batch_id,
            )
        )
        self._counts.add_call(reply)


def open_purse(store: Store, annotator: RemoteAnnotator, occasion: Occasion) -> Purse:
    """What may be spent with an annotator on some occasion.

    Raises:
        AnnotatorError: The budget caps money, and the annotator's price is unknown.
    """
    return Purse.open(
        store,
        occasion.budget,
        run_id=occasion.run_id,
        backfill_id=occasion.backfill_id,
        price=annotator.price,
        where=f"{annotator.name} at {annotator.endpoint}",
    )


def resumed(store: Store, annotator: Annotator, requests: Sequence[Request]) -> list[Conversation]:
    """The conversations that begin with these requests, gone on with as far as the ledger has replies."""
    conversations = asked = [Conversation(request) for request in requests]
    while asked:
        replies = _known_replies(store, [c.request.key for c in asked if c.request])
        answered = [c for c in asked if c.request and c.request.key in replies]
        for conversation in answered:
            assert conversation.request
            status, text = replies[conversation.request.key]
            advance(conversation, Turn(conversation.request, status, text), annotator.proceed)
        asked = [c for c in answered if c.request]  # the ledger may have what follows, too
    return conversations


def _known_replies(store: Store, keys: Sequence[str]) -> dict[str, tuple[ReplyStatus, str | None]]:
    """Status and text of the ledger's reply to each request that has one."""
    return {key: (status, text) for key, status, text in find_replies(store, list(keys)).iter_rows()}


def _write_labels(
    store: Store,
    table: LabelTable,
    annotator: Annotator,
    partition_key: str,
    ended: Sequence[Conversation],
    occasion: Occasion,
) -> None:
    # Where something is still to be asked, it is that request that is looked for later.
    rows = [(c.request or c.first, c.annotation, not c.bought and bool(c.turns)) for c in ended if c.annotation]
    text: dict[str, Any] = {"dtype": pl.String}
    frame = pl.DataFrame(
        {
            "record_id": [request.record_id for request, _, _ in rows],
            "content_hash": [request.content_hash for request, _, _ in rows],
            "request_key": [request.key for request, _, _ in rows],
            "state": [a.state for _, a, _ in rows],
            "label": pl.Series([a.label for _, a, _ in rows], **text),
            "confidence": pl.Series([a.confidence for _, a, _ in rows], dtype=pl.Float64),
            "scores": pl.Series([json.dumps(dict(a.scores)) if a.scores else None for _, a, _ in rows], **text),
            "problem": pl.Series([a.problem for _, a, _ in rows], **text),
            "rationale": pl.Series([a.rationale for _, a, _ in rows], **text),
            "reused": [reused for _, _, reused in rows],
        },
    ).with_columns(
        pl.lit(partition_key).alias("partition_key"),
        pl.lit(annotator.name).alias("annotator"),
        pl.lit(annotator.fingerprint).alias("fingerprint"),
        pl.lit(datetime.now(UTC)).alias("labelled_at"),
        pl.lit(occasion.run_id, dtype=pl.String).alias("run_id"),
    )
    with store.transaction() as con:
        store.upsert(con, table, frame)
