"""What every annotator offers: requests from records, what follows a reply, annotations from replies.

About one record an annotator holds a conversation: a request, its reply, then perhaps another request (a repair, a
further sample), in the end an annotation. What comes next depends on the replies alone, so that a conversation that
was broken off goes on from the ledger where it stopped.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import polars as pl

from annotation_pipelines.project import Price
from annotation_pipelines.tasks.base import Annotation

if TYPE_CHECKING:
    from annotation_pipelines.annotators.spending.purse import Purse

ReplyStatus = Literal["ok", "refused", "error"]
Purpose = Literal["ask", "sample", "repair"]


@dataclass(frozen=True, slots=True)
class Request:
    """One thing to ask about one record.

    Attributes:
        key: Hash of everything that could change the answer: messages, schema, model, endpoint, parameters, sample.
        body: What is sent; its form is the annotator's own affair.
        purpose: Why it is asked: the first question, a further sample, or a repair of an invalid answer.
    """

    key: str
    record_id: str
    content_hash: str
    body: Any
    purpose: Purpose = "ask"


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back for one request, before anything parses it.

    Attributes:
        status: ok; refused (the model declined); error (no answer: never served again).
        text: The raw reply: the body of the HTTP response, or the annotator's own JSON.
        cached_tokens: Of the tokens read, those that the endpoint had cached.
        cost_usd: None where the price is unknown.
        seconds: From the request to the whole reply.
        batch_id: The batch it came with.
        read: What the annotator has read of the text already, to save reading it again.
    """

    request: Request
    status: ReplyStatus
    text: str | None = None
    error: str | None = None
    http_status: int | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    cost_usd: float | None = None
    seconds: float | None = None
    batch_id: str | None = None
    read: object = None


@dataclass(frozen=True, slots=True)
class Turn:
    """A request with its reply, bought now or found in the ledger; `read` as in Reply."""

    request: Request
    status: ReplyStatus
    text: str | None
    error: str | None = None
    read: object = None


@dataclass(slots=True)
class Conversation:
    """All that is said about one record.

    Attributes:
        request: What to ask next; None at the end, unless it ended because nothing may be asked.
        turns: What was asked and answered so far.
        annotation: How it ended.
        bought: Replies that were not in the ledger.
    """

    request: Request | None
    turns: list[Turn] = field(default_factory=list)
    annotation: Annotation | None = None
    bought: int = 0

    @property
    def first(self) -> Request:
        """The request it began with."""
        if self.turns:
            return self.turns[0].request
        assert self.request
        return self.request


class Annotator(Protocol):
    """Who labels records. One instance serves one run."""

    @property
    def name(self) -> str:
        """How tables and the UI call it, such as embedded or openai:gpt-4o."""

    @property
    def endpoint(self) -> str | None:
        """The base URL, without credentials; None on this machine."""

    @property
    def fingerprint(self) -> str:
        """Hash of task, guideline, settings and demonstrations: a label with another one is stale."""

    def requests(self, records: pl.DataFrame) -> list[Request]:
        """The first request about every row of a frame with record_id, content_hash and content, in its order."""

    def proceed(self, turns: Sequence[Turn]) -> Request | Annotation:
        """What follows the turns so far (one at least): another request, or how the record ends; never raises."""


@runtime_checkable
class LocalAnnotator(Annotator, Protocol):
    """An annotator that computes its answers itself."""

    def annotate(self, requests: Sequence[Request]) -> Iterator[Reply]:
        """The reply to every request, as each is ready, in any order: exactly one each."""


Keep = Callable[[Reply], None]
"""Called with every reply the moment it arrives, before it is read, and with failed tries that may have been billed."""

Ask = Callable[[Request], Awaitable[Reply]]


@runtime_checkable
class RemoteAnnotator(Annotator, Protocol):
    """An annotator that asks a server."""

    @property
    def concurrency(self) -> int:
        """The most requests to have in flight."""

    @property
    def mode(self) -> Literal["live", "batch", "auto"]:
        """Whether requests are sent one by one, or as batches."""

    @property
    def price(self) -> Price | None:
        """What a million tokens cost; None where that is unknown."""

    def session(self, keep: Keep, purse: Purse) -> AbstractAsyncContextManager[Ask]:
        """A coroutine function that gives the reply to a request, on one client; used within one event loop.

        A reply has been passed to `keep` when it is returned. The coroutine function raises BudgetSpent where nothing
        more may be spent, and AnnotatorError where the failure would befall every record: a bad key, an unknown model,
        no server.
        """
