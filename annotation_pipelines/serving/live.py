"""The champion of a server: requests that come together are predicted together, and a new champion takes over."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import polars as pl

from annotation_pipelines.distillation.champion import Champion
from annotation_pipelines.errors import AnnotationPipelinesError

_BATCH = 256  # contents that are predicted together, beyond a single request's


class Stopped(Exception):
    """The server takes no more requests: it is going down."""


@dataclass
class _Waiting:
    contents: Sequence[str]
    answer: asyncio.Future[tuple[str, pl.DataFrame]]


class LiveChampion:
    """A champion behind a queue.

    While one batch is predicted, in a thread of its own, the requests that arrive are gathered into the next one: no
    request waits for others to come, and under load batches grow by themselves.

    Args:
        load: Gives the champion there is.
        version: Gives the version of the champion there is; None where there is none.
        every: Seconds between two looks whether there is another champion.

    Attributes:
        champion: The one that answers.
    """

    def __init__(self, load: Callable[[], Champion], version: Callable[[], str | None], *, every: float = 5.0) -> None:
        self.champion = load()
        self._load, self._version, self._every = load, version, every
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue()
        self._computing = ThreadPoolExecutor(1, "predict")
        self._looking = ThreadPoolExecutor(1, "champion")
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin to answer."""
        self._tasks = [asyncio.create_task(self._answer()), asyncio.create_task(self._look())]

    async def stop(self) -> None:
        """Answer what is being predicted, and no more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        while not self._queue.empty():
            self._queue.get_nowait().answer.set_exception(Stopped())
        self._computing.shutdown()
        self._looking.shutdown(wait=False, cancel_futures=True)

    async def predict(self, contents: Sequence[str]) -> tuple[str, pl.DataFrame]:
        """The version that answers, and label, confidence, abstained of n contents."""
        waiting = _Waiting(contents, asyncio.get_running_loop().create_future())
        await self._queue.put(waiting)
        return await waiting.answer

    async def refresh(self) -> bool:
        """Look now whether there is another champion; whether it took over.

        Where the store is busy, or the new one's files are not whole, the present one goes on answering.
        """
        loop = asyncio.get_running_loop()
        try:
            version = await loop.run_in_executor(self._looking, self._version)
            if version is None or version == self.champion.model.version:
                return False
            champion = await loop.run_in_executor(self._looking, self._load)
        except AnnotationPipelinesError as error:
            logging.getLogger(__name__).warning("the champion stays as it is: %s", error)
            return False
        logging.getLogger(__name__).info("champion %s takes over from %s", version, self.champion.model.version)
        self.champion = champion
        return True

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(self._every)
            await self.refresh()

    async def _answer(self) -> None:
        while True:
            batch = [await self._queue.get()]
            while not self._queue.empty() and sum(len(waiting.contents) for waiting in batch) < _BATCH:
                batch.append(self._queue.get_nowait())
            await asyncio.shield(self._answer_batch(batch))

    async def _answer_batch(self, batch: list[_Waiting]) -> None:
        champion = self.champion
        contents = [content for waiting in batch for content in waiting.contents]
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._computing, champion.predict, contents)
        except Exception as error:
            for waiting in batch:
                if not waiting.answer.done():
                    waiting.answer.set_exception(error)
            return
        start = 0
        for waiting in batch:
            if not waiting.answer.done():  # a client that hung up
                waiting.answer.set_result((champion.model.version, found.slice(start, len(waiting.contents))))
            start += len(waiting.contents)
