"""Numbers as people write them: digits in groups."""

from __future__ import annotations

import re
from dataclasses import dataclass

from annotation_pipelines.annotators.privacy.context import meanings

# One separator between groups, as in 060-12 34 or (020) 7946 or 01/23; a run of digits is never given back.
_BETWEEN = r"(?: ?[-‐‑–./] ?|[ \u00a0\u2009\u202f]|[ \u00a0]?\(|\)[ \u00a0.\-/]?)"
_NUMBER = re.compile(rf"(?<![^\W_])(?:\(\+?|\+ ?\(?)?\d++(?:{_BETWEEN}\d++)*+")
_DENSE = re.compile(r"\d(?:[ \u00a0\u2009\u202f.()/‐‑–-]{0,3}[A-Za-z]?\d){4}")
_DATE = re.compile(
    r"(?:(?:19|20)\d\d[-./ ](?:0?[1-9]|1[0-2])[-./ ](?:0?[1-9]|[12]\d|3[01])|"
    r"(?:0?[1-9]|[12]\d|3[01])[-./](?:0?[1-9]|[12]\d|3[01])[-./](?:19|20)?\d\d)(?!\d)(?![-./]\d)"
)
_PART_OF_A_WORD = re.compile(r"(?!x|ext)[^\W_]", re.IGNORECASE)  # x and ext begin an extension
_GROUP = re.compile(r"\d+")
_FEWEST_DIGITS = 7


@dataclass(frozen=True, slots=True)
class Group:
    """Digits (in ASCII) without anything between, and where they stand."""

    start: int
    end: int
    digits: str


@dataclass(frozen=True, slots=True)
class Number:
    """Digits that stand together.

    Attributes:
        start: Where it begins, a plus sign or parenthesis before it included.
        end: Where it ends, exclusive.
        written: What stands there.
        groups: The digits, group by group.
        said: What the words around it say that it is, see context.meanings.
    """

    start: int
    end: int
    written: str
    groups: tuple[Group, ...]
    said: str | None

    @property
    def digits(self) -> str:
        """All digits, in ASCII."""
        return "".join(group.digits for group in self.groups)


def has_long_numbers(text: str) -> bool:
    """Whether five digits stand close together anywhere: a cheap test before the dear ones."""
    return _DENSE.search(text) is not None


def numbers(text: str) -> list[Number]:
    """Every number of seven digits or more that does not begin with a date."""
    found = []
    for match in _NUMBER.finditer(text):
        if match.end() - match.start() < _FEWEST_DIGITS or begins_with_date(match[0]):
            continue
        groups = [Group(g.start(), g.end(), _ascii(g[0])) for g in _GROUP.finditer(text, match.start(), match.end())]
        if _PART_OF_A_WORD.match(text, match.end()):
            groups.pop()
        if sum(len(group.digits) for group in groups) >= _FEWEST_DIGITS:
            found.append((match.start(), groups[-1].end, text[match.start() : groups[-1].end], tuple(groups)))
    said = meanings(text, [(start, end) for start, end, _, _ in found])
    return [Number(*number, meaning) for number, meaning in zip(found, said, strict=True)]


def begins_with_date(written: str) -> bool:
    """Whether it is, or begins with, a calendar date in digits."""
    return _DATE.match(written) is not None


def _ascii(digits: str) -> str:
    return digits if digits.isascii() else "".join(str(int(c)) for c in digits)
