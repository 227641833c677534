"""What every annotator offers: requests from records, replies from requests, annotations from replies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import polars as pl

from annotation_pipelines.tasks.base import Annotation

ReplyStatus = Literal["ok", "refused", "error"]


@dataclass(frozen=True)
class Request:
    """One record, ready to be asked about.

    Attributes:
        key: Hash of everything that could change the answer: messages, schema, model, endpoint, parameters.
        body: What is sent.
    """

    key: str
    record_id: str
    content_hash: str
    body: Mapping[str, Any]


@dataclass(frozen=True)
class Reply:
    """What came back for one request, before anything parses it.

    Attributes:
        status: ok; refused (the model declined); error (no answer: never served again).
        text: The raw reply: the body of the HTTP response, or the annotator's own JSON.
        cost_usd: None where the price is unknown.
        seconds: From the request to the whole reply.
    """

    request: Request
    status: ReplyStatus
    text: str | None = None
    error: str | None = None
    http_status: int | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost_usd: float | None = None
    seconds: float | None = None


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
        """A request for every row of a frame with record_id, content_hash and content, in its order."""

    def annotate(self, requests: Sequence[Request]) -> Iterator[Reply]:
        """The reply to every request, as each arrives, in any order: exactly one each.

        Raises:
            AnnotatorError: Nothing can be annotated at all: a bad key, an unknown model, no server.
        """

    def read(self, reply: str) -> Annotation:
        """What a raw reply with status ok says; never raises."""
