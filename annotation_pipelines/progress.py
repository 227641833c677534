"""Progress of long work: said to whoever listens, at most every few seconds in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Listener = Callable[[str, int, int], None]
"""Told (what, done, total)."""

_listeners: list[Listener] = []


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Let a listener hear all progress of this process, such as a bar on a terminal."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


class Progress:
    """Counts of one piece of work; calling it with (done, total) passes them on.

    Args:
        what: What is being done, such as "embedding records".
        log: Where a line goes every few seconds.
        every: Seconds between two lines.
    """

    def __init__(self, what: str, log: Callable[[str], None], *, every: float = 5.0) -> None:
        self.what, self._log, self._every = what, log, every
        self._start = self._logged = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        for listener in _listeners:
            listener(self.what, done, total)
        now = time.monotonic()
        if now - self._logged >= self._every and done < total:
            self._logged = now
            rate = done / (now - self._start)
            left = f", about {(total - done) / rate:.0f} s left" if rate else ""
            self._log(f"{self.what}: {done:,} of {total:,} ({rate:,.0f}/s{left})")
