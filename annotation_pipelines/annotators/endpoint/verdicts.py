"""What an HTTP reply of an endpoint means: an answer, or which kind of failure. Pure functions.

The status alone does not say: servers disagree on where they put the reason, and the same 404 is a mistyped model, a
wrong path or one record. What would befall every record must stop the run at the first reply; what is about one record
must not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from annotation_pipelines.annotators.endpoint.wire import Completion, read_completion
from annotation_pipelines.annotators.prompts import well_formed

Kind = Literal["retry", "record", "doubtful", "stop", "format", "token_limit", "several", "logprobs"]

_FORMAT = re.compile(
    r"response_format|text\.format|json_schema|json_object|structured output|guided_json|\btools?\b|tool_choice",
    re.IGNORECASE,
)
_FORMAT_FIELDS = ("response_format", "text", "tools", "tool_choice")
_NO_MODEL = re.compile(
    r"\bmodel\b.{0,80}(not found|not exist|not a valid model)|(invalid|unknown) model\b",
    re.IGNORECASE | re.DOTALL,
)
_RETRIED = frozenset({408, 409, 425, 429})


@dataclass(frozen=True)
class Failure:
    """Why there is no answer.

    Attributes:
        kind: retry (a later try may succeed); record (this request is wrong, others may be fine); doubtful (befalls
            every record unless some request was answered already); stop (befalls every record); format (the server
            does not know the response format); token_limit (it wants max_completion_tokens instead of max_tokens);
            several (it does not take n); logprobs (it gives none).
        problem: In words, in one line.
        todo: What the user can do, where that is known.
        refused: Whether it is the content that was declined.
        unreachable: Whether no connection came about at all.
        text: The body, if there was one.
    """

    kind: Kind
    problem: str
    status: int | None = None
    todo: str | None = None
    refused: bool = False
    unreachable: bool = False
    text: str | None = None


def judge(status: int, body: str, *, model: str, parameters: Iterable[str] = ()) -> Completion | Failure:
    """What a whole HTTP reply means.

    Args:
        model: The model that was asked for.
        parameters: The request's fields beside its messages; an endpoint that refuses one refuses every record.
    """
    if 200 <= status < 300:
        completion = read_completion(body)
        if completion:
            return completion
        return Failure("record", f"the reply is not a completion{_said(body)}", status, text=body)
    code, parameter, said = _error_code(body), _error_parameter(body), _said(body)
    lowered = said.lower()

    def failure(kind: Kind, problem: str, todo: str | None = None, *, refused: bool = False) -> Failure:
        return Failure(
            kind,
            f"{problem} (HTTP {status}){said}",
            status,
            todo,
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
        return failure("doubtful", "there is no such endpoint", "A base_url usually ends in /v1")
    if code == "content_filter":
        return failure("record", "stopped by the content filter", refused=True)
    if "max_completion_tokens" in lowered:
        return failure("token_limit", "the endpoint wants max_completion_tokens")
    if parameter == "n":
        return failure("several", "the endpoint does not give several answers")
    if parameter in ("logprobs", "top_logprobs") or "logprobs" in lowered:
        return failure("logprobs", "the endpoint gives no log-probabilities")
    if _FORMAT.search(said) or (parameter or "").startswith(_FORMAT_FIELDS):
        return failure("format", "the endpoint refused the response format")
    if parameter in set(parameters):
        todo = f"Change {parameter} under annotators: openai, or set it to null"
        return failure("doubtful", f"the endpoint refused {parameter}", todo)
    return failure("record", "the endpoint refused the request")


def pause(retry: int, draw: float) -> float:
    """Seconds to wait before the retry with this number, from 0: exponential, with full jitter.

    Args:
        draw: A random number, 0 to 1.
    """
    return draw * min(30.0, 0.5 * 2.0**retry)


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
