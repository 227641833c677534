"""One pass of an annotator over the records that need it: live, or by the batch API."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

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
from annotation_pipelines.annotators.pending import CHUNK, Pending, registered
from annotation_pipelines.annotators.spending.purse import Purse
from annotation_pipelines.store.database import Store
from annotation_pipelines.store.journal import Journal
from annotation_pipelines.store.ledger import call_row, find_replies
from annotation_pipelines.tasks.base import Annotation

if TYPE_CHECKING:
    from annotation_pipelines.annotators.endpoint.annotator import OpenAIAnnotator
    from annotation_pipelines.annotators.endpoint.batch_api import BatchApi

WRITE_EVERY_SECONDS = 5.0
"""Labels are written at least so often: what a kill may leave to be read again from the ledger."""

LabelTable = Literal["llm_labels", "llm_votes"]
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
        return Purse.open(
            self._store,
            self._occasion.budget,
            run_id=self._occasion.run_id,
            backfill_id=self._occasion.backfill_id,
            price=annotator.price,
            where=f"{annotator.name} at {annotator.endpoint}",
        )

    def _begun(self, chunk: pl.DataFrame, talk: Talk) -> list[Conversation]:
        """The conversations on a chunk of records, gone on with what the ledger has; those that ended are taken."""
        conversations = [Conversation(request) for request in self._annotator.requests(chunk)]
        talk.turn_page()
        self._journal.fold(self._store)
        asked = conversations
        while asked:
            replies = _known_replies(self._store, [c.request.key for c in asked if c.request])
            answered = [c for c in asked if c.request and c.request.key in replies]
            for conversation in answered:
                assert conversation.request
                status, text = replies[conversation.request.key]
                advance(conversation, Turn(conversation.request, status, text), self._annotator.proceed)
            asked = [c for c in answered if c.request]  # the ledger may have what follows, too
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


class BatchPass(LivePass):
    """A pass by the batch API: what the ledger does not answer is submitted, and read by a later pass.

    Some requests are sent live all the same: with `mode: auto` those that an ended batch left without an answer, and
    the first one to a server of which nothing is known, since a batch cannot find out what form it takes.
    """

    _annotator: OpenAIAnnotator

    def _talk(self, open_now: ExitStack) -> Talk:
        self._paid = open_now.enter_context(self._purse(self._annotator))
        return RemoteTalk(self._annotator, self._keep, self._paid)

    def _ask(self, talk: Talk) -> None:
        from annotation_pipelines.annotators.endpoint import batches

        annotator, occasion = self._annotator, self._occasion
        settings = annotator.settings
        with batches.batch_api(settings, annotator.endpoint, annotator.key()) as api:
            self._harvest(api)
            submitted = batches.submit(
                self._store,
                api,
                self._requests(talk),
                line=annotator.batch_line,
                partition_key=self._partition,
                annotator=annotator.name,
                settings=settings.batch,
                tokens_of=annotator.prompt_tokens,
                answer_tokens=lambda request: settings.answer_tokens * request.body.n,
                purse=self._paid,
                run_id=occasion.run_id,
                backfill_id=occasion.backfill_id,
            )
        while talk.open:
            self._take(talk.take())
            self._write_in_time(talk)
        self._write(talk)
        self._write_off(submitted.over_budget)

    def _harvest(self, api: BatchApi) -> None:
        """Bring in batches that have ended, so that a run by hand needs no sensor."""
        from annotation_pipelines.annotators.endpoint import batches

        batches.poll(
            self._store,
            api,
            annotator=self._annotator.name,
            model=self._annotator.settings.model,
            cost=batches.at_batch_price(self._annotator.price),
            purse=self._paid,
        )

    def _requests(self, talk: Talk) -> Iterator[Request]:
        """The requests to submit; those to send live go there."""
        from annotation_pipelines.annotators.endpoint import batches

        explored = self._annotator.recall()
        for chunk in self._pending.chunks():
            going = self._begun(chunk, talk)
            urgent: set[str] = set()
            if self._annotator.mode == "auto":
                urgent = batches.unanswered(self._store, [c.request.key for c in going if c.request])
            live = [c for c in going if c.request and c.request.key in urgent]
            if not explored and going:
                explored, live = True, live or going[:1]
                talk.put(live)
                while talk.open:
                    self._take(talk.take())
            else:
                talk.put(live)
            asked = {id(conversation) for conversation in live}
            for conversation in going:
                if conversation.request and id(conversation) not in asked:
                    conversation.annotation = Annotation("submitted", problem="waits for a batch")
                    self._take([conversation])
                    yield conversation.request
            self._write_in_time(talk)

    def _write_off(self, keys: Sequence[str]) -> None:
        """Records whose requests the budget did not take."""
        if not keys:
            return
        frame = pl.DataFrame({"request_key": keys})
        with self._store.transaction() as con, registered(con, written_off=frame):
            con.execute(
                f"UPDATE {self._table} SET state = 'over_budget', problem = 'the budget is spent' "
                "WHERE state = 'submitted' AND request_key IN (SELECT request_key FROM written_off)"
            )


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
