"""Spans of a text, and where a surface that a model gave back stands in it.

Models cannot count characters, but they copy well: so they are asked for the words themselves, and the offsets are
found here. Offsets are code points into the original text, whatever a surface looks like: another case, other white
space or Unicode form. A surface that is not there, or whose place cannot be told, is refused, never put elsewhere.

A text has an order of the places of a surface, and occurrence k is the k-th of them:

1. The places where it stands as whole words. In scripts that have no blanks between words (Chinese, Japanese, Thai and
   others), and in Korean, where endings are attached to words, every place counts as whole words.
2. The places inside longer words, as that of "art" in "party".

Each from the beginning of the text; a place that overlaps an earlier one of its kind comes after those that do not, as
people count "haha" in "hahahaha" twice. Places are compared exactly first. Only where a surface stands nowhere as whole
words exactly as it is written are whole words compared without regard to white space, Unicode form, quotation marks,
dashes and invisible characters; and only where that leads nowhere without regard to case too. A place that cuts what
people see as one character (a letter with its accents, an emoji with its skin tone, a flag: the extended grapheme
clusters of Unicode Standard Annex 29) does not count at all.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeGuard

import regex

from annotation_pipelines.tasks.base import Invalid, canonical_json
from annotation_pipelines.tasks.json_answer import shown

COUNTING = (
    "Copy its text from the record, character by character. Its occurrence says which one is meant where the same text "
    "stands in the record several times: 1 for the first from the beginning, 2 for the second, and so on. Count the "
    "places where it stands as whole words first, and places inside longer words after them."
)
"""What `find_mention` goes by, in the words of a prompt."""

_SCRIPTS = ("Han", "Hiragana", "Katakana", "Bopomofo", "Yi", "Thai", "Lao", "Khmer", "Myanmar", "Tibetan", "Hangul")
BORDERLESS = "".join(rf"\p{{scx={script}}}" for script in _SCRIPTS)
"""Characters of scripts that do not set words apart, for a set of a regular expression."""

_IN_WORDS = regex.compile(r"[[\p{L}\p{M}\p{N}]--[" + BORDERLESS + "]]", regex.V1)
"""A character of a script that sets words apart, within a word."""

_PLAIN = regex.compile(r"[\x00-\u02ff\u3000-\u3029\u3030-\u3096\u309b-\u9fff]")
"""Characters between two of which a grapheme cluster always ends, \\r\\n aside."""

_UNITS = regex.compile(r"&(?:amp|lt|gt|quot|apos|nbsp|#39|#x27);|\X", regex.IGNORECASE)
_ENTITIES = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'", "nbsp": " ", "#39": "'", "#x27": "'"}
_INVISIBLE = regex.compile(r"[\xad\u034f\u061c\u180b-\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]")
_ALIKE = str.maketrans(
    {
        **dict.fromkeys("‘’‚‛′‵ʼʻ`´＇", "'"),
        **dict.fromkeys("“”„‟″‶«»〝〞＂", '"'),
        **dict.fromkeys("‐‑‒–—―−﹣－", "-"),
    }
)


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Where something stands in a text.

    Attributes:
        start: The first code point.
        end: The code point after the last; above `start`.
    """

    start: int
    end: int

    def of(self, text: str) -> str:
        """What stands there."""
        return text[self.start : self.end]

    def overlaps(self, other: Span) -> bool:
        """Whether they share a code point."""
        return self.start < other.end and other.start < self.end


@dataclass(frozen=True, slots=True)
class Mention:
    """What a model says of a span.

    Attributes:
        surface: The text that stands there.
        occurrence: Which one of its places, from 1; None where that was not said.
        name: How problems call it.
    """

    surface: str
    occurrence: int | None = None
    name: str = "the span"


def find_mention(text: str, surface: str, occurrence: int | None = None) -> Span | None:
    """The k-th place of a surface in a text; the first where k is not given; None where there is none."""
    found = places(text, surface)
    wanted = 1 if occurrence is None else occurrence
    return found[wanted - 1] if 1 <= wanted <= len(found) else None


def find_mentions(text: str, mentions: Sequence[Mention]) -> list[Span]:
    """Where each of several mentions stands, in their order.

    The k-th listing of a surface without an occurrence means its k-th place, of those that no other listing names.

    Raises:
        Invalid: One is not there, or its occurrence is beyond those there are.
    """
    known = {surface: places(text, surface) for surface in {mention.surface for mention in mentions}}
    # Surfaces that differ in case alone, and stand at the same places, are listings of the same.
    first: dict[tuple[Span, ...], str] = {}
    alike = {surface: first.setdefault(there, surface) for surface, there in sorted(known.items())}
    taken: dict[str, set[int]] = {surface: set() for surface in known}
    found: list[Span | None] = []
    for mention in mentions:
        there, k = known[mention.surface], mention.occurrence
        if not there:
            raise Invalid(f"{mention.name} is not in the text: {_why_not(text, mention.surface)}")
        if k is None:
            found.append(None)
            continue
        if not 1 <= k <= len(there):
            raise Invalid(f"{mention.name} names occurrence {shown(k, 24)}, but its text stands there {_times(there)}")
        taken[alike[mention.surface]].add(k)
        found.append(there[k - 1])
    last = dict.fromkeys(known, 0)
    for index, mention in enumerate(mentions):
        if mention.occurrence is not None:
            continue
        there, surface = known[mention.surface], alike[mention.surface]
        k = last[surface] + 1
        while k in taken[surface]:
            k += 1
        if k > len(there):
            raise Invalid(f"{mention.name} is listed once more than its text stands there, {_times(there)}")
        last[surface] = k
        found[index] = there[k - 1]
    return [span for span in found if span is not None]


def occurrence_of(text: str, span: Span) -> int:
    """Which place of its own surface a span is, from 1: what `find_mention` needs to find it again.

    Raises:
        Invalid: It is out of range, empty, or cuts a character.
    """
    check(text, span)
    return places(text, span.of(text)).index(Span(span.start, span.end)) + 1


def check(text: str, span: Span) -> None:
    """See that a span is one of a text.

    Raises:
        Invalid: It is out of range, empty, or cuts a character.
    """
    if not 0 <= span.start < span.end <= len(text):
        raise Invalid(
            f"expected 0 <= start < end <= {len(text)}, the length of the text in code points, "
            f"found start {shown(span.start, 24)} and end {shown(span.end, 24)}"
        )
    if not (_is_border(text, span.start) and _is_border(text, span.end)):
        raise Invalid(f"{span.start} to {span.end} cuts a character, such as a letter from its accent or half an emoji")


def given_span(name: str, given: Mapping[str, object], text: str) -> Span:
    """The span that people gave as start and end, in code points; a text beside them is checked.

    Raises:
        Invalid: It is none of the text; the message begins with `name`.
    """
    start, end = given.get("start"), given.get("end")
    if not (_is_whole_number(start) and _is_whole_number(end)):
        raise Invalid(f"{name}: expected start and end as whole numbers, found {shown(start, 24)} and {shown(end, 24)}")
    span = Span(start, end)
    try:
        check(text, span)
    except Invalid as problem:
        raise Invalid(f"{name}: {problem}") from None
    if span.of(text).isspace():
        raise Invalid(f"{name}: there is nothing but white space from {start} to {end}")
    if given.get("text") not in (None, span.of(text)):
        raise Invalid(f"{name}: its text is not what stands from {start} to {end}")
    return span


def places(text: str, surface: str) -> tuple[Span, ...]:
    """Every place of a surface in a text, in the order in which occurrences are counted."""
    if not surface:
        return ()
    exact = [span for span in _exactly(text, surface) if _is_border(text, span.start) and _is_border(text, span.end)]
    whole = [span for span in exact if _is_whole(text, span)]
    inside = [span for span in exact if not _is_whole(text, span)] if len(whole) < len(exact) else []
    for any_case in (False, True):
        if not whole:
            whole = [span for span in _folded_places(text, surface, any_case) if _is_whole(text, span)]
    return (*_counted(whole), *_counted(inside))


def _is_whole_number(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _exactly(text: str, surface: str) -> list[Span]:
    spans = []
    at = text.find(surface)
    while at >= 0:
        spans.append(Span(at, at + len(surface)))
        at = text.find(surface, at + 1)
    return spans


def _counted(spans: list[Span]) -> list[Span]:
    """The same, those that overlap an earlier one last."""
    apart: list[Span] = []
    overlapping: list[Span] = []
    for span in spans:
        (overlapping if apart and span.start < apart[-1].end else apart).append(span)
    return apart + overlapping


def _is_whole(text: str, span: Span) -> bool:
    return not (_is_within_word(text, span.start) or _is_within_word(text, span.end))


def _is_within_word(text: str, at: int) -> bool:
    return 0 < at < len(text) and _belongs_to_word(text[at - 1]) and _belongs_to_word(text[at])


def _belongs_to_word(character: str) -> bool:
    if character < "\x80":
        return character.isalnum()
    return _IN_WORDS.match(character) is not None


def _is_border(text: str, at: int) -> bool:
    """Whether no grapheme cluster is cut there."""
    if at in (0, len(text)):
        return True
    before, after = text[at - 1], text[at]
    if _PLAIN.match(before) and _PLAIN.match(after):
        return not (before == "\r" and after == "\n")
    return at in _borders(text)


@lru_cache(maxsize=16)
def _borders(text: str) -> frozenset[int]:
    return frozenset(match.end() for match in regex.finditer(r"\X", text))


@dataclass(frozen=True, slots=True)
class _Folded:
    """A text without what models change when they copy.

    Attributes:
        text: What is left.
        starts: For each of its characters where its unit (a grapheme cluster, or an HTML entity) starts in the
            original; -1 where the character is not the first of its unit.
        ends: The same for the ends and the last characters.
    """

    text: str
    starts: tuple[int, ...]
    ends: tuple[int, ...]


def _folded_places(text: str, surface: str, any_case: bool) -> list[Span]:
    there, wanted = _folded(text, any_case), _folded(surface, any_case).text
    if not wanted:
        return []
    spans = []
    for found in _exactly(there.text, wanted):
        start, end = there.starts[found.start], there.ends[found.end - 1]
        if start >= 0 and end >= 0 and _is_border(text, start) and _is_border(text, end):
            spans.append(Span(start, end))
    return spans


@lru_cache(maxsize=64)
def _folded(text: str, any_case: bool) -> _Folded:
    characters: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    blank: tuple[int, int] | None = None
    for unit in _UNITS.finditer(text):
        letters = _unit(unit.group(), any_case)
        if not letters:
            continue
        if letters.isspace():
            blank = blank or unit.span()
            continue
        if blank is not None:
            # "St . Louis" is "St. Louis", and "東京 都" is "東京都"; but "be at" is not "beat".
            if characters and _belongs_to_word(characters[-1]) and _belongs_to_word(letters[0]):
                characters.append(" ")
                starts.append(blank[0])
                ends.append(blank[1])
            blank = None
        characters.extend(letters)
        starts.extend([unit.start(), *[-1] * (len(letters) - 1)])
        ends.extend([*[-1] * (len(letters) - 1), unit.end()])
    return _Folded("".join(characters), tuple(starts), tuple(ends))


@lru_cache(maxsize=8192)
def _unit(unit: str, any_case: bool) -> str:
    """One unit, folded; blank where it is white space, '' where it cannot be seen."""
    if unit[0] == "&" and len(unit) > 1 and unit[-1] == ";":
        unit = _ENTITIES[unit[1:-1].lower()]
    if unit.isascii():
        return " " if unit.isspace() else (unit.lower() if any_case else unit).translate(_ALIKE)
    letters = unicodedata.normalize("NFKC", unit.translate(_ALIKE))
    if any_case:
        # Twice: the case of a letter may be without a composed form (Unicode Standard, section 3.13, D146).
        letters = unicodedata.normalize("NFKC", letters.casefold()).casefold()
    letters = letters.translate(_ALIKE)
    return "".join(_INVISIBLE.sub("", letters).split()) or (" " if letters.isspace() else "")


def _why_not(text: str, surface: str) -> str:
    if not surface or surface.isspace():
        return "it is empty"
    if surface in text and not any(
        _is_border(text, span.start) and _is_border(text, span.end) for span in _exactly(text, surface)
    ):
        return f"{shown(surface, 60)} is only a part of a character"
    return f"expected a text that is copied from it, found {shown(surface, 60)}"


def _times(there: Sequence[Span]) -> str:
    return "once" if len(there) == 1 else f"{len(there)} times"


@dataclass(frozen=True, slots=True, order=True)
class TypedSpan(Span):
    """A span with its type: an entity."""

    type: str


def spans_label(text: str, spans: Iterable[TypedSpan]) -> str:
    """The canonical label of entities: each once, by start, end and type."""
    return canonical_json(
        [
            {"start": span.start, "end": span.end, "text": span.of(text), "type": span.type}
            for span in sorted(set(spans))
        ]
    )


@lru_cache(maxsize=4096)
def labelled_spans(label: str) -> tuple[TypedSpan, ...]:
    """The entities of a canonical label, by start, end and type."""
    return tuple(TypedSpan(entity["start"], entity["end"], entity["type"]) for entity in json.loads(label))
