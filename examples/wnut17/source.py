"""Reads CoNLL files: a token and its tag a line, a tab between, an empty line after each sentence."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

FILES = [Path(__file__).parent / "data" / f"{split}.conll" for split in ("train", "dev", "test")]


def records(start: datetime | None, end: datetime | None) -> Iterator[dict[str, Any]]:
    """The sentences of all files, whatever the bounds: they have no time.

    Yields:
        id, text (the tokens, joined with blanks), entities (start, end, text and type; code points), split.

    Raises:
        ValueError: A line is not as the format says; with the file and the line.
    """
    for file in FILES:
        # Not splitlines: it also splits at U+0085 and U+2028, which stand in some texts.
        lines = file.read_text(encoding="utf-8").split("\n")
        rows: list[tuple[str, str]] = []
        sentence = 0
        for number, line in enumerate([*lines, ""], start=1):
            token, tab, tag = line.partition("\t")
            if token:
                if not tab or not (tag == "O" or tag[:2] in ("B-", "I-")):
                    raise ValueError(f"expected token, tab and tag, found {line!r}, {file.name} line {number}")
                rows.append((token, tag))
            elif rows:  # some of the lines between sentences hold a tab
                sentence += 1
                text, entities = _joined(rows)
                yield {"id": f"{file.stem}-{sentence}", "text": text, "entities": entities, "split": file.stem}
                rows = []


def _joined(rows: list[tuple[str, str]]) -> tuple[str, list[dict[str, Any]]]:
    """The tokens as one text, and where the entities that the tags mark stand in it."""
    text = " ".join(token for token, _ in rows)
    entities: list[dict[str, Any]] = []
    at, before = 0, "O"
    for token, tag in rows:
        if tag[:2] == "B-" or (tag != "O" and tag[2:] != before[2:]):
            entities.append({"start": at, "type": tag[2:]})
        if tag != "O":
            entities[-1]["end"] = at + len(token)
        at += len(token) + 1
        before = tag
    return text, [{**entity, "text": text[entity["start"] : entity["end"]]} for entity in entities]
