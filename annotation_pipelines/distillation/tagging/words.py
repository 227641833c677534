"""Texts cut into units, with what can be seen of each by itself.

The units are words, and single characters of scripts that do not set words apart.
"""

from __future__ import annotations

import re
from functools import lru_cache

import regex

from annotation_pipelines.tasks.spans import BORDERLESS, Span

_UNITS = regex.compile(r"https?://\S+|[[\p{L}\p{M}\p{N}_]--[" + BORDERLESS + r"]]+|\X", regex.V1)
_ALONE = regex.compile(r"[" + BORDERLESS + r"]", regex.V1)


def units(text: str) -> list[Span]:
    """The words of a text, and the characters of scripts without borders between words; white space is none."""
    return [Span(*match.span()) for match in _UNITS.finditer(text) if not match.group().isspace()]


class Words:
    """A text cut into units, with what is seen of each by itself.

    Attributes:
        text: The text.
        spans: The units, n.
        lower: Each in lower case.
        shapes: Each as the kinds of its characters, runs taken together: "Xx" for Emma, "K" for 東.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.spans = units(text)
        words = [span.of(text) for span in self.spans]
        self.lower = [word.lower() if len(word) < 40 else "<long>" for word in words]
        self.shapes = [_shape(word[:16]) for word in words]
        self.alone = [_ALONE.match(word) is not None for word in words]
        self.joined = [False] + [a.end == b.start for a, b in zip(self.spans, self.spans[1:], strict=False)]
        letters = [word for word in words if word.isalpha()]
        self.shouted = sum(word.isupper() for word in letters) > 0.6 * max(1, len(letters))

    def at(self, place: int) -> tuple[str, str]:
        """The word and the shape at a place, which may lie outside of the text."""
        if 0 <= place < len(self.spans):
            return self.lower[place], self.shapes[place]
        return ("^", "^") if place < 0 else ("$", "$")

    def runs(self) -> list[tuple[str, int, int]]:
        """For each unit the run of one shape that it belongs to, and how many units lie before and after it there."""
        found: list[tuple[str, int, int]] = []
        start = 0
        while start < len(self.spans):
            end = start + 1
            while (
                end < len(self.spans)
                and self.joined[end]
                and self.alone[start]
                and self.alone[end]
                and self.shapes[end] == self.shapes[start]
            ):
                end += 1
            run = "".join(self.lower[start:end])
            found.extend((run, place - start, end - 1 - place) for place in range(start, end))
            start = end
        return found


@lru_cache(maxsize=65_536)
def _shape(word: str) -> str:
    return re.sub(r"(.)\1+", r"\1", "".join(map(_kind, word)))


@lru_cache(maxsize=65_536)
def _kind(character: str) -> str:
    if character.isdigit():
        return "d"
    if "\u3041" <= character <= "\u309f":
        return "h"
    if "\u30a0" <= character <= "\u30ff":
        return "k"
    if _ALONE.match(character):
        return "K"
    if character.isalpha():
        return "X" if character.isupper() else "x"
    return character if character < "\x80" else "o"
