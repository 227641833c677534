"""Where mentions are looked for, and two that a text marks, as in SemEval-2010 Task 8:
`the <e1>storm</e1> caused the <e2>damage</e2>`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from annotation_pipelines.content import Content
from annotation_pipelines.tasks.base import Invalid
from annotation_pipelines.tasks.json_answer import shown

MENTIONS = ("e1", "e2")

_TAG = re.compile(r"<(/?)(e[12])>")


@dataclass(frozen=True, slots=True)
class MarkedPair:
    """A text without its marks, and where the two mentions stand in it.

    Attributes:
        text: The text, the four tags taken out.
        e1, e2: Start and end of each mention in `text`, in code points; e2 may stand before e1, or within it.
    """

    text: str
    e1: tuple[int, int]
    e2: tuple[int, int]

    @classmethod
    def read(cls, marked: str) -> MarkedPair:
        """The pair that a text marks.

        Raises:
            Invalid: A mark is missing, stands twice, is not closed or holds nothing, or the two cross.
        """
        kept: list[str] = []
        open_: list[str] = []
        starts: dict[str, int] = {}
        spans: dict[str, tuple[int, int]] = {}
        length = last = 0
        for tag in _TAG.finditer(marked):
            kept.append(marked[last : tag.start()])
            length += tag.start() - last
            last = tag.end()
            closes, name = tag[1] == "/", tag[2]
            if not closes:
                if name in starts:
                    raise Invalid(f"the text has the mark <{name}> twice: expected one of each")
                starts[name] = length
                open_.append(name)
            elif name not in starts or name in spans:
                raise Invalid(f"the text closes </{name}> where it is not open")
            elif open_[-1] != name:
                raise Invalid(f"the marks <{open_[-1]}> and <{name}> cross")
            else:
                open_.pop()
                spans[name] = (starts[name], length)
        kept.append(marked[last:])
        text = "".join(kept)
        for name in MENTIONS:
            if name not in starts:
                raise Invalid(f"the text does not mark its pair: expected <e1>…</e1> and <e2>…</e2>, found no <{name}>")
            if name not in spans:
                raise Invalid(f"the text does not close <{name}>: expected </{name}>")
            start, end = spans[name]
            if not text[start:end].strip():
                raise Invalid(f"the text marks nothing between <{name}> and </{name}>")
        return cls(text, spans["e1"], spans["e2"])

    @property
    def mentions(self) -> tuple[str, str]:
        """What e1 and e2 say."""
        return self.text[slice(*self.e1)], self.text[slice(*self.e2)]

    @property
    def between(self) -> str:
        """What stands between the two, whichever comes first; empty where one is within the other."""
        first, second = sorted((self.e1, self.e2))
        return self.text[first[1] : max(first[1], second[0])]


def text_of(content: Content, part: str | None) -> str:
    """The text that holds the mentions: the named part, else the only one, else all of it.

    Raises:
        Invalid: There is no such part.
    """
    if part is None:
        return content.text
    try:
        return content[part]
    except KeyError:
        raise Invalid(f"the record has no part {shown(part)}") from None
