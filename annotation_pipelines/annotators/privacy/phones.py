"""Phone numbers: those of a numbering plan, those that a word announces, those written as only phone numbers are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache

from annotation_pipelines.annotators.privacy.context import in_a_list
from annotation_pipelines.annotators.privacy.findings import Finding
from annotation_pipelines.annotators.privacy.numbers import Number
from annotation_pipelines.errors import DeclarationError

_FEWEST_DIGITS, _MOST_DIGITS = 7, 15  # ITU-T E.164 allows 15; a local number rarely has fewer than 7
_EXTENSION = re.compile(r",? ?(?:x|ext\.?|extension) ?\d{1,6}(?!\w)", re.IGNORECASE)
_DASH = "[-‐‑– .]"
_WRITTEN = re.compile(
    rf"""
      \+.*                                                               # an international prefix
    | 00[1-9]\d.*
    | \(0?\d{{1,4}}\)[ -]?\d{{2,4}}(?:{_DASH}\d{{2,4}}){{0,3}}           # (37) 788-063, (020) 7946 0958
    | 0\d{{1,4}}(?:\ ?/\ ?|{_DASH})\d{{2,8}}(?:{_DASH}\d{{2,4}}){{0,4}}  # trunk prefix: 0494 92 82 32, 030/1234567
    | \d\d(?:([-‐‑.])\d\d)(?:\1\d\d){{2,3}}                              # pairs: 60-56-85-91
    | (?:1{_DASH})?\(?[2-9]\d\d\)?{_DASH}?[2-9]\d\d{_DASH}\d{{4}}        # North America
    """,
    re.VERBOSE,
)
_SPLIT = re.compile(r"[^\s/]+(?:[^\S\n]?[-–][^\s/]+)*")


def phone_numbers(text: str, numbers: Sequence[Number], regions: Sequence[str]) -> Iterator[Finding]:
    """Phone numbers, with their extensions.

    Args:
        text: Where to look.
        numbers: The numbers in it.
        regions: Countries (ISO 3166) whose numbers are found without an international prefix.

    Raises:
        DeclarationError: There is no such region.
    """
    regions = _known(tuple(regions))
    last = None  # where the number before ended, if it was one
    for number in numbers:
        listed = last is not None and number.said is None and in_a_list(text, last, number.start)
        last = None
        for start, end in _parts(number) if number.said in ("phone", None) else ():
            if number.said == "phone" or listed or _WRITTEN.fullmatch(text, start, end):
                extension = _EXTENSION.match(text, end)
                last = extension.end() if extension else end
                yield Finding(start, last, "phone")
    if not numbers:
        return
    something_else = {
        (number.start, number.end)
        for number in numbers
        if number.said in ("other", "account") and len(number.groups) == 1
    }
    for finding in _of_a_numbering_plan(text, regions):
        if (finding.start, finding.end) not in something_else:
            yield finding


def _parts(number: Number) -> Iterator[tuple[int, int]]:
    """Where it has too many digits for one phone number, those that blanks and slashes part it into."""
    if len(number.digits) <= _MOST_DIGITS:
        yield number.start, number.end
        return
    for part in _SPLIT.finditer(number.written):
        if _FEWEST_DIGITS <= sum(c.isdecimal() for c in part[0]) <= _MOST_DIGITS:
            yield number.start + part.start(), number.start + part.end()


def _of_a_numbering_plan(text: str, regions: tuple[str, ...]) -> Iterator[Finding]:
    from phonenumbers import Leniency, PhoneNumberMatcher

    for region in regions:
        for match in PhoneNumberMatcher(text, region, leniency=Leniency.VALID):
            yield Finding(match.start, match.end, "phone")


@cache
def _known(regions: tuple[str, ...]) -> tuple[str, ...]:
    from phonenumbers import SUPPORTED_REGIONS

    for region in regions:
        if region.upper() not in SUPPORTED_REGIONS:
            raise DeclarationError(
                f"expected countries as in ISO 3166, such as US, found {region!r}",
                where="privacy: phone_regions",
                todo="Correct it in defs.yaml",
            )
    return tuple(dict.fromkeys(region.upper() for region in regions)) or ("ZZ",)  # ZZ: international ones only
