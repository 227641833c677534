"""What an HTTP reply of a chat completions endpoint means: an answer, or which kind of failure. Pure functions.

The status alone does not say: servers disagree on where they put the reason, and the same 404 is a mistyped model, a
wrong path or one record. What would befall every record must stop the run at the first reply; what is about one record
must not.
"""

from __future__ import annotations

import email.utils
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from annotation_pipelines.annotators.prompts import well_formed

Kind = Literal["retry", "record", "doubtful", "stop", "format", "token_limit"]

LONGEST_PAUSE = 120.0
"""Seconds; an endpoint that asks for a longer pause is not waited for."""

_FORMAT = re.compile(r"response_format|json_schema|json_object|structured output|guided_json", re.IGNORECASE)
_NO_MODEL = re.compile(
    r"\bmodel\b.{0,80}(not found|not exist|not a valid model)|(invalid|unknown) model\b",
    re.IGNORECASE | re.DOTALL,
)
_RETRIED = frozenset({408, 409, 425, 429})


@dataclass(frozen=True)
class Completion:
    """The parts of a chat completion that are used.

    Attributes:
        content: What the model wrote, if anything.
        refusal: Why the model declined, if it did.
        truncated: Whether the model ran into the limit of tokens.
    """

    content: str | None
    refusal: str | None
    truncated: bool
    prompt_tokens: int | None
    completion_tokens: int | None


@dataclass(frozen=True)
class Failure:
    """Why there is no answer.

    Attributes:
        kind: retry (a later try may succeed); record (this request is wrong, others may be fine); doubtful (befalls
            every record unless some request was answered already); stop (befalls every record); format (the server
            does not know the response format); token_limit (it wants max_completion_tokens instead of max_tokens).
        problem: In words, in one line.
        todo: What the user can do, where that is known.
        retry_after: Seconds that the endpoint asks to wait.
        refused: Whether it is the content that was declined.
        unreachable: Whether no connection came about at all.
        text: The body, if there was one.
    """

    kind: Kind
    problem: str
    status: int | None = None
    todo: str | None = None
    retry_after: float | None = None
    refused: bool = False
    unreachable: bool = False
    text: str | None = None


def read_completion(body: str) -> Completion | None:
    """The chat completion in a body; None where it is none, such as an error page."""
    document = _json(body)
    choices = document.get("choices") if isinstance(document, dict) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(document, dict) or not isinstance(choice, dict) or not isinstance(message, dict):
        return None
    refusal, finish = message.get("refusal"), choice.get("finish_reason")
    if finish == "content_filter" and not refusal:
        refusal = "stopped by the content filter"
    usage = document.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    return Completion(
        content=_content(message.get("content")),
        refusal=well_formed(str(refusal)) if refusal else None,
        truncated=finish == "length",
        prompt_tokens=_count(usage.get("prompt_tokens")),
        completion_tokens=_count(usage.get("completion_tokens")),
    )


def judge(
    status: int, headers: Mapping[str, str], body: str, *, model: str, parameters: Iterable[str] = ()
) -> Completion | Failure:
    """What a whole HTTP reply means.

    Args:
        headers: Looked up in lower case.
        model: The model that was asked for.
        parameters: The request's fields beside its messages; an endpoint that refuses one refuses every record.
    """
    if 200 <= status < 300:
        completion = read_completion(body)
        if completion:
            return completion
        return Failure("record", f"the reply is not a chat completion{_said(body)}", status, text=body)
    code, parameter, said = _error_code(body), _error_parameter(body), _said(body)
    lowered = said.lower()

    def failure(kind: Kind, problem: str, todo: str | None = None, *, refused: bool = False) -> Failure:
        return Failure(
            kind,
            f"{problem} (HTTP {status}){said}",
            status,
            todo,
            retry_after=_retry_after(headers),
            refused=refused,
            text=body,
        )

    if status == 401:
        # Endpoints repeat the key, or parts of it, in this message.
        return Failure("stop", "the endpoint refused the key (HTTP 401)", status, text=body)
    if status == 402 or code in ("insufficient_quota", "billing_hard_limit_reached"):
        return failure("stop", "the account has no credit left", "Top it up, or raise its limit")
    if status == 403:
        return failure("doubtful", "the endpoint denied access")
    if status in _RETRIED or status >= 500:
        return failure("retry", "too many requests" if status == 429 else "the endpoint is in trouble")
    if code == "model_not_found" or (status in (400, 404, 422) and _NO_MODEL.search(said)):
        kind: Kind = "stop" if code == "model_not_found" else "doubtful"
        return failure(kind, f"the endpoint has no model {model!r}", "Name one of its models")
    if status == 404 and not isinstance(_error(body), dict):
        return failure("doubtful", "there are no chat completions here", "A base_url usually ends in /v1")
    if code == "content_filter":
        return failure("record", "stopped by the content filter", refused=True)
    if "max_completion_tokens" in lowered:
        return failure("token_limit", "the endpoint wants max_completion_tokens")
    if _FORMAT.search(said) or (parameter or "").startswith("response_format"):
        return failure("format", "the endpoint refused the response format")
    if parameter in set(parameters):
        todo = f"Change {parameter} under annotators: openai, or set it to null"
        return failure("doubtful", f"the endpoint refused {parameter}", todo)
    return failure("record", "the endpoint refused the request")


def pause(retry: int, retry_after: float | None, draw: float) -> float:
    """Seconds to wait before the retry with this number, from 0: exponential, with full jitter.

    An endpoint's own Retry-After is honoured; a fraction of a second is added, so that not all come back at once.

    Args:
        draw: A random number, 0 to 1.
    """
    backoff = draw * min(30.0, 0.5 * 2.0**retry)
    return backoff if retry_after is None else retry_after + min(backoff, 0.5)


def _json(body: str) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _error(body: str) -> object:
    """The `error` of a body, or the body itself where a server puts code and message at the top."""
    document = _json(body)
    if not isinstance(document, dict):
        return None
    error = document.get("error")
    if isinstance(error, str):
        return {"message": error}
    return error if isinstance(error, dict) else document if "message" in document else None


def _error_code(body: str) -> str | None:
    error = _error(body)
    found = [error.get("code"), error.get("type")] if isinstance(error, dict) else []
    return next((value for value in found if isinstance(value, str)), None)


def _error_parameter(body: str) -> str | None:
    error = _error(body)
    parameter = error.get("param") if isinstance(error, dict) else None
    return parameter if isinstance(parameter, str) else None


def _said(body: str) -> str:
    """What the server says, as the end of a sentence; cut."""
    error = _error(body)
    said = error.get("message") if isinstance(error, dict) else None
    text = " ".join(well_formed(said if isinstance(said, str) else body).split())
    return f": {text[:300]}" if text else ""


def _content(value: object) -> str | None:
    if isinstance(value, list):
        parts = [part.get("text") for part in value if isinstance(part, dict)]
        return "".join(part for part in parts if isinstance(part, str))
    return value if isinstance(value, str) else None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds of a Retry-After header, which is a number or a date."""
    value = headers.get("retry-after")
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = (email.utils.parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):
            return None
    return max(0.0, seconds) if seconds == seconds else None
