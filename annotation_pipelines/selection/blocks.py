"""Work on many rows in blocks of a fixed size, on all cores, with the same outcome on any number of them.

A library of linear algebra that divides a product among its threads rounds it otherwise for each number of threads.
Here every block is computed by one thread, and blocks are put together in their order.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

ROWS = 8_192
"""Rows of a block: with 1,000 centres, 32 MiB of float32."""

Part = TypeVar("Part")


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Products of numpy inside are computed by the thread that asks for them."""
    from threadpoolctl import threadpool_limits

    # Not OpenMP: an encoder that is asked inside keeps its threads.
    with threadpool_limits(limits=1, user_api="blas"):
        yield


def by_blocks(work: Callable[[slice], Part], rows: int) -> Iterator[Part]:
    """What `work` gives for each block of so many rows, in their order; a few blocks are in work at a time."""
    slices = [slice(start, min(start + ROWS, rows)) for start in range(0, rows, ROWS)]
    if len(slices) < 2:
        yield from map(work, slices)
        return
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        ahead = 2 * workers
        waiting = [pool.submit(work, block) for block in slices[:ahead]]
        for number in range(len(slices)):
            part = waiting[number % ahead].result()
            if number + ahead < len(slices):
                waiting[number % ahead] = pool.submit(work, slices[number + ahead])
            yield part
