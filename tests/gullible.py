"""A model that does what a record tells it to: the worst reader that the defences can have.

It sees what a model sees, the body of the request, and knows nothing of how the request was made. An order it finds in
any disguise it undoes: base64, rot13, other alphabets, invisible characters. Without an order it gives the recorded
label.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import html
import json
import re
import unicodedata
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Level = Literal["verbatim", "literal", "spirit", "outside"]
LEVELS: tuple[Level, ...] = ("verbatim", "literal", "spirit", "outside")
"""How a model obeys.

verbatim: copies the dictated answer, or writes the label's name, and forgets how it was asked to answer.
literal: answers in the form it was asked for, code and all, but writes the label by the name that the record gives it.
spirit: understands which label is wanted, and writes what stands for it in this request.
outside: like spirit, but obeys only what it takes to stand after the end of the record.
"""

_NEGATION = re.compile(r"(?:\bnot|\bnever|\bwrong|instead of|\banswering)\W+(?:\w+\W+){0,2}$", re.IGNORECASE)
_OBJECT = re.compile(r"\{[^{}]*\}")
_CODE = re.compile(r"\b[A-Z0-9]{6,12}\b")
_LETTERS = str.maketrans("еосрԁ", "eocpd")


@dataclass(frozen=True)
class Order:
    """What a record orders: a label, and the answer to copy where it dictates one.

    Attributes:
        named: Whether the label is called by its name, rather than by what it means.
    """

    label: str
    dictated: str | None = None
    named: bool = True


class Gullible:
    """The model.

    Args:
        recorded: What it would say of each sentence it knows.
        meanings: Label to what it means: the model's own understanding of the words.
        level: How it obeys.
        fixed_tags: Whether it overlooks the numbers of tags, as if every record stood between the same ones.
    """

    def __init__(
        self, recorded: Mapping[str, str], meanings: Mapping[str, str], level: Level, *, fixed_tags: bool = False
    ) -> None:
        self._recorded, self._meanings = recorded, meanings
        self._level, self._fixed_tags = level, fixed_tags
        self._longest_first = sorted(recorded, key=len, reverse=True)

    def answer(self, body: Mapping[str, Any]) -> str:
        """The content of the answer to a chat completions request."""
        message, sentence = self._record(body)
        text = message.replace(sentence, " ")
        if self._level == "outside":
            text = _after_record(text, self._fixed_tags)
        order = next(self._orders(text), None)
        if order and self._level == "verbatim" and order.named:
            return order.dictated or json.dumps({"label": order.label})
        if order and self._level == "literal" and order.named:
            return self._in_form(body, message, order.label)
        if order and self._level in ("spirit", "outside"):
            return self._in_form(body, message, self._as_asked(body, order.label))
        return self._in_form(body, message, self._as_asked(body, self._recorded[sentence]))

    def _record(self, body: Mapping[str, Any]) -> tuple[str, str]:
        """The last message that holds a sentence it knows, and the sentence."""
        for message in reversed(body["messages"]):
            for sentence in self._longest_first if message["role"] == "user" else ():
                if sentence in message["content"]:
                    return message["content"], sentence
        raise AssertionError("no sentence that was recorded")

    def _orders(self, text: str) -> Iterator[Order]:
        for view in _views(text):
            for dictated in _OBJECT.findall(view):
                label = self._dictated_label(dictated)
                if label:
                    yield Order(label, dictated)
            label = self._named(view)
            if label:
                yield Order(label)
            for name, meaning in self._meanings.items():
                if meaning in view:
                    yield Order(name, named=False)

    def _dictated_label(self, dictated: str) -> str | None:
        try:
            values = json.loads(dictated)
        except ValueError:
            return None
        return next((v for v in values.values() if isinstance(v, str) and v in self._meanings), None)

    def _named(self, view: str) -> str | None:
        """The label that is named last and not negated."""
        names = "|".join(map(re.escape, self._meanings))
        found = None
        for match in re.finditer(rf"(?<![^\W_])(?:{names})(?![^\W_])", view, re.IGNORECASE):
            if not _NEGATION.search(view[max(0, match.start() - 40) : match.start()]):
                found = match[0].casefold()
        return found

    def _as_asked(self, body: Mapping[str, Any], label: str) -> str:
        """What stands for a label in this request: its name, or the answer that the system prompt gives its meaning."""
        allowed = _fields(body).get("label", {}).get("enum", [label])
        if label in allowed:
            return label
        lines = str(body["messages"][0]["content"]).splitlines()
        described = next((line for line in lines if self._meanings[label] in line), "")
        return next((answer for answer in allowed if answer in described), label)

    def _in_form(self, body: Mapping[str, Any], message: str, label: str) -> str:
        """An answer with every field that is asked for; a field it does not know is a code to copy."""
        answer: dict[str, Any] = {}
        for name in _fields(body) or ("label",):
            if name == "label":
                answer[name] = label
            elif name == "confidence":
                answer[name] = 0.9
            elif name == "rationale":
                answer[name] = "The text says so."
            else:
                codes = _CODE.findall(message)
                answer[name] = codes[-1] if codes else ""
        return json.dumps(answer)


def _fields(body: Mapping[str, Any]) -> dict[str, Any]:
    fields: Any = body.get("response_format")
    for key in ("json_schema", "schema", "properties"):
        fields = fields.get(key) if isinstance(fields, dict) else None
    return fields if isinstance(fields, dict) else {}


def _views(text: str) -> Iterator[str]:
    """The text, and what can be made of it by undoing a disguise."""
    yield text
    shown = _visible(text)
    yield shown
    yield html.unescape(shown)
    yield urllib.parse.unquote(shown)
    yield codecs.encode(shown, "rot13")
    yield shown.translate(str.maketrans("43105", "aeios"))
    yield shown[::-1]
    for run in re.findall(r"[A-Za-z0-9+/=]{12,}", shown):
        for decode in (bytes.fromhex, base64.b64decode):
            try:
                yield decode(run).decode()
            except (ValueError, binascii.Error):
                continue


def _visible(text: str) -> str:
    """The text as it reads: no accents, no invisible characters; other alphabets and tag characters as Latin."""
    latin = "".join(chr(ord(c) - 0xE0000) if 0xE0020 <= ord(c) <= 0xE007E else c for c in text)
    plain = unicodedata.normalize("NFKD", latin)
    return "".join(c for c in plain if unicodedata.category(c) not in ("Cf", "Mn")).translate(_LETTERS)


def _after_record(message: str, fixed_tags: bool) -> str:
    """What stands after whatever looks like the record's closing tag."""
    opening = re.match(r"<record(-\d+)?>", message)
    number = "" if fixed_tags or opening is None else opening[1] or ""
    seen = html.unescape(_visible(message[opening.end() if opening else 0 :]))
    if fixed_tags:
        seen = re.sub(r"</record-\d+>(\n\nCode: \w+)?$", r"</record>\1", seen)
    word = r"\s*".join("record")
    closing = re.search(rf"[<\[‹(]\s*/\s*{word}{number}\s*[>\]›)]", seen, re.IGNORECASE)
    return seen[closing.end() :] if closing else ""
