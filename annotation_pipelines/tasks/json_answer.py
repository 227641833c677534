"""The one JSON object that a reply holds: bare, in a code fence, or inside prose.

Models wrap JSON in words. What is ambiguous (two different objects, a key twice) or cut off is refused instead of
guessed at: an answer that was never given must not become a label.
"""

from __future__ import annotations

import json
import math
from typing import Any


class NoAnswer(ValueError):
    """A reply holds no single JSON object; the message says why, in words."""


def find_object(reply: str) -> dict[str, Any]:
    """The JSON object of a reply.

    Raises:
        NoAnswer: There is none, it is cut off, a key occurs twice, or there are several that differ.
    """
    text = reply.strip().removeprefix("\ufeff")
    if not text:
        raise NoAnswer("the reply is empty")
    try:
        whole = _loads(text)
    except NoAnswer:
        whole = None
    if isinstance(whole, dict):
        return whole
    spans, open_at = _outermost_braces(text)
    if open_at is not None:
        raise NoAnswer(f"the JSON is cut off: {shown(text[open_at:])}")
    found, problem = [], None
    for start, end in spans:
        try:
            found.append(_loads(text[start:end]))
        except NoAnswer as error:
            problem = error
    if not found:
        raise problem or NoAnswer(f"there is no JSON object in the reply: {shown(text)}")
    if any(_differs(other, found[0]) for other in found[1:]):
        raise NoAnswer(f"the reply holds {len(found)} JSON objects that differ: {shown(text)}")
    answer: dict[str, Any] = found[0]
    return answer


def number(value: object) -> float | None:
    """A finite number out of a JSON value: 0.9, "0.9" or "90%"; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        if isinstance(value, str):
            percent = value.strip().endswith("%")
            result = float(value.strip().removesuffix("%")) / (100 if percent else 1)
        else:
            result = float(value)
    except (ValueError, OverflowError):
        return None
    return result if math.isfinite(result) else None


def shown(value: object, width: int = 80) -> str:
    """A value for a message: quoted, unprintable characters escaped, cut to a width."""
    try:
        text = repr(value[: width + 1] if isinstance(value, str) else value)
    except RecursionError:
        text = f"a {type(value).__name__}, nested too deeply"
    return text if len(text) <= width else text[: width - 1] + "…"


def _loads(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_without_duplicates)
    except NoAnswer:
        raise
    except RecursionError:
        raise NoAnswer("the JSON is nested too deeply") from None
    except ValueError:
        raise NoAnswer(f"the reply is not valid JSON: {shown(text)}") from None


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise NoAnswer(f"the key {shown(key)} occurs twice")
        result[key] = value
    return result


def _differs(one: object, other: object) -> bool:
    # Compared as text: NaN is not equal to itself, and 1 would equal true.
    try:
        return json.dumps(one, sort_keys=True) != json.dumps(other, sort_keys=True)
    except RecursionError:
        return True


def _outermost_braces(text: str) -> tuple[list[tuple[int, int]], int | None]:
    """Where the outermost {...} lie, braces in JSON strings aside, and where one opens that never closes.

    One pass: an object inside a broken one is never taken for the answer.
    """
    spans: list[tuple[int, int]] = []
    depth, start, in_string, escaped = 0, 0, False, False
    for index, character in enumerate(text):
        if in_string:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                in_string = False
        elif character == "{":
            if depth == 0:
                start = index
            depth += 1
        elif depth and character == '"':
            in_string = True
        elif depth and character == "}":
            depth -= 1
            if depth == 0:
                spans.append((start, index + 1))
    return spans, start if depth else None
