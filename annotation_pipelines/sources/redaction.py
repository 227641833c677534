"""Keep credentials out of messages: a driver's error may repeat the URL it was given."""

from __future__ import annotations

import re
from urllib.parse import unquote

_USER_INFO = re.compile(r"(?<=://)[^/\s'\"]*@")
_QUERY = re.compile(r"(?<=\w)\?[^\s'\"]*=[^\s'\"]*")
_PASSWORD = re.compile(r"(password|passwd|pwd|secret|token|sig|signature)=[^\s&;'\"]+", re.IGNORECASE)

_MINIMUM = 2  # a password of one or two letters is in every word


def redacted(text: str, secret_url: str | None = None) -> str:
    """The text without credentials.

    User names and passwords in URLs, and what follows a `?` in them, are taken out. Where the URL is known, neither
    it nor its password appears, in whatever shape.
    """
    if secret_url:
        text = text.replace(secret_url, "...")
        if user_info := re.search(r"://[^:@]*:(.*)@", secret_url):
            password = user_info[1]
            for shape in (password, unquote(password)):
                text = text.replace(shape, "...") if len(shape) > _MINIMUM else text
    text = _USER_INFO.sub("...@", text)
    text = _PASSWORD.sub(r"\1=...", text)
    return _QUERY.sub("?...", text)


def first_lines(error: BaseException, secret_url: str | None = None, *, limit: int = 300) -> str:
    """What an error says, in one line without credentials."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = redacted(" ".join(lines[:3]) or type(error).__name__, secret_url)
    return text if len(text) <= limit else f"{text[:limit]}..."
