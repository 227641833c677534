"""Passes of an annotator that has a batch API: what it is asked goes by batches, or beside those that are open."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

import polars as pl

from annotation_pipelines.annotators.base import Conversation, RemoteAnnotator, Request
from annotation_pipelines.annotators.conversations import RemoteTalk, Talk
from annotation_pipelines.annotators.passes import LivePass
from annotation_pipelines.annotators.pending import CHUNK, registered
from annotation_pipelines.errors import AnnotatorError
from annotation_pipelines.store.database import Store
from annotation_pipelines.tasks.base import Annotation

if TYPE_CHECKING:
    from annotation_pipelines.annotators.endpoint.annotator import OpenAIAnnotator
    from annotation_pipelines.annotators.endpoint.batch_api import BatchApi

_log = logging.getLogger(__name__)


def has_open_batches(store: Store, annotator: RemoteAnnotator) -> bool:
    """Whether the endpoint works on batches of an annotator, whatever its `mode` is now."""
    from annotation_pipelines.annotators.endpoint.batch_rows import batch_rows

    return any(
        row.endpoint == annotator.endpoint for row in batch_rows(store, annotator=annotator.name, open_only=True)
    )


class _BesideBatches(LivePass):
    """A pass that brings in batches which have ended, so that a run by hand needs no sensor."""

    _annotator: OpenAIAnnotator

    def _talk(self, open_now: ExitStack) -> Talk:
        self._paid = open_now.enter_context(self._purse(self._annotator))
        return RemoteTalk(self._annotator, self._keep, self._paid)

    def _harvest(self, api: BatchApi) -> None:
        from annotation_pipelines.annotators.endpoint import batches

        batches.poll(
            self._store,
            api,
            annotator=self._annotator.name,
            model=self._annotator.settings.model,
            cost=batches.at_batch_price(self._annotator.price),
            purse=self._paid,
        )

    def _let_wait(self, conversation: Conversation) -> None:
        conversation.annotation = Annotation("submitted", problem="waits for a batch")
        self._take([conversation])


class LivePassBesideBatches(_BesideBatches):
    """A live pass while batches are open: what they have is paid for, and waited for."""

    def _ask(self, talk: Talk) -> None:
        from annotation_pipelines.annotators.endpoint import batches

        annotator = self._annotator
        with batches.batch_api(annotator.settings, annotator.endpoint, annotator.key()) as api:
            try:
                self._harvest(api)
            except AnnotatorError as error:
                _log.warning("%s", error)  # what is to be asked live can be
        super()._ask(talk)

    def _begun(self, chunk: pl.DataFrame, talk: Talk) -> list[Conversation]:
        from annotation_pipelines.annotators.endpoint import batches

        going = super()._begun(chunk, talk)
        waiting = batches.waiting(self._store, [c.request.key for c in going if c.request])
        for conversation in going:
            if conversation.request and conversation.request.key in waiting:
                self._let_wait(conversation)
        return [conversation for conversation in going if not conversation.annotation]


class BatchPass(_BesideBatches):
    """A pass by the batch API: what the ledger does not answer is submitted, and read by a later pass.

    Some requests are sent live all the same: with `mode: auto` those that an ended batch left without an answer, and
    the first one to a server of which nothing is known, since a batch cannot find out what form it takes.
    """

    def _ask(self, talk: Talk) -> None:
        from annotation_pipelines.annotators.endpoint import batches

        annotator, occasion = self._annotator, self._occasion
        settings = annotator.settings
        with batches.batch_api(settings, annotator.endpoint, annotator.key()) as api:
            self._harvest(api)
            try:
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
            except AnnotatorError as error:
                self._write(talk)
                self._take_back(error.problem)
                raise
        while talk.open:
            self._take(talk.take())
            self._write_in_time(talk)
        self._write(talk)
        self._write_off(submitted.over_budget)

    def _requests(self, talk: Talk) -> Iterator[Request]:
        """The requests to submit; those to send live go there."""
        explored = self._annotator.recall()
        for chunk in self._pending.chunks():
            going = self._begun(chunk, talk)
            live, most = self._urgent(going), CHUNK
            if not explored and going:
                explored, most = True, 0
                live = live or [c for c in going if c.first.key == going[0].first.key]
            talk.put(live)
            while talk.open > most:
                self._take(talk.take())
                self._write_in_time(talk)
            asked = {id(conversation) for conversation in live}
            for conversation in going:
                if conversation.request and id(conversation) not in asked:
                    self._let_wait(conversation)
                    yield conversation.request
            self._write_in_time(talk)

    def _urgent(self, going: Sequence[Conversation]) -> list[Conversation]:
        """What `mode: auto` asks live: what a batch has ended without answering."""
        from annotation_pipelines.annotators.endpoint import batches

        if self._annotator.mode != "auto":
            return []
        keys = batches.unanswered(self._store, [c.request.key for c in going if c.request])
        return [c for c in going if c.request and c.request.key in keys]

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

    def _take_back(self, problem: str) -> None:
        """Records that were about to be submitted, and are in no batch after all."""
        with self._store.transaction() as con:
            con.execute(
                f"""
                UPDATE {self._table} SET state = 'failed', problem = ?
                WHERE state = 'submitted' AND annotator = ? AND partition_key = ? AND request_key NOT IN (
                    SELECT request_key FROM batch_requests JOIN llm_batches USING (batch_id) WHERE harvested_at IS NULL
                )
                """,
                [problem, self._annotator.name, self._partition],
            )
