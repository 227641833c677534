"""Reads the format of SemEval-2010 Task 8: four lines a record, of which the second is the relation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

FILE = Path(__file__).parent / "data" / "train_first_1200.txt"

_SENTENCE = re.compile(r'(?P<id>[0-9]+)\t"(?P<text>.*)"')
_COMMENT = "Comment:"


def records(start: datetime | None, end: datetime | None) -> Iterator[dict[str, str | None]]:
    """The records of the file, all of them whatever the bounds: sentences have no time.

    Yields:
        id, text (marked with <e1> and <e2>, without the quotation marks around it), relation, comment (None where
        there is none).

    Raises:
        ValueError: A record is not as the format says; with the file and the line.
    """
    # Lines end in CRLF, which read_text turns into LF. Not splitlines: it also splits at U+0085 and U+2028.
    lines = FILE.read_text(encoding="utf-8-sig").split("\n")
    while lines and not lines[-1]:
        lines.pop()
    for at in range(0, len(lines), 4):
        block = [*lines[at : at + 4], "", "", ""]
        sentence = _SENTENCE.fullmatch(block[0])
        if sentence is None:
            raise ValueError(f'expected id, tab and "sentence", found {block[0]!r}, {FILE.name} line {at + 1}')
        if not block[2].startswith(_COMMENT) or block[3]:
            raise ValueError(f"expected a comment and an empty line after the relation, {FILE.name} line {at + 3}")
        comment = block[2].removeprefix(_COMMENT).strip()
        yield {
            "id": sentence["id"],
            "text": sentence["text"],
            "relation": block[1].strip(),
            "comment": comment or None,
        }
