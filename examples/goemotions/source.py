"""The comments of the TSV file, which has no header, with the names of their emotions in the place of numbers.

A line is the text, the numbers with commas between them, and the comment's id. A text with quotation marks is quoted as
in CSV: read as plain lines it would keep marks that the comment never had.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

DATA = Path(__file__).with_name("data")


def records(start: datetime | None, end: datetime | None) -> Iterator[dict[str, Any]]:
    """comment (its id), text and emotions (a list of names) of every line; they have no time.

    Raises:
        ValueError: A line does not have three columns, or a number that labels.txt has no line for.
    """
    names = (DATA / "labels.txt").read_text(encoding="utf-8").split()
    with (DATA / "train.tsv").open(encoding="utf-8", newline="") as file:
        for number, columns in enumerate(csv.reader(file, delimiter="\t"), start=1):
            if len(columns) != 3:
                raise ValueError(f"train.tsv:{number}: expected text, labels and id, found {len(columns)} columns")
            text, places, comment = columns
            if not all(place.isdigit() and int(place) < len(names) for place in places.split(",")):
                raise ValueError(f"train.tsv:{number}: expected numbers below {len(names)}, found {places!r}")
            yield {"comment": comment, "text": text, "emotions": [names[int(place)] for place in places.split(",")]}
