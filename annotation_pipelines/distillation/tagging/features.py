"""What can be seen of the words of a text, and of spans of them, without an encoder.

What taggers of named entities have long gone by (Ratinov and Roth 2009, "Design challenges and misconceptions in named
entity recognition"): the word, its ends, its shape, its neighbours, and whether it stands in an entity that is known.

What is seen has a name. Names are hashed into 2^22 columns (Weinberger et al. 2009, arXiv 0902.2206): nothing has to be
kept of a name, and the file of a tagger does not hold the words that it was learned from.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from annotation_pipelines.distillation.tagging.words import Words
from annotation_pipelines.tasks.spans import TypedSpan

COLUMNS = 1 << 22
"""Into so many columns names are hashed."""

_LONGEST_KNOWN = 24

Seen = list[str]
"""Names of what is there; each is 1."""


def hashed(names: Iterable[str]) -> NDArray[np.int32]:
    """The columns of some names, each once, in order."""
    found = {crc32(name.encode("utf-8", "replace")) & (COLUMNS - 1) for name in names}
    return np.array(sorted(found), dtype=np.int32)


class Gazetteer:
    """The surfaces of known entities, by hashes of them, with the types that they have and in how many texts.

    Attributes:
        known: Hash of a surface -> type -> in how many texts it stands as one.
        longest: The most units that a surface has.
    """

    def __init__(self, known: Mapping[int, Mapping[str, int]], longest: int) -> None:
        self.known, self.longest = known, min(longest, _LONGEST_KNOWN)
        self._own: dict[str, set[tuple[int, str]]] = {}

    @classmethod
    def of(cls, texts: Iterable[tuple[str, Sequence[TypedSpan]]]) -> Gazetteer:
        """What texts with their entities make known."""
        known: defaultdict[int, Counter[str]] = defaultdict(Counter)
        own: defaultdict[str, set[tuple[int, str]]] = defaultdict(set)
        longest = 0
        for text, entities in texts:
            for entity in entities:
                surface = Words(entity.of(text)).lower
                named = _surface(surface), entity.type
                if named not in own[text]:
                    own[text].add(named)
                    known[named[0]][named[1]] += 1
                    longest = max(longest, len(surface))
        gazetteer = cls(known, longest)
        gazetteer._own = dict(own)
        return gazetteer

    def marks(self, words: Words, *, learning: bool = False) -> list[Seen]:
        """For each unit which known entity it stands in.

        Args:
            learning: Whether the text is one that is learned from: what is known from it alone does not count then.
        """
        own = self._own.get(words.text, set()) if learning else set()
        marks: list[Seen] = [[] for _ in words.spans]
        place = 0
        while place < len(marks):
            for length in range(min(self.longest, len(marks) - place), 0, -1):
                surface = _surface(words.lower[place : place + length])
                known = self.known.get(surface)
                types = {kind: texts - ((surface, kind) in own) for kind, texts in known.items()} if known else {}
                if any(types.values()):
                    kind = min(types, key=lambda kind: (-types[kind], kind))
                    for step in range(length):
                        side = "B" if step == 0 else "I"
                        marks[place + step] = [f"known {side} {kind}", f"known {side} {min(length, 3)}"]
                    place += length
                    break
            else:
                place += 1
        return marks


def _surface(words: Sequence[str]) -> int:
    """A hash of 63 bits."""
    digest = hashlib.blake2b("\0".join(words).encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


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
