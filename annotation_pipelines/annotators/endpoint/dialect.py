"""What a server takes, found out by what it refuses, and remembered for its endpoint and model, also for later runs."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from annotation_pipelines.annotators.endpoint import wire
from annotation_pipelines.annotators.endpoint.verdicts import Failure
from annotation_pipelines.annotators.endpoint.wire import FORMATS, Manner
from annotation_pipelines.annotators.limits.capabilities import Capabilities
from annotation_pipelines.annotators.privacy.redaction import Redacted
from annotation_pipelines.project import OpenAIAnnotator as Settings

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a request asks, before it is put into a server's dialect.

    Attributes:
        messages: JSON objects with commas between them.
        content: The record as it is sent, without its fence.
        n: How many answers are asked for.
        redacted: What was taken out of the record; None where nothing is.
        original: The record as it is stored, in this view.
        view: In which of the task's views the record is shown.
        before: How many bytes of the messages come before the record.
    """

    messages: bytes
    content: str
    n: int = 1
    redacted: Redacted | None = None
    original: str = ""
    view: int = 0
    before: int = 0


class Dialect:
    """How the requests of one annotator are written for its server.

    Args:
        url: The checked base URL.
        schema: The JSON schema of an answer.
    """

    def __init__(self, settings: Settings, url: str, schema: Mapping[str, Any]) -> None:
        self._settings, self._url, self._schema = settings, url, schema
        self._rest: dict[tuple[Manner, int], bytes] = {}
        self.manner = Manner()
        self._confirmed = False

    def recall(self) -> bool:
        """Take up what was found out about this server before; whether there was anything."""
        names = {field.name for field in fields(Manner)}
        known = {name: value for name, value in self._capabilities().get().items() if name in names}
        with contextlib.suppress(TypeError, ValueError):
            found = replace(self.manner, **known)
            FORMATS.index(found.format)
            self.manner = found
        return bool(known)

    def confirm(self) -> None:
        """A request was answered in this manner: worth remembering, where nothing was known."""
        if not self._confirmed:
            self._confirmed = True
            if not self._capabilities().get():
                self._capabilities().remember(**asdict(self.manner))

    def body(self, prompt: Prompt) -> bytes:
        """What is sent: one JSON object."""
        rest = self._rest.get((self.manner, prompt.n))
        if rest is None:
            parameters = wire.parameters(self._settings, self.manner, self._schema, prompt.n)
            rest = json.dumps(parameters, separators=(",", ":")).encode()
            self._rest[self.manner, prompt.n] = rest
        return wire.body(self._settings, prompt.messages, rest)

    def adapt(self, failure: Failure, sent: Manner, *, answered: bool) -> bool:
        """Whether to send a refused request again, in another manner.

        Args:
            sent: The manner in which it was refused; another request may have led to a new one meanwhile.
            answered: Whether some request was answered: a complaint about the format is about the record then.
        """
        if failure.kind not in ("format", "token_limit", "several", "logprobs"):
            return False
        if self.manner != sent:
            return True
        changed = self._simpler(failure, answered=answered)
        if changed is None or changed == sent:
            return False
        _log.warning("%s: %s; going on without", self._url, failure.problem)
        self.manner = changed
        self._capabilities().remember(**asdict(changed))
        return True

    def _simpler(self, failure: Failure, *, answered: bool) -> Manner | None:
        if failure.kind == "token_limit":
            return replace(self.manner, token_limit="max_completion_tokens")
        if failure.kind == "several":
            return replace(self.manner, several=False)
        if failure.kind == "logprobs":
            return replace(self.manner, logprobs=False)
        index = FORMATS.index(self.manner.format) + 1
        if answered or index == len(FORMATS) or "response_format" in self._settings.extra_body:
            return None
        return replace(self.manner, format=FORMATS[index])

    def _capabilities(self) -> Capabilities:
        return Capabilities(self._url, self._settings.model)
