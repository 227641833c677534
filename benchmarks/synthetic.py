"""Checking what was generated: how fast replies are read and entries checked, and what rules do to tasks by people.

No model's answers are on record for generation. So the seed tasks of examples/self_instruct, which people wrote, stand
in the replies that are read (`self_instruct_parser_microseconds`, four a reply), and in the entries whose rules are
looked at (`synthetic_rules_dropped`: what they drop of tasks that are good). `synthetic_checked_per_second` is the
whole check without a judge, over made-up tasks beside a pool of their seeds.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from _common import ROOT, figure

sys.path.insert(0, str(ROOT))

from annotation_pipelines.content import Content
from annotation_pipelines.project import Synthetic
from annotation_pipelines.synthetic.candidates import candidates_of
from annotation_pipelines.synthetic.rules import Rules
from annotation_pipelines.tasks.generation import Generation
from tests.synthetic.scene import Scene

ROUNDS = 5
SEEDS, ENTRIES = 2_000, 4


def people() -> list[dict[str, str]]:
    """The seed tasks of the example, as entries."""
    file = ROOT / "examples" / "self_instruct" / "data" / "seed_tasks.jsonl"
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    return [{"instruction": row["instruction"], **row["instances"][0]} for row in rows]


def reading(entries: list[dict[str, str]]) -> None:
    """How long a reply of four tasks takes to read."""
    task, seed = Generation(self_instruct={}, per_record=ENTRIES).make(), Content.of_text("a seed")
    replies = [json.dumps({"generated": entries[at : at + ENTRIES]}) for at in range(0, len(entries), ENTRIES)]
    rounds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for reply in replies:
            task.parse(reply, seed)
        rounds.append((time.perf_counter() - start) / len(replies))
    micro = round(statistics.median(rounds) * 1e6, 1)
    figure("self_instruct_parser_microseconds", micro, "us", replies=len(replies), tasks_a_reply=ENTRIES)


def rules(entries: list[dict[str, str]]) -> None:
    """What the rules drop of tasks by people."""
    task, seed = Generation(self_instruct={}).make(), Content.of_text("something else")
    found = candidates_of(task, "people", seed, entries, "people", datetime.now(UTC))
    faults = [fault.reason for candidate in found if (fault := Rules(task, Synthetic()).fault(candidate))]
    share = round(len(faults) / len(entries), 4)
    figure("synthetic_rules_dropped", share, "share", tasks=len(entries), reasons=dict(Counter(faults)))


def checking(entries: list[dict[str, str]]) -> None:
    """How many entries a second the check takes, near-duplicates included."""
    draw = random.Random(0)
    words = sorted({word for entry in entries for text in entry.values() for word in text.split() if word.isalpha()})

    def made() -> dict[str, str]:
        return {
            "instruction": " ".join(draw.sample(words, 12)),
            "input": "",
            "output": " ".join(draw.sample(words, 40)),
        }

    with tempfile.TemporaryDirectory() as folder:
        scene = Scene(Path(folder), self_instruct={}, per_record=ENTRIES)
        scene.records({f"s{n}": Content.of_parts(made()) for n in range(SEEDS)})
        scene.generated({f"s{n}": [made() for _ in range(ENTRIES)] for n in range(SEEDS)})
        start = time.perf_counter()
        counts = scene.check()
        seconds = time.perf_counter() - start
    rate = round(counts.generated / seconds)
    figure("synthetic_checked_per_second", rate, "entries/s", generated=counts.generated, kept=counts.kept, pool=SEEDS)


if __name__ == "__main__":
    written = people()
    reading(written)
    rules(written)
    checking(written)
