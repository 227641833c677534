"""The texts of presidio.json as records, with the contact data that their marked spans say as gold."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("data") / "presidio.json"

LISTS = {"PERSON": "people", "ORGANIZATION": "organizations", "PHONE_NUMBER": "phones"}
SINGLE = {"EMAIL_ADDRESS": "email", "DOMAIN_NAME": "website", "AGE": "age"}


def records(start: datetime | None, end: datetime | None) -> Iterator[dict[str, Any]]:
    """Every text of the file, also those that stand there twice and those without any contact data.

    Args:
        start, end: Not used: the texts have no time.
    """
    seen: dict[str, int] = {}
    for text in json.loads(FILE.read_text(encoding="utf-8")):
        earlier = seen.get(text["full_text"], 0)
        seen[text["full_text"]] = earlier + 1
        gold = contact(text["spans"])
        yield {
            "id": f"{text['row']:04d}",
            "text": text["full_text"],
            "contact": None if gold is None else json.dumps(gold, ensure_ascii=False),
            "template": str(text["template_id"]),
            "earlier_equals": str(earlier),
        }


def contact(spans: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The fields of a text, each value once, in the order of the text; None where a single field has two values."""
    found: dict[str, Any] = {name: [] for name in LISTS.values()}
    for span in sorted(spans, key=lambda span: span["start_position"]):
        kind, value = span["entity_type"], span["entity_value"]
        if kind in LISTS and value not in found[LISTS[kind]]:
            found[LISTS[kind]].append(value)
        elif kind in SINGLE and found.setdefault(SINGLE[kind], value) != value:
            return None
    if "age" in found:
        found["age"] = int(found["age"])
    return found
