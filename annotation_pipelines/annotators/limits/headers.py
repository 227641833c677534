"""What the headers of a reply say of an endpoint's limits. Pure functions.

OpenAI's names (https://platform.openai.com/docs/guides/rate-limits), which most servers and gateways have taken over:
`x-ratelimit-limit-requests`, `-remaining-`, `-reset-`, the same for tokens, and `retry-after` or `retry-after-ms`.
Whatever cannot be read counts as not said.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal

_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")
_UNITS = (86_400.0, 3_600.0, 60.0, 1.0, 0.001)
_LONGEST = 31 * 86_400.0


@dataclass(frozen=True, slots=True)
class Allowance:
    """What is left of a limit.

    Attributes:
        limit: Requests or tokens a minute.
        remaining: How many of them may be sent now.
        reset: Seconds until all of them may be sent again.
    """

    limit: float | None = None
    remaining: float | None = None
    reset: float | None = None


def allowance(headers: Mapping[str, str], what: Literal["requests", "tokens"]) -> Allowance | None:
    """What a reply says of the limit on requests or tokens; None where it says nothing."""
    limit = _number(headers.get(f"x-ratelimit-limit-{what}"))
    remaining = _number(headers.get(f"x-ratelimit-remaining-{what}"))
    if limit is None and remaining is None:
        return None
    return Allowance(limit or None, remaining, duration(headers.get(f"x-ratelimit-reset-{what}")))


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds after which the endpoint wants to be asked again; None where it does not say.

    Args:
        now: The time of day, for a reply that names a date; default: the clock's.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return min(milliseconds / 1000, _LONGEST)
    text = headers.get("retry-after")
    if not text:
        return None
    seconds = duration(text)
    if seconds is not None:
        return seconds
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return min(max((date - (now or datetime.now(UTC))).total_seconds(), 0.0), _LONGEST)


def duration(text: str | None) -> float | None:
    """Seconds of "6m0s", "120ms", "1h2m3.5s" or a plain number of seconds; None for anything else."""
    text = (text or "").strip()
    number = _number(text)
    if number is not None:
        return number if number <= _LONGEST else None
    found = _DURATION.fullmatch(text)
    if not text or not found:
        return None
    seconds = sum(float(part) * unit for part, unit in zip(found.groups(), _UNITS, strict=True) if part)
    return seconds if seconds <= _LONGEST else None


def _number(text: str | None) -> float | None:
    """A number from 0 up, finite."""
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if 0 <= number < float("inf") else None
