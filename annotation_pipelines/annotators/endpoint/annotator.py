"""A large language model behind an OpenAI-compatible endpoint."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Literal

import numpy as np
import polars as pl

from annotation_pipelines.annotators.base import Ask, Keep, Request, Turn
from annotation_pipelines.annotators.candidates import Candidates
from annotation_pipelines.annotators.endpoint import wire
from annotation_pipelines.annotators.endpoint.chat import Chat
from annotation_pipelines.annotators.endpoint.dialect import Dialect, Prompt
from annotation_pipelines.annotators.endpoint.url import endpoint_url, is_local
from annotation_pipelines.annotators.endpoint.votes import majority, token_probability
from annotation_pipelines.annotators.endpoint.wire import Choice, Completion, Manner, encoded, read_completion
from annotation_pipelines.annotators.privacy.redaction import Redactor
from annotation_pipelines.annotators.prompts import Prompts
from annotation_pipelines.annotators.spending.purse import Purse
from annotation_pipelines.content import Content
from annotation_pipelines.errors import AnnotatorError, DeclarationError
from annotation_pipelines.project import Injection, Price, digest
from annotation_pipelines.project import OpenAIAnnotator as Settings
from annotation_pipelines.tasks.base import Annotation, Task

METHOD = 1
"""Raised when the same replies would make another label."""

_OWN_FIELDS = ("messages", "input", "model", "n", "stream", "logprobs", "tools", "tool_choice")

Choose = Callable[[pl.DataFrame], np.ndarray]


class OpenAIAnnotator:
    """Asks a model for the label of every record.

    Args:
        settings: What the declaration says of the model and its endpoint.
        guideline: How to annotate, in words.
        name: How tables call it; default: openai:MODEL.
        template: The user's template of the system prompt; None for the package's own.
        injection: Which defences against instructions in records are on; None for none.
        redactor: Takes personal data out of a text before it is sent; None leaves it in.
        redaction: JSON-like; changes whenever the redactor would make another text.
        demonstrations: Gold records to show, with content and label; None for none.
        choose: For a frame of n records the rows of their demonstrations, an int array (n, k), the last next to the
            record, -1 where there are too few.
        choice: JSON-like; changes whenever `choose` would choose others.
        candidates: Chooses the labels to show with each record, where the task shows only some; None where it shows
            all.
        price: What a million tokens cost; None where that is unknown.

    Raises:
        DeclarationError: The endpoint is no plain URL, the template is wrong, or extra_body sets what this class sets.
        AnnotatorError: A demonstration has a label that is not the task's.
    """

    def __init__(
        self,
        settings: Settings,
        task: Task,
        guideline: str,
        *,
        name: str | None = None,
        template: str | None = None,
        injection: Injection | None = None,
        redactor: Redactor | None = None,
        redaction: object = None,
        demonstrations: pl.DataFrame | None = None,
        choose: Choose | None = None,
        choice: object = None,
        candidates: Candidates | None = None,
        price: Price | None = None,
    ) -> None:
        if taken := sorted(set(settings.extra_body) & set(_OWN_FIELDS)):
            raise DeclarationError(
                f"expected further fields of the request, found {', '.join(taken)}, which the annotator sets",
                where="annotators: openai: extra_body",
                todo=f"Remove {', '.join(taken)}",
            )
        if settings.max_tokens is None and task.answer_tokens is not None:
            # Four times as many as are expected: what is cut off was paid for and is of no use.
            settings = settings.model_copy(update={"max_tokens": settings.answer_tokens + 4 * task.answer_tokens})
        self.settings = settings
        self._task = task
        self._name = name or f"openai:{settings.model}"
        self._price, self._redactor, self._choose = price, redactor, choose
        self._url = endpoint_url(settings)
        self._prompts = Prompts(
            task,
            guideline,
            template=template,
            confidence=settings.confidence_from == "stated",
            rationale=settings.rationale,
            injection=injection or Injection(),
        )
        self._dialect = Dialect(settings, self._url, self._prompts.schema)
        self._chat = Chat(settings, self._url, self._dialect, price)
        self._system = encoded([self._prompts.system])
        self._candidates = candidates
        self._demonstrations: list[bytes] = []
        self._named: list[list[str]] = []
        if demonstrations is not None and choose:
            self._demonstrations = self._rendered(demonstrations)
            self._named = [task.named(label) for label in demonstrations["label"]]
        # The request as it is asked for first: a server that refuses that form is sent a simpler one under the same
        # key, so one that learns JSON schemas later is not asked again about what it has answered.
        asked = {
            "endpoint": self._url,
            "api": settings.api,
            "parameters": wire.parameters(settings, Manner(), self._prompts.schema, settings.samples),
        }
        self._key_base = hashlib.blake2b(digest(asked).encode(), digest_size=16)
        self._fingerprint = digest(
            {
                "method": METHOD,
                "prompts": self._prompts.version,
                "parser": task.parser_version,
                "asked": asked,
                "demonstrations": sorted(hashlib.md5(shown).hexdigest() for shown in self._demonstrations),
                "choice": choice if self._demonstrations else None,
                "redaction": redaction,
                "confidence": settings.confidence_from,
                "repairs": settings.repairs,
                **({"candidates": candidates.version} if candidates else {}),
            }
        )

    @property
    def name(self) -> str:
        """How tables and the UI call it."""
        return self._name

    @property
    def endpoint(self) -> str:
        """The base URL; one with credentials is refused."""
        return self._url

    @property
    def price(self) -> Price | None:
        """What a million tokens cost; None where that is unknown."""
        return self._price

    @property
    def mode(self) -> Literal["live", "batch", "auto"]:
        """Whether requests are sent one by one, or as batches."""
        return self.settings.mode

    @property
    def concurrency(self) -> int:
        """The most requests to have in flight."""
        return self.settings.concurrency

    @property
    def fingerprint(self) -> str:
        """Hash of the prompt's fixed part (task, guideline), parameters, endpoint, demonstrations and parser."""
        return self._fingerprint

    def requests(self, records: pl.DataFrame) -> list[Request]:
        """The first request about every row of a frame with record_id, content_hash and content, in its order."""
        rows = records.select("record_id", "content_hash", "content").iter_rows()
        requests = []
        shown = self._shown(records)
        choices: Sequence[Sequence[str] | None] = self._choices(records, shown) or [None] * len(records)
        for (record_id, content_hash, content), places, labels in zip(rows, shown, choices, strict=True):
            examples = (self._demonstrations[place] for place in places)
            before = b",".join(filter(None, (self._system, *examples)))
            prompt = self._prompt(before, self._seen(content), 0, labels)
            requests.append(Request(self._key(prompt.messages), record_id, content_hash, prompt))
        return requests

    def labels_shown(self, records: pl.DataFrame) -> list[list[str]] | None:
        """The labels to choose from with every row of a frame as for `requests`; None where they are the same for all.

        Raises:
            DeclarationError: The encoder cannot be loaded.
            StoreError: The vectors cannot be kept.
        """
        return self._choices(records, self._shown(records)) if self._candidates else None

    def proceed(self, turns: Sequence[Turn]) -> Request | Annotation:
        """What follows the turns so far: a further sample, the repair of an invalid answer, the record in another view,
        or how it ends.
        """
        said: list[Annotation] = []
        for view in range(self._task.views):
            here = [turn for turn in turns if turn.request.body.view == view]
            if not here:
                return self._next_view(turns[0].request, view)
            follows = self._proceed(here)
            if isinstance(follows, Request) or follows.state not in ("labelled", "abstained"):
                return follows
            said.append(self._task.seen(follows, view))
        return self._task.resolve(said) if self._task.views > 1 else said[0]

    def _proceed(self, turns: Sequence[Turn]) -> Request | Annotation:
        """What follows the turns of one view."""
        last = turns[-1]
        if last.status == "error":
            return Annotation("failed", problem=last.error or "no answer")
        if last.status == "refused" and len(turns) == 1:
            return Annotation("refused", problem=last.error or "the model declined to answer")
        prompt: Prompt = last.request.body
        answers: list[Annotation] = []
        wrong: tuple[str, str] | None = None
        for turn in turns:
            completion = turn.read if isinstance(turn.read, Completion) else read_completion(turn.text or "")
            for choice in completion.choices if completion else (Choice(None),):
                answer = self._read(choice, prompt)
                answers.append(answer)
                if answer.state == "invalid":
                    wrong = (choice.content or "", answer.problem or "it is not valid")
        repairs = sum(turn.request.purpose == "repair" for turn in turns)
        if len(answers) - repairs < self.settings.samples and not repairs:
            return self._sample(turns, missing=self.settings.samples - len(answers))
        final = majority(answers, self._task) if self.settings.samples > 1 else answers[-1]
        if final.state == "invalid" and wrong and repairs < self.settings.repairs:
            return self._repair(turns[0].request, repairs + 1, *wrong)
        return final

    def session(self, keep: Keep, purse: Purse) -> AbstractAsyncContextManager[Ask]:
        """A coroutine function that gives the reply to a request, on one client.

        Raises:
            AnnotatorError: No key, a refused one, an unknown model, an empty account, no server, or no such endpoint.
        """
        return self._chat.session(self.key(), keep, purse)

    def key(self) -> str:
        """The API key, from the environment; a server on this machine needs none.

        Raises:
            AnnotatorError: It is not set, or cannot be sent in a header.
        """
        name = self.settings.api_key_env
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

    @property
    def expected_tokens(self) -> int | None:
        """About how many tokens an answer takes, where the task says that it takes many."""
        return self._task.answer_tokens

    def recall(self) -> bool:
        """Take up what was found out about this server before; whether there was anything."""
        return self._dialect.recall()

    def prompt_tokens(self, request: Request) -> int:
        """The tokens that a request gives the model to read, as estimated."""
        prompt: Prompt = request.body
        return len(prompt.messages) // 4

    def batch_line(self, request: Request) -> bytes:
        """What is sent for a request, as the body of a batch's line."""
        return self._dialect.body(request.body)

    def _prompt(self, before: bytes, content: str, view: int, labels: Sequence[str] | None = None) -> Prompt:
        """What is asked about a content as it is shown in a view, with the labels to choose from where not all are."""
        sent, redacted = self._redactor.redact_content(content) if self._redactor else (content, None)
        messages = before + b"," + encoded([self._prompts.record(sent, labels)])
        return Prompt(messages, sent, self.settings.samples, redacted, content, view, len(before))

    def _seen(self, content: str) -> str:
        """A stored content as it is shown first."""
        return self._task.present(Content.read(content), 0).stored

    def _next_view(self, first: Request, view: int) -> Request:
        """The record of a first request, shown in another view."""
        shown: Prompt = first.body
        content = self._task.present(Content.read(shown.original), view).stored
        prompt = self._prompt(shown.messages[: shown.before], content, view)
        return replace(first, key=self._key(prompt.messages, b"view %d" % view), body=prompt)

    def _key(self, messages: bytes, *more: bytes) -> str:
        """Hash of everything that could change the answer: endpoint, parameters, schema, messages, sample."""
        key = self._key_base.copy()
        for part in (messages, *more):
            key.update(b"%d:" % len(part))
            key.update(part)
        return key.hexdigest()

    def _sample(self, turns: Sequence[Turn], missing: int) -> Request:
        """A request for the answers that an endpoint still owes: many give one, whatever n says."""
        first = turns[0].request
        key = self._key(first.body.messages, b"sample %d" % len(turns))
        return replace(first, key=key, body=replace(first.body, n=missing), purpose="sample")

    def _repair(self, first: Request, number: int, answer: str, problem: str) -> Request:
        """The first request again, with the invalid answer and what was wrong: never longer than that."""
        messages = first.body.messages + b"," + encoded(self._prompts.repair(answer, problem))
        body = replace(first.body, messages=messages, n=1)
        return replace(first, key=self._key(messages, b"repair %d" % number), body=body, purpose="repair")

    def _read(self, choice: Choice, prompt: Prompt) -> Annotation:
        if choice.refusal:
            return Annotation("refused", problem=choice.refusal)
        if choice.truncated:
            return Annotation("invalid", problem="truncated: the answer did not end within max_tokens")
        said = choice.content or ""
        taken_out = self._task.quotes and prompt.redacted is not None and prompt.redacted.mapping
        restore = prompt.redacted.restore if prompt.redacted and taken_out else None
        answer = self._prompts.read(said, prompt.content, original=prompt.original, restore=restore)
        if self.settings.confidence_from == "logprobs" and answer.label is not None:
            found = token_probability(choice.tokens, said, self._prompts.written(answer.label))
            return replace(answer, confidence=found)
        return answer

    def _shown(self, records: pl.DataFrame) -> Sequence[Sequence[int]]:
        """For every record the places of the demonstrations to show."""
        if not self._demonstrations or self._choose is None or records.is_empty():
            return [()] * len(records)
        rows: list[list[int]] = np.asarray(self._choose(records)).tolist()
        return [[place for place in row if place >= 0] for row in rows]

    def _choices(self, records: pl.DataFrame, shown: Sequence[Sequence[int]]) -> list[list[str]] | None:
        """For every record the labels to choose from, those of its demonstrations among them."""
        if not self._candidates:
            return None
        needed = [{name for place in places for name in self._named[place]} for places in shown]
        return self._candidates.choose(records, needed)

    def _rendered(self, demonstrations: pl.DataFrame) -> list[bytes]:
        rendered = []
        for content, label in demonstrations.select("content", "label").iter_rows():
            seen = self._seen(content)
            shown, redacted = self._redactor.redact_content(seen) if self._redactor else (seen, None)
            take_out = redacted.take_out if redacted and redacted.mapping else None
            try:
                made = self._prompts.demonstration(shown, label, original=seen, take_out=take_out)
                rendered.append(encoded(made) if made else b"")
            except ValueError as error:
                raise AnnotatorError(
                    f"a demonstration's label is not one of the task's: {error}",
                    where="demonstrations",
                    todo="Correct the label in the source, or add it to the task's labels",
                ) from None
        return rendered
