"""Recognizers of the project itself: functions beside defs.yaml, from a text to (start, end, kind) triples."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from annotation_pipelines.annotators.privacy.findings import Finding, Recognizer
from annotation_pipelines.errors import DeclarationError
from annotation_pipelines.user_code import line_of, load_module

_WHERE = "privacy: recognizers"
_KIND = re.compile(r"[a-z][a-z0-9_]{0,39}")


def callable_recognizer(reference: str, folder: Path) -> Recognizer:
    """The recognizer that a function makes.

    Args:
        reference: file.py:function. The function is called with a text.
        folder: Where the file lies.

    Raises:
        DeclarationError: There is no such file or function. The recognizer itself raises it where the function raises
            or gives something else; the message does not repeat the text, nor what the function said about it.
    """
    file = source_file(reference, folder)
    name = reference.rpartition(":")[2]
    function = _function(file, name)

    def recognize(text: str) -> Iterator[Finding]:
        return iter([_finding(given, text, f"{file} ({name})") for given in _call(function, text, file, name)])

    return recognize


def source_file(reference: str, folder: Path) -> Path:
    """The file that file.py:function names.

    Raises:
        DeclarationError: It is written otherwise, or the file is not there.
    """
    name, separator, _ = reference.rpartition(":")
    if not separator or not name.endswith(".py"):
        raise DeclarationError(
            f"expected file.py:function, found {reference!r}", where=_WHERE, todo="Correct it in defs.yaml"
        )
    file = folder / name
    if not file.is_file():
        raise DeclarationError("there is no such file", where=file, todo="Put it beside defs.yaml, or correct the name")
    return file


def _function(file: Path, name: str) -> Callable[[str], object]:
    try:
        function = getattr(load_module(file), name, None)
    except Exception as error:
        raise DeclarationError(
            f"cannot be loaded: {type(error).__name__}: {error}", where=line_of(error, file), todo="Correct the file"
        ) from error
    if not callable(function):
        raise DeclarationError(f"there is no function {name!r}", where=file, todo=f"Correct {_WHERE} in defs.yaml")
    given: Callable[[str], object] = function
    return given


def _call(function: Callable[[str], object], text: str, file: Path, name: str) -> list[object]:
    try:
        given = function(text)
        if isinstance(given, Iterable) and not isinstance(given, str | bytes):
            return list(given)
    except Exception as error:
        # Its message may repeat the text, and so does its traceback in some debuggers: neither goes on.
        raise DeclarationError(
            f"raised {type(error).__name__}", where=f"{line_of(error, file)} ({name})", todo="Correct the function"
        ) from None
    raise DeclarationError(
        f"expected an iterable of (start, end, kind), found {type(given).__name__}", where=f"{file} ({name})"
    )


def _finding(given: object, text: str, where: str) -> Finding:
    match given:
        case (int(start), int(end), str(kind)) if 0 <= start < end <= len(text) and _KIND.fullmatch(kind):
            return Finding(start, end, kind)
        case (start, end, kind):
            found = f"({start!r:.20}, {end!r:.20}, {kind!r:.40}) in a text of {len(text)} characters"
        case _:
            found = type(given).__name__
    raise DeclarationError(
        "expected (start, end, kind) with 0 <= start < end <= length and a kind such as employee_id, found " + found,
        where=where,
        todo="Correct the function",
    )
