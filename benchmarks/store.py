"""What a turn with the store costs, beside opening the same file with `duckdb.connect`.

Both look for the newest migration, as every turn does, and close the file again; they take turns on one store with
the tables of a project.

    python benchmarks/store.py [--turns 200]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
from _common import figure

from annotation_pipelines.store.database import Store
from annotation_pipelines.store.migrations import current_version


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=200)
    turns = parser.parse_args().turns
    with tempfile.TemporaryDirectory() as name:
        store = Store(Path(name) / "shop")

        def turn() -> None:
            with store.transaction():
                pass

        def connect() -> None:
            with duckdb.connect(str(store.path)) as con:
                current_version(con)

        turn()
        seconds: dict[str, list[float]] = {"turn": [], "connect": []}
        for _ in range(turns):
            seconds["turn"].append(timed(turn))
            seconds["connect"].append(timed(connect))
    median = {name: 1000 * statistics.median(found) for name, found in seconds.items()}
    figure("store_turn_ms", round(median["turn"], 2), "ms", connect_ms=round(median["connect"], 2), turns=turns)


def timed(work: Callable[[], None]) -> float:
    """The seconds it takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
