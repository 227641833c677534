"""What can be seen of the words of a text, and of spans of them, without an encoder: the features of a span tagger.

The units are words, and single characters of scripts that do not set words apart. What is seen of them is what taggers
of named entities have long gone by (Ratinov and Roth 2009, "Design challenges and misconceptions in named entity
recognition"): the word, its ends, its shape, its neighbours, and whether it stands in an entity that is known.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache

import regex

from annotation_pipelines.tasks.spans import BORDERLESS, Span, TypedSpan

_UNITS = regex.compile(r"https?://\S+|[[\p{L}\p{M}\p{N}_]--[" + BORDERLESS + r"]]+|\X", regex.V1)
_ALONE = regex.compile(r"[" + BORDERLESS + r"]", regex.V1)
_LONGEST_KNOWN = 24

Seen = list[str]
"""Names of what is there; each is 1."""


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


class Gazetteer:
    """The surfaces of known entities, by the texts that they were seen in.

    Args:
        known: Texts with their entities.
    """

    def __init__(self, known: Sequence[tuple[str, Sequence[TypedSpan]]]) -> None:
        self._types: defaultdict[tuple[str, ...], Counter[tuple[str, str]]] = defaultdict(Counter)
        for text, entities in known:
            for entity in entities:
                self._types[tuple(Words(entity.of(text)).lower)][entity.type, text] += 1
        self._longest = min(max(map(len, self._types), default=0), _LONGEST_KNOWN)

    def marks(self, words: Words) -> list[Seen]:
        """For each unit which known entity it stands in; what is known from this very text does not count."""
        marks: list[Seen] = [[] for _ in words.spans]
        place = 0
        while place < len(marks):
            for length in range(min(self._longest, len(marks) - place), 0, -1):
                known = self._types.get(tuple(words.lower[place : place + length]))
                types = Counter(kind for kind, text in known or () if text != words.text)
                if types:
                    kind = min(types, key=lambda kind: (-types[kind], kind))
                    for step in range(length):
                        side = "B" if step == 0 else "I"
                        marks[place + step] = [f"known {side} {kind}", f"known {side} {min(length, 3)}"]
                    place += length
                    break
            else:
                place += 1
        return marks


def unit_features(words: Words, marks: Sequence[Seen]) -> list[Seen]:
    """What is seen of every unit and around it."""
    runs = words.runs()
    found: list[Seen] = []
    for place, (word, shape) in enumerate(zip(words.lower, words.shapes, strict=True)):
        seen = ["any", f"w {word}", f"s {shape}", *marks[place]]
        (before, shape_before), (after, shape_after) = words.at(place - 1), words.at(place + 1)
        reach = 3 if words.alone[place] else 2
        for step in (*range(-reach, 0), *range(1, reach + 1)):
            near, near_shape = words.at(place + step)
            seen += [f"w{step} {near}", f"s{step} {near_shape}"]
        seen += [
            f"w-1w {before} {word}",
            f"ww+1 {word} {after}",
            f"s-1s {shape_before} {shape}",
            f"ss+1 {shape} {shape_after}",
            f"s-1ss+1 {shape_before} {shape} {shape_after}",
            f"joined {words.joined[place]} {place + 1 < len(runs) and words.joined[place + 1]}",
        ]
        if place == 0:
            seen.append("first")
        if words.alone[place]:
            run, ahead, behind = runs[place]
            before2, after2 = words.at(place - 2)[0], words.at(place + 2)[0]
            seen += [
                f"run {run[:9]}",
                f"run {shape} {min(ahead, 3)} {min(behind, 3)}",
                f"run {shape} {min(len(run), 6)}",
                f"run ends {run[-2:]}",
                f"run ends {run[-1:]}",
                f"w-2w-1 {before2} {before}",
                f"w+1w+2 {after} {after2}",
                f"w-1ww+1 {before} {word} {after}",
                f"w-2w-1w {before2} {before} {word}",
                f"ww+1w+2 {word} {after} {after2}",
            ]
        else:
            for length in range(1, min(len(word), 5)):
                seen += [f"p {word[:length]}", f"e {word[-length:]}"]
            seen.append(f"length {min(len(word), 8)}")
            if words.shouted:
                seen.append("shouted")
        found.append(seen)
    return found


def span_features(words: Words, marks: Sequence[Seen], first: int, last: int) -> Seen:
    """What is seen of the units from `first` to `last` together, and around them."""
    inside = words.lower[first : last + 1]
    surface = "".join(inside)
    shape = re.sub(r"(.)\1+", r"\1", "".join(words.shapes[first : last + 1]))
    seen = ["any", f"units {min(len(inside), 5)}", f"surface {surface}", f"shape {shape}"]
    seen += [f"from {inside[0]}", f"to {inside[-1]}", *(f"w {word}" for word in inside)]
    for length in (1, 2, 3):
        seen += [f"p {surface[:length]}", f"e {surface[-length:]}"]
        left, right = words.at(first - length)[0], words.at(last + length)[0]
        seen += [f"l{length} {left}", f"r{length} {right}", f"near {left}", f"near {right}"]
    seen.append("left " + "".join(words.lower[max(0, first - 2) : first]))
    seen.append("right " + "".join(words.lower[last + 1 : last + 3]))
    seen += [surface[start : start + n] for n in (2, 3) for start in range(min(len(surface), 60) - n + 1)]
    seen += [mark for unit in marks[first : last + 1] for mark in unit]
    return seen


def columns(seen: Sequence[Seen], known: Mapping[str, int]) -> tuple[list[int], list[int]]:
    """The columns that are 1, row after row, and where each row ends: as compressed sparse rows have them."""
    indices: list[int] = []
    ends = [0]
    for names in seen:
        indices.extend(sorted({known[name] for name in names if name in known}))
        ends.append(len(indices))
    return indices, ends


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
