"""Results of many coroutines, as they complete, for a caller that knows nothing of asyncio.

The coroutines run in an event loop in a thread of its own. At most so many are in flight; one counts as in flight until
the caller has come back for the next result. So a caller that is slow, or stops, or is killed while it writes a result
down, has never started more than that many beyond what it has handled.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
Work = Callable[[Item], Awaitable[Result]]

BLINK = 0.1
"""Seconds between two looks at whether the caller was interrupted."""

GRACE = 10.0
"""Seconds that connections get to close when the caller stops."""


def stream(
    items: Sequence[Item],
    opened: Callable[[], AbstractAsyncContextManager[Work[Item, Result]]],
    *,
    in_flight: int,
) -> Iterator[Result]:
    """The result of every item, in the order in which they complete.

    The first item runs alone; the others start when it is done.

    Args:
        opened: A context that gives the coroutine function to call with each item; it is entered in the loop's thread.
        in_flight: How many items may be in flight.

    Raises:
        Exception: What the coroutine function raised first. No item is started after it, and the results of those in
            flight are given before it is raised.
    """
    if not items:
        return
    run = _Run(items, opened, in_flight)
    run.start()
    try:
        while (result := run.next()) is not None:
            yield result[0]
            run.release()
    finally:
        run.stop()
    if run.failure:
        raise run.failure


class _Run(Generic[Item, Result]):
    def __init__(
        self,
        items: Sequence[Item],
        opened: Callable[[], AbstractAsyncContextManager[Work[Item, Result]]],
        in_flight: int,
    ) -> None:
        self.failure: BaseException | None = None
        self._items, self._opened = items, opened
        self._results: queue.SimpleQueue[tuple[Result] | None] = queue.SimpleQueue()
        self._slots = asyncio.Semaphore(in_flight)
        self._main: asyncio.Task[None] | None = None
        self._stopping = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="annotate", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def next(self) -> tuple[Result] | None:
        """The next result, in a tuple; None after the last."""
        while True:
            # Polars installs a signal handler that restarts blocking calls: without a timeout Ctrl-C would do nothing.
            with contextlib.suppress(queue.Empty):
                return self._results.get(timeout=BLINK)

    def release(self) -> None:
        """The caller has handled a result: another item may start."""
        self._tell(self._slots.release)

    def stop(self) -> None:
        """Cancel what is in flight, and wait until it is gone."""
        self._tell(self._cancel)
        self._thread.join(GRACE)

    def _tell(self, callback: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nothing is left to start or to stop
            self._loop.call_soon_threadsafe(callback)

    def _cancel(self) -> None:
        self._stopping = True
        if self._main:
            self._main.cancel()

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._work_through())
        except asyncio.CancelledError:
            pass
        except BaseException as error:
            self.failure = self.failure or error
        finally:
            self._results.put(None)

    async def _work_through(self) -> None:
        self._main = asyncio.current_task()
        if self._stopping:
            return
        async with self._opened() as work:
            await self._slots.acquire()
            await self._one(work, self._items[0])
            async with asyncio.TaskGroup() as group:
                for item in self._items[1:]:
                    await self._slots.acquire()
                    if self.failure:
                        break
                    group.create_task(self._one(work, item))

    async def _one(self, work: Work[Item, Result], item: Item) -> None:
        try:
            self._results.put((await work(item),))
        except Exception as error:
            self.failure = self.failure or error
            self._slots.release()
