"""What is annotated: the content of a record, a list of parts.

Most records are one text. Others have several parts with names, such as an instruction and two responses to compare.
Parts are texts today; images, audio and video will be further types of parts. A content travels and is stored as one
string: a single text as it is, anything else as canonical JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

SOLE = "text"
"""The name of the part of a record that has only one."""

_PREFIX = '{"parts":['


@dataclass(frozen=True, slots=True)
class ContentPart:
    """One part of a record.

    Attributes:
        name: How the declaration calls it.
        text: What it says; may be empty.
    """

    name: str
    text: str
    type: Literal["text"] = "text"


@dataclass(frozen=True, slots=True)
class Content:
    """The content of a record: one part or more, with distinct names."""

    parts: tuple[ContentPart, ...]

    @classmethod
    def of_text(cls, text: str) -> Content:
        """The content that is one text."""
        return cls((ContentPart(SOLE, text),))

    @classmethod
    def of_parts(cls, parts: Mapping[str, str]) -> Content:
        """The content made of several texts, by name."""
        return cls(tuple(ContentPart(name, text) for name, text in parts.items()))

    @classmethod
    def read(cls, stored: str) -> Content:
        """The content that a string stands for; any string stands for one."""
        if not stored.startswith(_PREFIX):
            return cls.of_text(stored)
        try:
            given = json.loads(stored)
            parts = tuple(ContentPart(part["name"], part["text"]) for part in given["parts"])
            if _encoded(parts) == stored:
                return cls(parts)
        except (ValueError, TypeError, KeyError, RecursionError):
            pass
        return cls.of_text(stored)

    @property
    def stored(self) -> str:
        """The string that stands for it; `read` gives the content back."""
        if len(self.parts) == 1 and self.parts[0].name == SOLE and not _taken_for_parts(self.parts[0].text):
            return self.parts[0].text
        return _encoded(self.parts)

    @property
    def text(self) -> str:
        """All of it as one text, for people and encoders; several parts are headed by their names."""
        if len(self.parts) == 1:
            return self.parts[0].text
        return "\n\n".join(f"{part.name}:\n{part.text}" for part in self.parts)

    @property
    def names(self) -> list[str]:
        """The names of the parts, in order."""
        return [part.name for part in self.parts]

    def __getitem__(self, name: str) -> str:
        """The text of a part.

        Raises:
            KeyError: There is no part of that name.
        """
        for part in self.parts:
            if part.name == name:
                return part.text
        raise KeyError(name)

    def with_texts(self, texts: Mapping[str, str]) -> Content:
        """The same with other texts for some parts."""
        return Content(tuple(replace(part, text=texts.get(part.name, part.text)) for part in self.parts))


def readable(stored: str) -> str:
    """A stored content as one text, for people and encoders."""
    return Content.read(stored).text if stored.startswith(_PREFIX) else stored


def _taken_for_parts(text: str) -> bool:
    return text.startswith(_PREFIX) and Content.read(text) != Content.of_text(text)


def _encoded(parts: tuple[ContentPart, ...]) -> str:
    listed = [{"name": part.name, "text": part.text} for part in parts]
    return json.dumps({"parts": listed}, ensure_ascii=False, separators=(",", ":"))
