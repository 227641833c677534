"""Hold conversations as a pass does, without a store: what was kept, and how each record ended."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from annotation_pipelines.annotators.base import Conversation, RemoteAnnotator, Reply, Request, Turn
from annotation_pipelines.annotators.conversations import RemoteTalk
from annotation_pipelines.annotators.spending.purse import Purse
from annotation_pipelines.project import Budget, Price
from annotation_pipelines.store.database import Store
from annotation_pipelines.tasks.base import Annotation


def records(*texts: str) -> pl.DataFrame:
    """Records r0, r1, ... with these texts."""
    return pl.DataFrame(
        {
            "record_id": [f"r{n}" for n in range(len(texts))],
            "content_hash": [f"h{text[:9]}" for text in texts],
            "content": texts,
        },
        schema={"record_id": pl.String, "content_hash": pl.String, "content": pl.String},
    )


@dataclass
class Heard:
    """What came of conversations.

    Attributes:
        kept: Every reply that was kept, in order of arrival.
        ended: The conversations that ended, by text.
    """

    kept: list[Reply] = field(default_factory=list)
    ended: dict[str, Conversation] = field(default_factory=dict)

    def replies(self, text_of: dict[str, str]) -> dict[str, Reply]:
        """The last reply about each text."""
        return {text_of[reply.request.record_id]: reply for reply in self.kept}

    def annotation(self, text: str) -> Annotation:
        """How the record with this text ended."""
        found = self.ended[text].annotation
        assert found
        return found


@contextmanager
def purse(budget: Budget | None = None, *, price: Price | None = None, run_id: str | None = None) -> Iterator[Purse]:
    """A purse of a store of its own."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Purse.open(
            Store(Path(folder) / "p"), budget or Budget(), run_id=run_id, backfill_id=None, price=price, where="test"
        ) as opened,
    ):
        yield opened


def converse(annotator: RemoteAnnotator, texts: Sequence[str], heard: Heard | None = None) -> Heard:
    """Talk about these texts until all conversations have ended.

    Args:
        heard: Filled as replies arrive, so that it is there when an error is raised.
    """
    heard = heard or Heard()
    requests = annotator.requests(records(*texts))
    with purse() as paid, RemoteTalk(annotator, heard.kept.append, paid) as talk:
        talk.put([Conversation(request) for request in requests])
        while talk.open:
            for conversation in talk.take():
                heard.ended[texts[int(conversation.first.record_id[1:])]] = conversation
    return heard


def read(annotator: RemoteAnnotator, request: Request, text: str) -> Request | Annotation:
    """What follows a reply with this text to the first request."""
    return annotator.proceed([Turn(request, "ok", text)])
