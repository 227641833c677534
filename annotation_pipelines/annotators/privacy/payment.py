"""Numbers that pay: cards and international bank accounts (IBAN)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from annotation_pipelines.annotators.privacy.context import meanings
from annotation_pipelines.annotators.privacy.findings import Finding
from annotation_pipelines.annotators.privacy.numbers import Number

_SHORTEST_CARD, _LONGEST_CARD = 12, 19  # ISO/IEC 7812 allows 8 to 19; none below 12 is in use
_ISSUED = re.compile(
    r"""
      4(?:\d{12}|\d{15}|\d{17,18})                                     # Visa
    | (?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}  # Mastercard
    | 3[47]\d{13}                                                      # American Express
    | (?:30[0-59]|3[689]\d)\d{11,16}                                   # Diners Club
    | (?:6011|64[4-9]\d|65\d\d|62\d\d|81\d\d)\d{12,15}                 # Discover, UnionPay, RuPay
    | 35(?:2[89]|[3-8]\d)\d{12,15} | (?:1800|2131)\d{11}               # JCB
    | (?:50|5[6-9]|6\d)\d{10,17}                                       # Maestro
    | (?:220[0-4]|9792|508\d)\d{12,15}                                 # Mir, Troy, RuPay
    """,
    re.VERBOSE,
)


def card_numbers(numbers: Sequence[Number]) -> Iterator[Finding]:
    """Card numbers: 12 to 19 digits that an issuer gives out and whose check digit (Luhn) is right.

    Where a word such as card or Visa announces the number, any 12 to 19 digits.
    """
    from stdnum import luhn

    for number in numbers:
        if len(number.digits) < _SHORTEST_CARD:
            continue
        if len(number.digits) <= _LONGEST_CARD and number.said == "credit_card":
            yield Finding(number.start, number.end, "credit_card")
            continue
        for start, end, digits in _neighbours(number):
            if _ISSUED.fullmatch(digits) and luhn.is_valid(digits):
                yield Finding(start, end, "credit_card")


def _neighbours(number: Number) -> Iterator[tuple[int, int, str]]:
    """Neighbouring groups of a number that together have as many digits as a card."""
    for first, begin in enumerate(number.groups):
        digits = ""
        for group in number.groups[first : first + _LONGEST_CARD]:
            digits += group.digits
            if len(digits) > _LONGEST_CARD:
                break
            if len(digits) >= _SHORTEST_CARD:
                yield begin.start, group.end, digits


_SHORTEST_IBAN = 15
_IBAN = re.compile(r"(?<![^\W_])(?:[A-Za-z]{2}|[A-Z]{2} )[0-9]{2}(?:[ \u00a0\-.]?[A-Za-z0-9]){11,30}")
_ANNOUNCED_IBAN = re.compile(
    r"[A-Za-z]{2} ?[0-9]{2}"
    r"(?:[A-Za-z0-9]{11,30}|(?:[ \u00a0-]?[A-Z0-9]{4}){2,7}(?:[ \u00a0-]?[A-Z0-9]{1,4})?)(?![^\W_])"
)


def ibans(text: str) -> Iterator[Finding]:
    """International bank account numbers with the length, form and check digits of their country.

    After the word IBAN, whatever is written like one.
    """
    from stdnum import iban

    position = 0
    while match := _IBAN.search(text, position):
        start = match.start()
        end = next((end for end in _ends(text, match) if iban.is_valid(_plain(text[start:end]))), None)
        if end is None and meanings(text, [(start, match.end())]) == ["iban"]:
            announced = _ANNOUNCED_IBAN.match(text, start)
            end = announced.end() if announced else None
        if end is not None:
            yield Finding(start, end, "iban")
        position = end or start + 4


def _ends(text: str, match: re.Match[str]) -> Iterator[int]:
    """Where an IBAN may end: with the last letter or digit of a word."""
    length = 0
    for index in range(match.start(), match.end()):
        if text[index].isalnum():
            length += 1
            if length >= _SHORTEST_IBAN and not text[index + 1 : index + 2].isalnum():
                yield index + 1


def _plain(written: str) -> str:
    return "".join(c for c in written if c.isalnum()).upper()
