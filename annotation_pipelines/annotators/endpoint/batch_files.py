"""The files of the batch API: one request a line on the way there, one reply a line on the way back.

A line that comes back holds the reply as a member of a JSON object. It is cut out as it stands, so that the ledger has
the body that the endpoint sent, as it has in live mode.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from annotation_pipelines.errors import StoreError

NOT_TRIED = frozenset({"batch_expired", "batch_cancelled"})
"""Error codes of requests that the batch ended before."""

_DECODER = json.JSONDecoder()
_BLANK = re.compile(r"[ \t\r\n]*")
_KEY = slice(14, 46)
"""Where `input_line` puts the 32 hexadecimal digits of a key."""


def input_line(key: str, body: bytes, url: str) -> bytes:
    """The line that asks for one completion.

    Args:
        key: The request's key; comes back as custom_id.
        body: The request's JSON body.
    """
    return b'{"custom_id":"%s","method":"POST","url":"%s","body":%s}\n' % (
        key.encode(),
        url.encode(),
        body.replace(b"\n", b" "),
    )


def key_of(line: bytes) -> str:
    """The key in a line of `input_line`."""
    return line[_KEY].decode()


@dataclass(frozen=True, slots=True)
class OutputLine:
    """What came back for one request.

    Attributes:
        custom_id: The request's key.
        status: Status of the HTTP reply; None where there was none.
        body: The reply's body, as it stands in the line; where there was none, the error.
        error: The code and message of an error of the batch itself.
        tried: False where the batch ended before the request was sent.
    """

    custom_id: str
    status: int | None
    body: str | None
    error: str | None = None
    tried: bool = True


def output_lines(path: Path) -> Iterator[OutputLine | None]:
    """The lines of an output or error file, blank ones left out; None for each that cannot be read."""
    with path.open("rb") as file:
        for line in file:
            if line.strip():
                yield read_output_line(line)


def read_output_line(line: bytes) -> OutputLine | None:
    """One line of an output or error file; None where it cannot be read. Never raises."""
    text = line.decode("utf-8", errors="replace")
    try:
        members = _members(text, _BLANK.match(text).end())  # type: ignore[union-attr]
        custom_id = json.loads(members["custom_id"])
        response = members.get("response", "null")
        error = json.loads(members.get("error", "null"))
        if not isinstance(custom_id, str):
            return None
        if response.startswith("{"):
            parts = _members(response, 0)
            status = json.loads(parts.get("status_code", "null"))
            if not isinstance(status, int) or isinstance(status, bool):
                return None
            return OutputLine(custom_id, status, _body(parts.get("body", "null")))
    except (ValueError, KeyError, RecursionError, IndexError):
        return None
    code = error.get("code") if isinstance(error, dict) else None
    said = error.get("message") if isinstance(error, dict) else error
    problem = ": ".join(" ".join(str(part).split()) for part in (code, said) if part)
    return OutputLine(
        custom_id, None, members.get("error"), problem[:300] or "no reply and no error", tried=code not in NOT_TRIED
    )


def _body(text: str) -> str | None:
    """A body as it stands; some gateways put it in quotes."""
    if text.startswith('"'):
        return str(json.loads(text))
    return None if text == "null" else text


def _members(text: str, at: int) -> dict[str, str]:
    """The members of the JSON object that begins there: name to the text of its value. Of equal names the last counts.

    Raises:
        ValueError: It is no JSON object.
    """
    members: dict[str, str] = {}
    at = _after(text, at, "{")
    while text[at] != "}":
        name, at = _DECODER.raw_decode(text, at)
        begin = _after(text, _skip(text, at), ":")
        _, end = _DECODER.raw_decode(text, begin)
        members[str(name)] = text[begin:end]
        at = _skip(text, end)
        if text[at] != "}":
            at = _after(text, at, ",")
    return members


def _after(text: str, at: int, mark: str) -> int:
    """The first place after a mark and the blanks behind it."""
    if text[at] != mark:
        raise ValueError(f"expected {mark}")
    return _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    blanks = _BLANK.match(text, at)
    return blanks.end() if blanks else at


class PrivateFile:
    """A new file that only its owner reads, as a context manager; a full disk is told in our words.

    Attributes:
        size: Bytes written.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.size = path, 0

    def __enter__(self) -> PrivateFile:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            self._file = os.fdopen(os.open(self.path, flags, 0o600), "wb")
        except OSError as error:
            raise self._unwritable(error) from None
        return self

    def write(self, piece: bytes) -> None:
        """Add bytes.

        Raises:
            StoreError: The disk is full or gone.
        """
        try:
            self._file.write(piece)
        except OSError as error:
            raise self._unwritable(error) from None
        self.size += len(piece)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._file.close()
        except OSError as closing:
            if kind is None:
                raise self._unwritable(closing) from None

    def _unwritable(self, error: OSError) -> StoreError:
        return StoreError(
            f"cannot be written: {error.strerror or error}",
            where=self.path,
            todo="Free the disk or make the folder writable, and run again: nothing was lost",
        )
