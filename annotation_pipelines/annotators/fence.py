"""The tags around a record: what stands between them is data, whatever it says.

A record stands between <record> and </record>. One that could be taken for containing such a tag (it has an angle
bracket, or the word in any spelling a reader would recognise) stands between tags with a number, as in <record-4821>,
which does not occur in it. The number depends on the content and a key, so that equal contents make equal requests,
and whoever writes the record cannot know it beforehand.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping

from annotation_pipelines.tasks.choices import CHOICES

_FENCED = re.compile(
    rf"(?:{CHOICES}:\n(?: *- [^\n]*\n)+\n)?<(record(?:-[0-9]+)?)>\n(.*)\n</\1>(?:\n\nCode: [A-Z0-9]+)?", re.DOTALL
)

_PART = re.compile(
    r"<(?P<name>[^<>\n]+?)(?P<number>-[0-9]+)?>\n(?P<text>.*?)\n</(?P=name)(?(number)(?P=number))>(?:\n|\Z)", re.DOTALL
)

_NOT_IN_TAGS = re.compile(r"[<>/\s]+")

_ANGLES = re.compile("[<\uff1c\ufe64\u2039\u2329\u27e8\u3008\u276c\u276e\u02c2\u1438\u226e\u227a\u22d6\u300a\u00ab]")

_BETWEEN_LETTERS = re.compile(r"[\W_]+")

_LOOK_ALIKES = str.maketrans(
    {
        **dict.fromkeys("гᴦʀяꮁᎡᏒ", "r"),
        **dict.fromkeys("еєэεҽ℮ɛəǝᴇ3Ꭼ", "e"),
        **dict.fromkeys("сσᴄɔᏟ", "c"),
        **dict.fromkeys("оοօᴏө0ø", "o"),
        **dict.fromkeys("ԁđɗժᴅծᎠ", "d"),
    }
)
"""Letters of other alphabets, and digits, that read as one of those in `record`; accents are taken off before."""


def fence(content: str, *, tag: str = "record", key: bytes = b"") -> str:
    """The content between two tags that do not occur in it.

    Args:
        tag: The tag's name.
        key: At most 64 bytes, what the number is drawn with: a record's author who does not know it cannot close the
            fence.
    """
    content = well_formed(content)
    tag = _absent(tag, content, key)
    return f"<{tag}>\n{content}\n</{tag}>"


def fence_parts(parts: Mapping[str, str], *, tag: str = "record", key: bytes = b"") -> str:
    """Several texts, each between tags with its name, all of them between two tags; see `fence`."""
    named = [fence(text, tag=_NOT_IN_TAGS.sub("_", name) or "part", key=key) for name, text in parts.items()]
    tag = _absent(tag, well_formed("\n".join(parts.values())), key)
    return "\n".join((f"<{tag}>", *named, f"</{tag}>"))


def unfence(message: str) -> str | None:
    """The content of a message that holds one fenced record, with or without labels before and a code after it; None
    for any other.
    """
    match = _FENCED.fullmatch(message)
    return match.group(2) if match else None


def unfence_parts(content: str) -> dict[str, str] | None:
    """The parts, by name, of the content of a fence that holds several; None where it does not."""
    parts: dict[str, str] = {}
    position = 0
    while match := _PART.match(content, position):
        if match["name"] in parts:
            return None
        parts[match["name"]] = match["text"]
        position = match.end()
    return parts if parts and position == len(content) else None


def well_formed(text: str) -> str:
    """The text with lone surrogates replaced: no encoder, database or endpoint takes them."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _absent(tag: str, content: str, key: bytes) -> str:
    """The tag; with a number where the content might be taken for holding it."""
    if content.isascii() and "<" not in content and tag not in content.lower():
        return tag
    seen = _BETWEEN_LETTERS.sub("", unicodedata.normalize("NFKD", content).casefold())
    if _ANGLES.search(content) or tag in seen or tag in seen.translate(_LOOK_ALIKES):
        return f"{tag}-{_number(content, seen, key)}"
    return tag


def _number(content: str, seen: str, key: bytes) -> str:
    """Four digits that do not occur in the content; more where it holds too many."""
    draw = 0
    while True:
        state = hashlib.blake2b(content.encode(), digest_size=16, key=key, salt=draw.to_bytes(4, "big"))
        # The last digits of 128 bits: none is more likely than another, to speak of.
        number = str(int.from_bytes(state.digest(), "big"))[-4 - draw // 4 :]
        if number not in seen and number not in content:
            return number
        draw += 1
