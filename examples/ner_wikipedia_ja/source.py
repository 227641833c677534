"""Reads the entities of Japanese sentences: {"curid", "text", "entities": [{"name", "span": [start, end], "type"}]}."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "data" / "ner.jsonl"


def records(start: datetime | None, end: datetime | None) -> Iterator[dict[str, Any]]:
    """The sentences of the file, whatever the bounds: they have no time.

    Yields:
        id (the number of the page, and which of its sentences it is), text, entities (start, end, text and type; code
        points).
    """
    seen: dict[str, int] = {}
    with FILE.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            seen[row["curid"]] = seen.get(row["curid"], 0) + 1
            yield {
                "id": f"{row['curid']}-{seen[row['curid']]}",
                "text": row["text"],
                "entities": [
                    {
                        "start": entity["span"][0],
                        "end": entity["span"][1],
                        "text": entity["name"],
                        "type": entity["type"],
                    }
                    for entity in row["entities"]
                ],
            }
