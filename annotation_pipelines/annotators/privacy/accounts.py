"""Account numbers and the numbers by which states know people, other than cards and IBANs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module

from annotation_pipelines.annotators.privacy.context import meanings
from annotation_pipelines.annotators.privacy.findings import Finding
from annotation_pipelines.annotators.privacy.numbers import begins_with_date

NATIONAL_NUMBERS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("United States: SSN, ITIN", r"\d{3}([- ])\d{2}\1\d{4}", ("us.ssn", "us.itin")),
    (
        "United Kingdom: National Insurance",
        r"(?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d\d ?\d\d ?\d\d ?[A-D]",
        (),
    ),
    ("Spain: DNI", r"\d{8}[- ]?[A-HJ-NP-TV-Z]", ("es.dni",)),
    ("Spain: NIE", r"[XYZ][- ]?\d{7}[- ]?[A-HJ-NP-TV-Z]", ("es.nie",)),
    (
        "Italy: codice fiscale",
        r"[A-Z]{6}[0-9L-V]{2}[A-EHLMPRST][0-9L-V]{2}[A-Z][0-9L-V]{3}[A-Z]",
        ("it.codicefiscale",),
    ),
    ("France: NIR", r"[12] ?\d\d ?\d\d ?(?:\d\d|2[AB]) ?\d{3} ?\d{3} ?\d\d", ("fr.nir",)),
    ("Belgium: national number", r"\d\d\.\d\d\.\d\d-\d{3}\.\d\d", ("be.nn",)),
    ("Switzerland: AHV", r"756\.\d{4}\.\d{4}\.\d\d", ("ch.ssn",)),
    ("Sweden: personnummer", r"(?:19|20)?\d{6}[-+]\d{4}", ("se.personnummer",)),
    ("Norway: fødselsnummer", r"\d{6} ?\d{5}", ("no.fodselsnummer",)),
    ("Finland: henkilötunnus", r"\d{6}[-+A-FU-Y]\d{3}[0-9A-FHJ-NPR-Y]", ("fi.hetu",)),
    ("Czechia: rodné číslo", r"\d{6}/\d{3,4}", ("cz.rc",)),
    ("Romania: CNP; South Africa: ID number", r"\d{13}", ("ro.cnp", "za.idnr")),
    ("Brazil: CPF", r"\d{3}\.\d{3}\.\d{3}-\d\d", ("br.cpf",)),
    ("Mexico: CURP", r"[A-Z]{4}\d{6}[HMX][A-Z]{5}[0-9A-Z]\d", ("mx.curp",)),
    ("China: resident identity", r"\d{17}[\dX]", ("cn.ric",)),
    ("Korea: resident registration", r"\d{6}-\d{7}", ("kr.rrn",)),
    ("India: Aadhaar", r"[2-9]\d{3}([ -])\d{4}\1\d{4}", ("in_.aadhaar",)),
    ("Turkey: T.C. kimlik", r"[1-9]\d{10}", ("tr.tckimlik",)),
)
"""What is found without any word beside it: its form, and the modules of python-stdnum that check it."""

_FORMS = tuple(
    (re.compile(rf"(?<![\w+])(?<!\d[-.,/ ]){form}(?!\w|[-.,/]?\d)", re.ASCII), modules)
    for _, form, modules in NATIONAL_NUMBERS
)

# What may be the number after a word that announces one: groups of letters and digits, each with digits.
_ANNOUNCED = re.compile(
    r"(?<![^\W_])(?<!@)(?:"
    r"(?:[A-Za-z]{1,6}-?)?\d[^\W_]*+(?:[ \u00a0]?[-./ ][ \u00a0]?[A-Za-z]{0,2}\d[^\W_]*+)*+(?:[- ][A-Z](?![^\W_]))?"
    r"|[A-Z](?=[A-Z]{0,8}\d)[A-Z\d]{5,20}(?![^\W_]))"
)
_FEWEST_DIGITS = 5


def account_numbers(text: str) -> Iterator[Finding]:
    """National numbers of the forms above with right check digits, and what a word announces as an account number.

    Words such as account, routing, SSN, passport, driver's licence, tax ID, and their like in other languages; after
    one of them, anything with five digits that is no date.
    """
    for form, modules in _FORMS:
        for match in form.finditer(text):
            if not modules or any(_is_valid(module, match[0]) for module in modules):
                yield Finding(match.start(), match.end(), "account")
    spans = [
        match.span()
        for match in _ANNOUNCED.finditer(text)
        if sum(c.isdecimal() for c in match[0]) >= _FEWEST_DIGITS and not begins_with_date(match[0])
    ]
    for (start, end), said in zip(spans, meanings(text, spans), strict=True):
        if said in ("account", "iban"):
            yield Finding(start, end, "account")


def _is_valid(module: str, written: str) -> bool:
    return bool(import_module(f"stdnum.{module}").is_valid(written.replace(" ", "")))
