"""Which personal data a text holds.

    kind             found by
    email            its syntax                                      internet.py
    ip               its syntax                                      internet.py
    url_credentials  its syntax                                      internet.py
    phone            numbering plans (phonenumbers), words, layout   phones.py
    credit_card      issuer and check digit, words                   payment.py
    iban             country, length, check digits, words            payment.py
    account          national forms with check digits, words         accounts.py
    person           a spaCy model, where one is installed           persons.py
    others           functions beside defs.yaml                      callables.py

A text without personal data costs some microseconds: cheap tests stand before dear ones.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from annotation_pipelines.annotators.privacy.findings import Finding, Recognizer, united

RECOGNIZERS_VERSION = 1
"""Raised when the same text gives other findings: labels that were made under another version are stale."""

_OF_NUMBERS = frozenset({"phone", "credit_card", "iban", "account"})


def find(
    text: str, kinds: Collection[str], *, phone_regions: Sequence[str] = (), further: Sequence[Recognizer] = ()
) -> list[Finding]:
    """The personal data in a text, in order and without overlaps.

    Args:
        text: Any text.
        kinds: Which kinds to look for. person is found by a further recognizer only.
        phone_regions: Countries (ISO 3166) whose phone numbers are found without an international prefix.
        further: More recognizers; all that they find counts, whatever its kind.

    Raises:
        DeclarationError: An unknown region, or a further recognizer that fails.
    """
    found = [*_written(text, kinds, phone_regions)]
    for recognizer in further:
        found += recognizer(text)
    return united(found) if len(found) > 1 else found


def _written(text: str, kinds: Collection[str], phone_regions: Sequence[str]) -> Iterator[Finding]:
    """What can be told by how it is written; where two are equally long, the surer first."""
    from annotation_pipelines.annotators.privacy import internet

    if "url_credentials" in kinds:
        yield from internet.urls_with_credentials(text)
    if "email" in kinds:
        yield from internet.emails(text)
    if "ip" in kinds:
        yield from internet.ip_addresses(text)
    if not _OF_NUMBERS.isdisjoint(kinds):
        yield from _numbers(text, kinds, phone_regions)


def _numbers(text: str, kinds: Collection[str], phone_regions: Sequence[str]) -> Iterator[Finding]:
    from annotation_pipelines.annotators.privacy import accounts, payment, phones
    from annotation_pipelines.annotators.privacy.numbers import has_long_numbers, numbers

    if not has_long_numbers(text):
        return
    found = numbers(text)
    if "iban" in kinds:
        yield from payment.ibans(text)
    if "credit_card" in kinds:
        yield from payment.card_numbers(found)
    if "account" in kinds:
        yield from accounts.account_numbers(text)
    if "phone" in kinds:
        yield from phones.phone_numbers(text, found, phone_regions)
