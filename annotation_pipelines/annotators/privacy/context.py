"""What the words around a number say that it is.

The word that stands nearest before a number decides ("card 4111...", "call me at 467 3395", "order no. 20251234567"),
else one right after it ("... is my phone number"), else the number before it in a list ("Tel. 411-0183, 411-0182").
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_WORDS = {
    "phone": r"""
        (?:tele|smart|i|mobile)?phones? | tel[ée]fon[oe]s? | telefo(?:on|ni|ns?) | telefax | t[ée]l[ée]phone | t[ée]l |
        telf?s? | puh | mobiles? | cell(?:ular|phone)? | fax | hotlines? | helplines? | textline | whatsapp | signal |
        viber | sms | mms | text(?:s|ed|ing)?\ (?:me|us|him|her|them) | call(?:s|ed|ing)? | dial(?:l?ed|l?ing)? |
        ring(?:\ me)? | anrufen | rufnummer | handy(?:nummer)? | m[óo]vil | celular | portable | chiamare |
        llam(?:ar|e|en) | appel(?:er|ez) | lig(?:ar|ue) | desk | landline | messages?(?:\ to)? | answer(?:s|ed|ing)? |
        reach(?:ed|able)? | contact
    """,
    "credit_card": r"""
        (?:credit|debit|bank|charge|prepaid)?\ ?cards? | cc | visa | master\ ?card | maestro | amex |
        american\ express | diners(?:\ club)? | kreditkarten?(?:nummer)? | karten?nummer | carte | tarjeta |
        carta\ di\ credito | cart[ãa]o
    """,
    "iban": "iban",
    "account": r"""
        accounts? | acct | acc(?=\W{0,3}no) | a/c | routing | sort\ code | aba | ssn | social\ (?:security|insurance) |
        national\ insurance | nino | passports? | driv(?:er['’]?s?|ing)\ licen[cs]e | licen[cs]e\ (?:number|no|\#) |
        tax\ ?(?:payer)?(?:\ id(?:entification)?|\ file)?\ (?:number|no) | tax\ id | itin | national\ id(?:entity)? |
        identity\ (?:card|document|number) | id\ card | identification\ (?:number|no) | medicare | medicaid |
        (?:nhs|medical\ record|patient)\ (?:number|no|id) | mrn |
        konto(?:nummer|nr)? | bankleitzahl | blz | steuer-?\ ?(?:id|nummer|identifikationsnummer|nr) |
        personalausweis(?:nummer)? | ausweis(?:nummer|nr) | reisepass(?:nummer)? | sozialversicherungsnummer |
        f[üu]hrerschein(?:nummer)? | num[ée]ro\ de\ compte | s[ée]curit[ée]\ sociale | passeport |
        permis\ de\ conduire | cuenta | pasaporte | seguridad\ social | dni | codice\ fiscale | conto\ corrente |
        passaporto | rekening(?:nummer)? | bsn | burgerservicenummer | paspoort | rijbewijs | cpf | passaporte | pesel |
        personnummer | f[øo]dselsnummer | henkil[öo]tunnus | aadha?ar | curp
    """,
    "other": r"""
        orders? | invoices? | tickets? | tracking | parcels? | shipments? | references? | ref | cases? | bookings? |
        flights? | products? | sku | items? | serial | models? | versions? | isbn | issn | doi | parts? | pages? |
        rooms? | years? | population | prices? | amounts? | totals? | transactions? | polic(?:y|ies) | claims? | zip |
        post ?codes? | batch | timestamps? | build | commit | bug | pmid | arxiv | euros? | dollars? | usd | eur | gbp
    """,
}
_WORD = re.compile(
    r"(?<![^\W_])(?:" + "|".join(f"(?P<{kind}>{words})" for kind, words in _WORDS.items()) + r")(?![^\W_])",
    re.IGNORECASE | re.VERBOSE,
)
_REACH = {"phone": 40, "credit_card": 40, "iban": 30, "account": 40, "other": 25}  # characters from word to number
_LONGEST_WORD = 30
_SENTENCE_END = re.compile(r"[.!?;]\s+(?=[^\W\d_a-z])|[.!?;]\s*\n|\n\s*\n")
_AFTERWARDS = re.compile(r"\W{0,3}(?:is|was|are|were|ist|est|es)\s")
_AFTER_REACH = 40
_IN_A_LIST = re.compile(
    r"\s*(?:[,;/|&+]|-|\b(?:and|or|und|oder|et|ou|y|o|e)\b)?\s*(?:[#(]|\b(?:and|or)\b)?\s*", re.IGNORECASE
)

_LONGEST_SEPARATOR = 12


def meanings(text: str, spans: Sequence[tuple[int, int]]) -> list[str | None]:
    """What the numbers at these places, which are in order, are said to be.

    Returns:
        For each: phone, credit_card, iban, account, other (some number that is none of these), or None where nothing
        is said. A word counts up to 40 characters away, with no digit and no end of a sentence between.
    """
    said: list[str | None] = []
    for index, (start, end) in enumerate(spans):
        here = _said_before(text, start) or _said_after(text, end)
        if here is None and index and in_a_list(text, spans[index - 1][1], start):
            here = said[-1]
        said.append(here)
    return said


def in_a_list(text: str, start: int, end: int) -> bool:
    """Whether what stands between two numbers makes them neighbours in a list, as a comma or the word and does."""
    return end - start <= _LONGEST_SEPARATOR and _IN_A_LIST.fullmatch(text, start, end) is not None


def _said_before(text: str, start: int) -> str | None:
    kind, end = None, start
    for word in _WORD.finditer(text, max(0, start - max(_REACH.values()) - _LONGEST_WORD), start):
        kind, end = word.lastgroup, word.end()
    return kind if kind and start - end <= _REACH[kind] and not _interrupted(text[end:start]) else None


def _said_after(text: str, end: int) -> str | None:
    linked = _AFTERWARDS.match(text, end)
    if linked is None:
        return None
    word = _WORD.search(text, linked.end(), linked.end() + _AFTER_REACH)
    return word.lastgroup if word and not _interrupted(text[linked.end() : word.start()]) else None


def _interrupted(between: str) -> bool:
    return any(c.isdecimal() for c in between) or _SENTENCE_END.search(between) is not None
