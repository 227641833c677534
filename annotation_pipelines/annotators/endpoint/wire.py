"""How a request is written and a reply is read, for the two protocols that OpenAI-compatible endpoints speak.

Chat completions: https://platform.openai.com/docs/api-reference/chat; every server has them. Responses:
https://platform.openai.com/docs/api-reference/responses; OpenAI and some gateways.

The messages of a request are JSON already when they come here: what is the same for all records is encoded once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from annotation_pipelines.annotators.prompts import well_formed
from annotation_pipelines.project import OpenAIAnnotator as Settings

Format = Literal["json_schema", "tools", "json_object", "none"]
FORMATS: tuple[Format, ...] = ("json_schema", "tools", "json_object", "none")
"""How an answer is bound to its schema, the strictest first; a server that refuses one is asked in the next."""

Message = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Choice:
    """One answer of a completion.

    Attributes:
        content: What the model wrote, if anything; the arguments where it called the tool.
        refusal: Why the model declined, if it did.
        truncated: Whether the model ran into the limit of tokens.
        tokens: The tokens of the content with their log-probabilities, where the endpoint gives them.
    """

    content: str | None
    refusal: str | None = None
    truncated: bool = False
    tokens: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """The parts of a reply that are used.

    Attributes:
        choices: One answer, or several where several were asked for.
        cached_tokens: Of the prompt's tokens, those that the endpoint had cached.
    """

    choices: tuple[Choice, ...]
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None

    @property
    def refusal(self) -> str | None:
        """Why the model declined, where all its answers are refusals."""
        refusals = [choice.refusal for choice in self.choices]
        return refusals[0] if all(refusals) else None


@dataclass(frozen=True)
class Manner:
    """How a server has been found to take requests.

    Attributes:
        token_limit: The name of the limit on the answer's tokens.
        several: Whether it takes `n`.
        logprobs: Whether it gives log-probabilities.
    """

    format: Format = "json_schema"
    token_limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    several: bool = True
    logprobs: bool = True


def encoded(messages: Iterable[Message]) -> bytes:
    """Messages as JSON objects with commas between them."""
    return b",".join(
        json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode() for message in map(_sound, messages)
    )


def _sound(message: Message) -> Message:
    return {name: well_formed(value) for name, value in message.items()}


def path(settings: Settings) -> str:
    """Where requests go, below the base URL."""
    return "/responses" if settings.api == "responses" else "/chat/completions"


def parameters(settings: Settings, manner: Manner, schema: Mapping[str, Any], n: int = 1) -> dict[str, Any]:
    """The fields of a request beside its messages; what the user set in extra_body stays as it is.

    Args:
        n: How many answers are asked for.
    """
    fields: dict[str, Any] = {"model": settings.model}
    if settings.temperature is not None:
        fields["temperature"] = settings.temperature
    if settings.seed is not None:
        fields["seed"] = settings.seed
    if settings.api == "responses":
        fields["max_output_tokens"] = settings.answer_tokens
        fields |= _responses_format(manner.format, schema)
        fields.pop("seed", None)
        return {**fields, **settings.extra_body}
    # Endpoints refuse both limits at once.
    if "max_completion_tokens" not in settings.extra_body:
        fields[manner.token_limit] = settings.answer_tokens
    if n > 1 and manner.several:
        fields["n"] = n
    if settings.confidence_from == "logprobs" and manner.logprobs:
        fields["logprobs"] = True
    fields |= _chat_format(manner.format, schema)
    return {**fields, **settings.extra_body}


def body(settings: Settings, messages: bytes, rest: bytes) -> bytes:
    """A whole request; `rest` is the JSON object of its other fields."""
    return b'{"%s":[%s],%s' % (b"input" if settings.api == "responses" else b"messages", messages, rest[1:])


def _chat_format(form: Format, schema: Mapping[str, Any]) -> dict[str, Any]:
    if form == "json_schema":
        described = {"name": "annotation", "strict": True, "schema": schema}
        return {"response_format": {"type": "json_schema", "json_schema": described}}
    if form == "tools":
        tool = {"name": "annotation", "description": "Give the answer.", "strict": True, "parameters": schema}
        return {
            "tools": [{"type": "function", "function": tool}],
            "tool_choice": {"type": "function", "function": {"name": "annotation"}},
        }
    return {"response_format": {"type": "json_object"}} if form == "json_object" else {}


def _responses_format(form: Format, schema: Mapping[str, Any]) -> dict[str, Any]:
    if form == "json_schema":
        return {"text": {"format": {"type": "json_schema", "name": "annotation", "strict": True, "schema": schema}}}
    if form == "tools":
        tool = {"type": "function", "name": "annotation", "strict": True, "parameters": schema}
        return {"tools": [tool], "tool_choice": {"type": "function", "name": "annotation"}}
    return {"text": {"format": {"type": "json_object"}}} if form == "json_object" else {}


def read_completion(text: str) -> Completion | None:
    """The completion in the body of a reply of either protocol; None where it is none, such as an error page."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    if isinstance(document.get("choices"), list):
        choices = [_chat_choice(choice) for choice in document["choices"]]
    elif isinstance(document.get("output"), list):
        choices = [_responses_choice(document)]
    else:
        return None
    if not choices or None in choices:
        return None
    usage = document.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
    return Completion(
        choices=tuple(choice for choice in choices if choice),
        prompt_tokens=_count(usage.get("prompt_tokens", usage.get("input_tokens"))),
        completion_tokens=_count(usage.get("completion_tokens", usage.get("output_tokens"))),
        cached_tokens=_count(details.get("cached_tokens")) if isinstance(details, dict) else None,
    )


def _chat_choice(choice: object) -> Choice | None:
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(message, dict):
        return None
    refusal, finish = message.get("refusal"), choice.get("finish_reason")
    if finish == "content_filter" and not refusal:
        refusal = "stopped by the content filter"
    return Choice(
        content=_called_with(message.get("tool_calls")) or _content(message.get("content")),
        refusal=well_formed(str(refusal)) if refusal else None,
        truncated=finish == "length",
        tokens=_tokens(choice.get("logprobs")),
    )


def _responses_choice(document: dict[str, Any]) -> Choice:
    written: list[str] = []
    refusals: list[str] = []
    for entry in document["output"]:
        if not isinstance(entry, dict):
            continue
        if entry.get("type") == "function_call" and isinstance(entry.get("arguments"), str):
            written.append(entry["arguments"])
        for part in entry.get("content") or [] if entry.get("type") == "message" else []:
            if isinstance(part, dict) and isinstance(part.get("text"), str):
                written.append(part["text"])
            elif isinstance(part, dict) and part.get("refusal"):
                refusals.append(well_formed(str(part["refusal"])))
    details = document.get("incomplete_details")
    reason = details.get("reason") if isinstance(details, dict) else None
    if reason == "content_filter" and not refusals:
        refusals.append("stopped by the content filter")
    return Choice("".join(written) or None, refusals[0] if refusals else None, truncated=reason == "max_output_tokens")


def _called_with(calls: object) -> str | None:
    """The arguments of the first tool call."""
    call = calls[0] if isinstance(calls, list) and calls else None
    function = call.get("function") if isinstance(call, dict) else None
    arguments = function.get("arguments") if isinstance(function, dict) else None
    return arguments if isinstance(arguments, str) else None


def _content(value: object) -> str | None:
    if isinstance(value, list):
        parts = [part.get("text") for part in value if isinstance(part, dict)]
        return "".join(part for part in parts if isinstance(part, str))
    return value if isinstance(value, str) else None


def _tokens(logprobs: object) -> tuple[tuple[str, float], ...]:
    entries = logprobs.get("content") if isinstance(logprobs, dict) else None
    if not isinstance(entries, list):
        return ()
    found = []
    for entry in entries:
        token, logprob = (entry.get("token"), entry.get("logprob")) if isinstance(entry, dict) else (None, None)
        if not isinstance(token, str) or not isinstance(logprob, int | float):
            return ()
        found.append((token, float(logprob)))
    return tuple(found)


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63 else None
