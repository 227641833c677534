"""The pairs of pandalm.json as records: two responses to one instruction, and what three people preferred."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("data") / "pandalm.json"
MEANING = {0: "tie", 1: "A", 2: "B"}


def records(start: datetime | None, end: datetime | None) -> Iterator[dict[str, Any]]:
    """Every pair of the file, none left out.

    Args:
        start, end: Not used: the pairs have no time.
    """
    seen: Counter[tuple[str, ...]] = Counter()
    for pair in json.loads(FILE.read_text(encoding="utf-8")):
        system_a, system_b = pair["cmp_key"].split("_")
        response_a, response_b = as_text(pair["response1"]), as_text(pair["response2"])
        shown = (pair["instruction"], pair["input"], response_a, response_b)
        seen[shown] += 1
        votes = [MEANING[pair[f"annotator{person}"]] for person in (1, 2, 3)]
        yield {
            "id": str(pair["idx"]),
            "instruction": pair["instruction"],
            "input": pair["input"],
            "response_a": response_a,
            "response_b": response_b,
            "preferred": majority(votes),
            "votes": " ".join(votes),
            "system_a": system_a,
            "system_b": system_b,
            "application": pair["motivation_app"],
            "not_text": str(not (isinstance(pair["response1"], str) and isinstance(pair["response2"], str))).lower(),
            "empty_responses": str([response_a, response_b].count("")),
            "earlier_equals": str(seen[shown] - 1),
        }


def as_text(response: object) -> str:
    """A response as text: what is JSON true in the file was the word `True` once, before somebody read it as JSON."""
    return response if isinstance(response, str) else json.dumps(response)


def majority(votes: list[str]) -> str | None:
    """What two of three people preferred; None where all three differ."""
    preferred, count = Counter(votes).most_common(1)[0]
    return preferred if count >= 2 else None
