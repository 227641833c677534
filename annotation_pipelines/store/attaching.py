"""Database files, opened in DuckDB instances that this process keeps.

Making an instance, with its catalogue of functions, takes many times as long as attaching a file to one and detaching
it again (`benchmarks/store.py`). A file that is detached is closed, checkpointed and unlocked like one whose instance
ends. An instance has one file at a time, and is given up after any error, since DuckDB refuses further work after some.
"""

from __future__ import annotations

import atexit
import os
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

_NAME = "store"
_MOST_IDLE = 4

_idle: deque[duckdb.DuckDBPyConnection] = deque()
_of_the_parent: list[duckdb.DuckDBPyConnection] = []


@contextmanager
def attached(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection whose default database is the file, which is made where it is missing; closed after the block.

    Raises:
        duckdb.Error: The file cannot be opened, or another process has it open.
    """
    instance = _instance()
    try:
        with instance.cursor() as con:
            literal = str(path).replace("'", "''")
            con.execute(f"ATTACH '{literal}' AS {_NAME} (TYPE duckdb)")
            con.execute(f"USE {_NAME}")
            yield con
    except BaseException:
        instance.close()
        raise
    try:
        instance.execute(f"DETACH {_NAME}")
    except duckdb.Error:
        # What was committed is in the log beside the file, though the disk has no room to bring it into the file.
        instance.close()
        return
    if len(_idle) < _MOST_IDLE:
        _idle.append(instance)
    else:
        instance.close()


def _instance() -> duckdb.DuckDBPyConnection:
    try:
        return _idle.pop()
    except IndexError:
        return duckdb.connect()


def _close_idle() -> None:
    while _idle:
        _idle.pop().close()


def _forked() -> None:
    """The threads of the parent's instances are not there in a child: they are neither used nor closed in it."""
    _of_the_parent.extend(_idle)
    _idle.clear()


atexit.register(_close_idle)
os.register_at_fork(after_in_child=_forked)
