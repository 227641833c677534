"""Tokens with BIO tags, one a line, as CoNLL files have them.

A record is a sentence: lines of token, tab, tag, and an empty line after it. What one tag a token cannot say, entities
within others and entities that begin or end within a token, is counted, and listed in unaligned.jsonl.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import regex

from annotation_pipelines.exports.formats import Column, Entry, Format, LeftOut, json_line
from annotation_pipelines.exports.rows import Row
from annotation_pipelines.tasks.spans import Span, labelled_spans
from annotation_pipelines.tasks.tokens import bio_tags, blank_tokens, character_tokens

EMPTY = "the text has no token"
UNALIGNED = "entities left out: they begin or end within a token"
OVERLAPPING = "entities left out: they overlap one that was kept"

_BORDERLESS = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}"
_WORD = regex.compile(rf"[[\p{{L}}\p{{N}}\p{{M}}]--[{_BORDERLESS}]]+|\X", regex.V1)
_BREAKS = regex.compile(r"[\t\n\r\x0b\x0c\x1c-\x1f\x85\u2028\u2029]")


class Conll(Format):
    """A file of tokens and tags for each split."""

    ending = "conll"
    loadable = False

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._unaligned: list[Entry] = []

    @property
    def columns(self) -> list[Column]:
        """token, tag."""
        return [
            Column("token", "string", f"tokens: {self.export.tokens}"),
            Column("tag", "string", "O, B-<type> (an entity begins), or I-<type> (it goes on)"),
        ]

    def entries(self, row: Row) -> list[Entry]:
        """The tokens and tags of one sentence."""
        text = self.task.text(row.content)  # type: ignore[attr-defined]
        tokens = tokens_of(text, self.export.tokens)
        if not tokens:
            raise LeftOut(EMPTY)
        tagged = bio_tags(labelled_spans(row.label), tokens)
        for why, entities in ((UNALIGNED, tagged.unaligned), (OVERLAPPING, tagged.overlapping)):
            self.notes[why] += len(entities)
            self._unaligned += [
                {
                    "record_id": row.record_id,
                    "start": e.start,
                    "end": e.end,
                    "text": e.of(text),
                    "type": e.type,
                    "why": why,
                }
                for e in entities
            ]
        return [{"tokens": [token.of(text) for token in tokens], "tags": list(tagged.tags)}]

    def write(self, folder: Path, split: str, entries: Iterator[Entry]) -> None:
        """One token a line, an empty line after each record."""
        with (folder / self.file(split)).open("w", encoding="utf-8", newline="\n") as out:
            for entry in entries:
                lines = zip(entry["tokens"], entry["tags"], strict=True)
                out.write("".join(f"{token}\t{tag}\n" for token, tag in lines) + "\n")

    def finish(self, folder: Path, splits: Mapping[str, int]) -> None:
        """The entities that the tags leave out."""
        with (folder / "unaligned.jsonl").open("w", encoding="utf-8", newline="\n") as out:
            out.writelines(json_line(entry) + "\n" for entry in self._unaligned)

    def usage(self, splits: Iterable[str]) -> str:
        """How the lines are read."""
        return (
            "```python\nfrom pathlib import Path\n\n"
            'text = Path("data/train.conll").read_text(encoding="utf-8")\n'
            'sentences = [[line.split("\\t") for line in block.split("\\n")]\n'
            '             for block in text.strip("\\n").split("\\n\\n")]\n```'
        )


def tokens_of(text: str, manner: str) -> list[Span]:
    """The tokens of a text, in order; none holds white space or a sign that ends a line.

    Args:
        manner: words, blanks or characters, as the declaration has it.
    """
    if manner == "blanks":
        found = blank_tokens(text)
    elif manner == "characters":
        found = character_tokens(text)
    else:
        found = [Span(*match.span()) for match in _WORD.finditer(text) if not match.group().isspace()]
    return [token for token in found if not _BREAKS.search(text, token.start, token.end)]
