"""What a model might answer to the seeds of examples/self_instruct: mostly good tasks, and bad ones of every kind.

The same seed always gets the same answer. Seeds are told apart by their place in the file: each kind of fault befalls
every seed whose number leaves a certain rest.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from annotation_pipelines.annotators.fence import unfence_parts
from tests.mock_endpoint import Act, Call, completion

FAULTS = (
    "schema",
    "empty",
    "too_short",
    "too_long",
    "refusal",
    "boilerplate",
    "placeholder",
    "echo",
    "forbidden",
    "near_duplicate",
    "pool_duplicate",
    "judge",
    "not_judged",
    None,
    "missing",
)
"""The fault of the last entry that is written after seed number n: FAULTS[n % len(FAULTS)]."""

BAD, UNREADABLE = "a quarrel of zeppelins", "a parliament of gargoyles"
"""What the judge finds bad, and what it gives no readable answer about."""

_VOCABULARY = """
amber anchor apple apron arrow autumn badger bakery balcony banjo barley basil beacon beaver bicycle birch biscuit
blanket bonfire bottle bracelet brick bridge bucket butter button cabin cactus camel candle canoe canvas carpet
castle cello chapel cherry chimney cinnamon circus clover coconut comet compass copper coral cotton cradle crane
cricket crystal curtain cushion daisy desert diamond dolphin dragonfly drum eagle easel ember falcon feather fern
fiddle flannel flute forest fountain fox garden garlic ginger glacier goose granite grape guitar hammer harbour
hazel heron honey horizon island ivory ivy jacket jasmine jungle kettle kite ladder lagoon lantern lavender lemon
lilac lizard magnet mango maple marble meadow melon mirror mitten mosaic moss mushroom needle nest nutmeg oasis
olive onion orchard otter owl oyster paddle palace panther parrot pearl pebble pepper piano pigeon pillow planet
plum pocket pony poppy prairie pumpkin puzzle quilt rabbit radish rainbow raven ribbon river rocket rope saddle
saffron satchel scarf shadow shell silver sketch snail sparrow spindle squirrel stable sunrise swallow tailor
teapot temple thimble thistle thunder tiger timber tulip tunnel turnip turtle umbrella valley velvet violin walnut
waterfall whale willow window winter zebra
"""
_WORDS = _VOCABULARY.split()
_VERBS = (
    "Compare", "Describe", "Explain", "Summarise", "List", "Rewrite", "Plan", "Classify", "Translate", "Estimate",
    "Sort", "Invent", "Criticise", "Outline", "Label", "Count",
)  # fmt: skip


class Writer:
    """Answers as a model that writes tasks, and as one that judges them.

    Args:
        file: The seeds, as JSON Lines.
    """

    def __init__(self, file: Path) -> None:
        lines = file.read_text(encoding="utf-8").splitlines()
        self.seeds: list[str] = [json.loads(line)["instruction"].strip() for line in lines]

    def __call__(self, call: Call) -> Act:
        """The reply to a request."""
        parts = unfence_parts(call.text) or {}
        if '"rating"' in call.body["messages"][0]["content"]:
            return self._judged(parts)
        number = self.seeds.index(parts["instruction"])
        return completion(json.dumps({"generated": self.entries(number)}), usage=(900, 400))

    def entries(self, number: int) -> list[dict[str, Any]]:
        """What is written after a seed: four entries, the last of them with the seed's fault."""
        good = [self._good(number, place) for place in range(4)]
        fault = FAULTS[number % len(FAULTS)]
        last = {**good[3], **self._faulty(fault, number, good)}
        if fault == "missing":
            return good[:3]
        if fault == "schema":
            del last["output"]
        return [*good[:3], last]

    def expected(self, numbers: Sequence[int]) -> Counter[str]:
        """How many entries have each fault, after some seeds."""
        return Counter(fault for n in numbers if (fault := FAULTS[n % len(FAULTS)]) not in (None, "missing"))

    def _good(self, number: int, place: int) -> dict[str, Any]:
        words = _drawn(f"{number} {place}", 12)
        return {
            "instruction": f"{_VERBS[(4 * number + place) % len(_VERBS)]} {' '.join(words[:7])}.",
            "input": "" if place % 2 else f"{words[7]} and {words[8]}",
            "output": f"One would begin with {words[9]}, go on to {words[10]}, and end with {words[11]}.",
        }

    def _faulty(self, fault: str | None, number: int, good: Sequence[dict[str, Any]]) -> dict[str, Any]:
        match fault:
            case "empty":
                return {"output": "  "}
            case "too_short":
                return {"instruction": "Name a bird.", "input": "", "output": "Wren"}
            case "too_long":
                return {"output": "and so on, " * 300}
            case "refusal":
                return {"output": "I'm sorry, but as an AI language model I have no opinion on this."}
            case "boilerplate":
                return {"output": f"Sure, here is the answer: {good[3]['output']}"}
            case "placeholder":
                return {"output": "Dear [Recipient Name], thank you for the teapot."}
            case "echo":
                return {"instruction": self.seeds[number]}
            case "forbidden":
                return {"input": "See the attached image of a heron."}
            case "near_duplicate":
                return {"instruction": good[0]["instruction"].replace(".", "!").upper()}
            case "pool_duplicate":
                return {"instruction": self.seeds[(number + 1) % len(self.seeds)]}
            case "judge":
                return {"input": BAD}
            case "not_judged":
                return {"input": UNREADABLE}
        return {}

    def _judged(self, parts: dict[str, str]) -> Act:
        text = " ".join(parts.values())
        if UNREADABLE in text:
            return completion("It is hard to say.")
        return completion(json.dumps({"rating": 2 if BAD in text else 4, "confidence": 0.8}), usage=(300, 10))


def _drawn(what: str, count: int) -> list[str]:
    """Different words, by a hash of what they are for."""
    return sorted(_WORDS, key=lambda word: hashlib.md5(f"{what} {word}".encode()).digest())[:count]
