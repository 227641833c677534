"""A large language model behind an OpenAI-compatible chat completions endpoint."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import polars as pl

from annotation_pipelines.annotators import prompts
from annotation_pipelines.annotators.base import Reply, Request
from annotation_pipelines.annotators.endpoint.chat import Chat
from annotation_pipelines.annotators.endpoint.url import checked_url, is_local
from annotation_pipelines.annotators.endpoint.verdicts import read_completion
from annotation_pipelines.annotators.streaming import stream
from annotation_pipelines.errors import AnnotatorError, DeclarationError
from annotation_pipelines.project import OpenAIAnnotator as Settings
from annotation_pipelines.project import digest
from annotation_pipelines.tasks.base import Annotation, Task

DEFAULT_URL = "https://api.openai.com/v1"

_OWN_FIELDS = ("messages", "model", "n", "stream")


class OpenAIAnnotator:
    """Asks a model for the label of every record.

    Args:
        settings: What the declaration says of the model and its endpoint.
        guideline: How to annotate, in words.
        demonstrations: Gold records to show, with content and label; None for none.
        per_prompt: How many of them each prompt shows.
        nearest: For a frame of n records the rows of their demonstrations, an int array (n, per_prompt), nearest last,
            -1 where there are too few; None shows the first ones to all.

    Raises:
        DeclarationError: The endpoint is no plain URL, or extra_body sets what this class sets.
        AnnotatorError: A demonstration has a label that is not the task's.
    """

    def __init__(
        self,
        settings: Settings,
        task: Task,
        guideline: str,
        demonstrations: pl.DataFrame | None = None,
        per_prompt: int = 0,
        nearest: Callable[[pl.DataFrame], np.ndarray] | None = None,
    ) -> None:
        self._settings, self._task, self._nearest = settings, task, nearest
        self._url = checked_url(settings.base_url or os.environ.get("OPENAI_BASE_URL") or DEFAULT_URL)
        confidence = settings.confidence == "stated"
        self._system = prompts.system_message(task, guideline, confidence=confidence)
        self._parameters = _parameters(settings, task.schema(confidence=confidence))
        self._demonstrations: list[list[prompts.Message]] = []
        if demonstrations is not None and per_prompt:
            self._demonstrations = _rendered(task, demonstrations, confidence)
        self._per_prompt = min(per_prompt, len(self._demonstrations))
        self._fingerprint = digest(
            {
                "prompt": prompts.PROMPT_VERSION,
                "parser": task.parser_version,
                "endpoint": self._url,
                "system": self._system,
                "parameters": self._parameters,
                "demonstrations": sorted(map(digest, self._demonstrations)),
                "per_prompt": self._per_prompt,
            }
        )
        self._chat = Chat(settings, self._url)

    @property
    def name(self) -> str:
        """openai:MODEL."""
        return f"openai:{self._settings.model}"

    @property
    def endpoint(self) -> str:
        """The base URL; one with credentials is refused."""
        return self._url

    @property
    def fingerprint(self) -> str:
        """Hash of the prompt's fixed part (task, guideline), parameters, endpoint, demonstrations and parser."""
        return self._fingerprint

    def requests(self, records: pl.DataFrame) -> list[Request]:
        """A request for every row of a frame with record_id, content_hash and content, in its order.

        A body holds the response format that is asked for first; a server that refuses it is sent a simpler one under
        the same key, so one that learns JSON schemas later is not asked again about what it has answered.
        """
        rows = records.select("record_id", "content_hash", "content").iter_rows()
        requests = []
        for (record_id, content_hash, content), pairs in zip(rows, self._shown(records), strict=True):
            body = {"messages": prompts.messages(self._system, pairs, content), **self._parameters}
            key = digest({"endpoint": self._url, "body": body})
            requests.append(Request(key, record_id, content_hash, body))
        return requests

    def annotate(self, requests: Sequence[Request]) -> Iterator[Reply]:
        """The reply to every request, as each arrives: exactly one each.

        The first request goes alone, so that a bad key costs one. After a failure that would befall every record no
        request starts; the replies to those in flight are given first, then it is raised. At most `concurrency`
        requests are in flight, a reply that the caller has not come back from included; what a caller that stops
        leaves behind is cancelled.

        Raises:
            AnnotatorError: No key, a refused one, an unknown model, an empty account, no server, or no chat
                completions at that URL.
        """
        if requests:
            key = self._key()
            yield from stream(requests, lambda: self._chat.session(key), in_flight=self._settings.concurrency)

    def read(self, reply: str) -> Annotation:
        """What a raw reply says: the body of a chat completion."""
        completion = read_completion(reply)
        if completion is None:
            return Annotation("invalid", problem="the reply is not a chat completion")
        if completion.refusal:
            return Annotation("refused", problem=completion.refusal)
        if completion.truncated:
            return Annotation("invalid", problem="truncated: the answer did not end within max_tokens")
        return self._task.parse(completion.content or "")

    def _shown(self, records: pl.DataFrame) -> list[list[list[prompts.Message]]]:
        """For every record the demonstrations to show."""
        if not self._per_prompt or records.is_empty():
            return [[]] * len(records)
        if self._nearest is None:
            return [self._demonstrations[: self._per_prompt]] * len(records)
        rows = np.asarray(self._nearest(records)).tolist()
        return [[self._demonstrations[index] for index in row if index >= 0] for row in rows]

    def _key(self) -> str:
        """The API key, from the environment; a server on this machine needs none.

        Raises:
            AnnotatorError: It is not set, or cannot be sent in a header.
        """
        name = self._settings.api_key_env
        key = os.environ.get(name, "").strip()
        if not key and is_local(self._url):
            return "none"
        if not key:
            raise AnnotatorError(
                f"expected the key in the environment variable {name}, found nothing",
                where=self._url,
                todo=f"Set {name}, or name another variable under annotators: openai: api_key_env",
            )
        if not key.isascii() or not key.isprintable():
            raise AnnotatorError(
                f"expected a key in the environment variable {name}, found characters that no key has",
                where=self._url,
                todo=f"Set {name} to the key alone",
            )
        return key


def _parameters(settings: Settings, schema: dict[str, Any]) -> dict[str, Any]:
    """The fields of a request beside its messages."""
    if taken := sorted(set(settings.extra_body) & set(_OWN_FIELDS)):
        raise DeclarationError(
            f"expected further fields of the request, found {', '.join(taken)}, which the annotator sets",
            where="annotators: openai: extra_body",
            todo=f"Remove {', '.join(taken)}",
        )
    sampling = {"temperature": settings.temperature, "seed": settings.seed, "max_tokens": settings.max_tokens}
    if "max_completion_tokens" in settings.extra_body:  # endpoints refuse both at once
        del sampling["max_tokens"]
    return {
        "model": settings.model,
        **{name: value for name, value in sampling.items() if value is not None},
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "annotation", "strict": True, "schema": schema},
        },
        **settings.extra_body,
    }


def _rendered(task: Task, demonstrations: pl.DataFrame, confidence: bool) -> list[list[prompts.Message]]:
    rendered = []
    for content, label in demonstrations.select("content", "label").iter_rows():
        try:
            rendered.append(prompts.demonstration_messages(task, content, label, confidence=confidence))
        except ValueError as error:
            raise AnnotatorError(
                f"a demonstration's label is not one of the task's: {error}",
                where="demonstrations",
                todo="Correct the label in the source, or add it to the task's labels",
            ) from None
    return rendered
