"""How long the code location takes to load: load_seconds, the median of five new processes."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

from _common import ROOT, environment, figure

CODE = """
import dagster as dg
from annotation_pipelines.definitions import defs
loaded = defs() if callable(defs) else defs
names = [repr(k) for k in loaded.get_repository_def().asset_graph.get_all_asset_keys()]
heavy = {"torch", "transformers", "great_expectations", "sklearn", "pandas"} & set(__import__("sys").modules)
assert not heavy, heavy
print(len(names))
"""


def load() -> tuple[float, int]:
    """Seconds of one load in a new process, and how many assets it found."""
    start = time.perf_counter()
    command = [sys.executable, "-W", "ignore", "-c", CODE]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=True)
    return time.perf_counter() - start, int(done.stdout.split()[-1])


if __name__ == "__main__":
    load()
    runs = [load() for _ in range(5)]
    figure(
        "load_seconds",
        round(statistics.median(seconds for seconds, _ in runs), 2),
        "s",
        assets=runs[0][1],
        slowest=round(max(seconds for seconds, _ in runs), 2),
    )
