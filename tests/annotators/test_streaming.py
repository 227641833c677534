"""Results of coroutines for a caller without asyncio."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from annotation_pipelines.annotators.streaming import stream


class Work:
    """Doubles numbers; counts what is in flight; fails at the numbers in `bad`."""

    def __init__(self, bad: set[int] | None = None, forever: bool = False) -> None:
        self.bad, self.forever = bad or set(), forever
        self.started: list[int] = []
        self.now = self.peak = self.cancelled = 0
        self.closed = False

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Callable[[int], Awaitable[int]]]:
        try:
            yield self.double
        finally:
            self.closed = True

    async def double(self, number: int) -> int:
        self.started.append(number)
        self.now += 1
        self.peak = max(self.peak, self.now)
        try:
            if self.forever and number:
                await asyncio.Event().wait()
            await asyncio.sleep(0)
            if number in self.bad:
                raise ValueError(number)
            return 2 * number
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.now -= 1


def threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name == "annotate"]


def test_every_item_gets_one_result() -> None:
    work = Work()
    assert sorted(stream(range(500), work.opened, in_flight=16)) == [2 * n for n in range(500)]
    assert work.closed
    assert work.peak <= 16
    assert not threads()


def test_no_items_start_nothing() -> None:
    work = Work()
    assert list(stream([], work.opened, in_flight=2)) == []
    assert not work.closed


def test_the_first_item_goes_alone() -> None:
    work = Work(bad={0})
    with pytest.raises(ValueError, match="0"):
        list(stream(range(100), work.opened, in_flight=16))
    assert work.started == [0]
    assert work.closed


def test_a_failure_stops_new_items_and_loses_no_result() -> None:
    work, results = Work(bad={50}), []
    with pytest.raises(ValueError, match="50"):
        for result in stream(range(1000), work.opened, in_flight=8):
            results.append(result)
    assert len(work.started) <= 51 + 8
    assert sorted(results) == sorted(2 * n for n in work.started if n != 50)


def test_a_caller_that_lags_is_never_more_than_the_limit_behind() -> None:
    work = Work()
    for handled, _ in enumerate(stream(range(200), work.opened, in_flight=4)):
        assert len(work.started) <= handled + 4


def test_a_caller_that_stops_leaves_nothing_behind() -> None:
    work = Work(forever=True)
    results = stream(range(100), work.opened, in_flight=8)
    assert next(results) == 0
    results.close()  # type: ignore[attr-defined]
    assert work.closed
    assert work.now == 0
    assert not threads()


def test_an_interrupt_at_the_caller_cancels_too() -> None:
    work = Work(forever=True)
    with pytest.raises(KeyboardInterrupt):
        for _ in stream(range(100), work.opened, in_flight=8):
            raise KeyboardInterrupt
    assert work.closed
    assert not threads()


def test_a_context_that_cannot_be_entered_is_an_error() -> None:
    @asynccontextmanager
    async def broken() -> AsyncIterator[Callable[[int], Awaitable[int]]]:
        Path("/no/such/file").read_text()
        yield Work().double

    with pytest.raises(FileNotFoundError):
        list(stream([1], broken, in_flight=1))
