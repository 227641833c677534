"""The annotation engine against the bare SDK, and what its durability costs: engine_vs_bare_sdk, client_cpu_ms,
durability_overhead, memory_mb_1m_queued.

The endpoint is the tests' mock in a process of its own, 50 ms away; the engine labels records that are new to a new
store (render, call, journal, parse, store). Runs of each kind alternate, and ratios are medians over the rounds.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from _common import ROOT, figure
from _engine import CONCURRENCY, LATENCY_MS, Run, bare, bodies, endpoint, engine, state

from tests.faults.labelling import command, environment

MEMORY_SECONDS = 20


@contextmanager
def nothing_kept() -> Iterator[None]:
    """The engine without its journal and without writing labels; what it looks up in the store, it still does."""
    from annotation_pipelines.annotators import passes
    from annotation_pipelines.store.journal import Folded, Journal

    kept = Journal.append, Journal.fold, passes._write_labels

    def drop(*_: Any, **__: Any) -> None:
        return None

    Journal.append = drop  # type: ignore[method-assign]
    Journal.fold = lambda *_: Folded()  # type: ignore[method-assign]
    passes._write_labels = drop
    try:
        yield
    finally:
        Journal.append, Journal.fold, passes._write_labels = kept  # type: ignore[method-assign]


def unkept(url: str, records: int) -> Run:
    """The same run with nothing kept."""
    with nothing_kept():
        run = engine(url, records)
    return Run(records, run.seconds, run.cpu_seconds)


def peak_memory_mb(url: str, records: int, seconds: float) -> float:
    """The peak of a process that labels so many records, stopped after so many seconds if it is not done by then."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "project"
        fill = subprocess.run(
            [sys.executable, "-c", FILL, str(home), str(records)], cwd=ROOT, env=environment(Path(folder) / "state")
        )
        fill.check_returncode()
        process = subprocess.Popen(
            command(home, url, CONCURRENCY),
            cwd=ROOT,
            env=environment(Path(folder) / "state"),
            stdout=subprocess.DEVNULL,
        )
        end = time.monotonic() + seconds
        while time.monotonic() < end and not os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            time.sleep(0.1)
        os.kill(process.pid, signal.SIGKILL)
        _, _, used = os.wait4(process.pid, 0)
        process.returncode = 0  # so that nobody waits for it again
    return used.ru_maxrss / 1024


FILL = """
import sys
from pathlib import Path
from tests.faults.labelling import filled_store
filled_store(Path(sys.argv[1]), int(sys.argv[2]))
"""


def median(values: list[float]) -> float:
    """Rounded to what the eye can use."""
    return round(statistics.median(values), 4)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--queued", type=int, default=1_000_000)
    options = parser.parse_args()
    posts: list[Run] = []
    sends: list[Run] = []
    whole: list[Run] = []
    empty: list[Run] = []
    with state(), endpoint() as url:
        requests = bodies(url, options.records)
        engine(url, options.records)  # the limiter grows to the concurrency
        for _ in range(options.rounds):
            posts.append(bare(url, requests, "post"))
            whole.append(engine(url, options.records))
            empty.append(unkept(url, options.records))
            sends.append(bare(url, requests, "send"))
        figure(
            "engine_vs_bare_sdk",
            median([ours.rate / theirs.rate for ours, theirs in zip(whole, posts, strict=True)]),
            "ratio",
            engine_records_per_s=median([run.rate for run in whole]),
            bare_post_per_s=median([run.rate for run in posts]),
            bare_send_per_s=median([run.rate for run in sends]),
            vs_bare_send=median([ours.rate / theirs.rate for ours, theirs in zip(whole, sends, strict=True)]),
            note="bare: client.post of the SDK on its aiohttp transport, nothing kept; the engine sends by the HTTP "
            "client below it, for which vs_bare_send stands",
            records=options.records,
            rounds=options.rounds,
            concurrency=CONCURRENCY,
            latency_ms=LATENCY_MS,
        )
        figure(
            "client_cpu_ms",
            median([run.cpu_ms for run in whole]),
            "ms",
            bare_post=median([run.cpu_ms for run in posts]),
            bare_send=median([run.cpu_ms for run in sends]),
        )
        figure(
            "durability_overhead",
            median([kept.seconds / lost.seconds - 1 for kept, lost in zip(whole, empty, strict=True)]),
            "share",
            rounds=[round(kept.seconds / lost.seconds - 1, 3) for kept, lost in zip(whole, empty, strict=True)],
            cpu=median([kept.cpu_ms / lost.cpu_ms - 1 for kept, lost in zip(whole, empty, strict=True)]),
            note="time of a run over the same run that writes neither journal nor ledger nor labels; cpu: the same of "
            "its CPU, most of which is spent beside the loop that sends",
        )
        figure(
            "memory_mb_1m_queued",
            round(peak_memory_mb(url, options.queued, MEMORY_SECONDS)),
            "MB",
            queued=options.queued,
            seconds=MEMORY_SECONDS,
            with_10k_queued=round(peak_memory_mb(url, 10_000, MEMORY_SECONDS)),
        )
