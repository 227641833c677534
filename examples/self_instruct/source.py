"""Reads the seed tasks of self-instruct: JSON Lines in which the inputs and outputs of a task are a list inside it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "data" / "seed_tasks.jsonl"


def records(start: datetime | None, end: datetime | None) -> Iterator[dict[str, Any]]:
    """One record an instance of a task, all of them whatever the bounds: tasks have no time.

    Yields:
        id (of the task, numbered where a task has several instances), name, instruction, input (may be empty), output,
        is_classification.

    Raises:
        ValueError: A line is not as the format says; with the file and the line.
    """
    with FILE.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                task = json.loads(line)
                instances = task["instances"]
                for index, instance in enumerate(instances, start=1):
                    yield {
                        "id": task["id"] if len(instances) == 1 else f"{task['id']}_{index}",
                        "name": task["name"],
                        "instruction": task["instruction"],
                        "input": instance["input"],
                        "output": instance["output"],
                        "is_classification": bool(task["is_classification"]),
                    }
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"expected a task with instances, {FILE.name} line {number}: {error!r}") from None
