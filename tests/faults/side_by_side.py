"""Runs of the command line at the same moment, each a process of its own, with a person's connection in the way.

    python -m tests.faults.side_by_side DATABASE SECONDS LOG=ARGUMENTS ...

Everything is imported once, before the processes are forked: runs that are started singly are apart by the seconds that
their imports take, and take two cores for a minute. A fork to which the database is open for so many seconds goes
first. The exit codes of the runs are printed as JSON; what a run prints goes to its log.
"""

from __future__ import annotations

import importlib
import json
import os
import shlex
import sys
import time
from pathlib import Path

# What a run would import. None of it starts a thread, which would not be there in what is forked.
_IMPORTS = [
    "annotation_pipelines.annotators.endpoint.chat",
    "annotation_pipelines.annotators.factory",
    "annotation_pipelines.cli",
    "annotation_pipelines.graph.local",
    "annotation_pipelines.quality.validation",
    "dagster._daemon.asset_daemon",
    "great_expectations",
    "great_expectations.expectations.core",
    "matplotlib.pyplot",
    "openai",
]


def _hold(database: str, seconds: float) -> None:
    """Keep the database open as a person's client does; returns in the parent once it is open."""
    ready, told = os.pipe()
    if os.fork() == 0:
        import duckdb

        connection = duckdb.connect(database)
        os.write(told, b".")
        time.sleep(seconds)
        connection.close()
        os._exit(0)
    os.read(ready, 1)


def _start(arguments: list[str], log: Path) -> int:
    """The process id of a run."""
    if process := os.fork():
        return process
    with log.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.argv = ["annotation-pipelines", *arguments]
    from annotation_pipelines.cli import main

    main()
    os._exit(70)  # main ends the process


if __name__ == "__main__":
    database, seconds, *runs = sys.argv[1:]
    for name in _IMPORTS:
        importlib.import_module(name)
    _hold(database, float(seconds))
    started = [_start(shlex.split(line), Path(log)) for log, _, line in (run.partition("=") for run in runs)]
    print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in started]))
