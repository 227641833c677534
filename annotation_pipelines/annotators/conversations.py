"""Many conversations at once: each reply is kept the moment it arrives, then decides what follows.

The conversations with a server run in an event loop in a thread of its own: send, keep, read, go on. The thread that
owns the database puts work in and takes in what has ended, now and then; neither waits for the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Protocol

from annotation_pipelines.annotators.base import (
    Ask,
    Conversation,
    Keep,
    LocalAnnotator,
    RemoteAnnotator,
    Reply,
    Request,
    Turn,
)
from annotation_pipelines.annotators.spending.purse import Purse
from annotation_pipelines.errors import BudgetSpent
from annotation_pipelines.store.ledger import SERVED_AGAIN
from annotation_pipelines.tasks.base import Annotation

BLINK = 0.05
"""Seconds at most between two looks at what has ended, and at whether the caller was interrupted."""

MANY = 512
"""So many ended conversations are handed over at once without waiting for the blink to end."""

GRACE = 10.0
"""Seconds that connections get to close when the caller stops."""


class Talk(Protocol):
    """Conversations with one annotator, as a context manager."""

    def __enter__(self) -> Talk: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    @property
    def open(self) -> int:
        """Conversations that were put in and not taken out yet."""

    def put(self, conversations: Sequence[Conversation]) -> None:
        """Hold these, each from its next request on."""

    def take(self) -> list[Conversation]:
        """Those that have ended since the last look; waits a moment when there are none.

        Raises:
            AnnotatorError: Nothing can be annotated at all; what had ended before was taken already.
            StoreError: A reply could not be kept.
        """

    def turn_page(self) -> None:
        """Call before the journal is folded: replies from before the last page are in the ledger by now."""


def advance(conversation: Conversation, turn: Turn, proceed: Callable[[Sequence[Turn]], Request | Annotation]) -> None:
    """Take a turn into a conversation: it has a next request then, or its annotation."""
    conversation.turns.append(turn)
    following = proceed(conversation.turns)
    if isinstance(following, Annotation):
        conversation.request, conversation.annotation = None, following
    else:
        conversation.request = following


class LocalTalk:
    """Conversations with an annotator that computes its answers itself, in the caller's thread."""

    def __init__(self, annotator: LocalAnnotator, keep: Keep) -> None:
        self._annotator, self._keep = annotator, keep
        self._open: dict[str, list[Conversation]] = {}
        self._replies: Iterator[Reply] = iter(())
        self.open = 0

    def __enter__(self) -> LocalTalk:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def put(self, conversations: Sequence[Conversation]) -> None:
        self.open += len(conversations)
        for conversation in conversations:
            assert conversation.request
            self._open.setdefault(conversation.request.key, []).append(conversation)

    def take(self) -> list[Conversation]:
        for reply in self._replies:
            self._keep(reply)
            same = self._open.pop(reply.request.key)
            for conversation in same:
                assert conversation.request
                conversation.bought += conversation is same[0]
                advance(conversation, _turn(conversation.request, reply), self._annotator.proceed)
            again = [conversation for conversation in same if conversation.request]
            for conversation in again:
                assert conversation.request
                self._open.setdefault(conversation.request.key, []).append(conversation)
            ended = [conversation for conversation in same if conversation.annotation]
            self.open -= len(ended)
            return ended
        waiting = [same[0].request for same in self._open.values()]
        self._replies = self._annotator.annotate([request for request in waiting if request])
        return []

    def turn_page(self) -> None:
        pass


class RemoteTalk:
    """Conversations with a server, many at a time.

    The first request goes alone, so that a bad key costs one. Of conversations that begin with the same request one is
    held, and the others follow it. After a failure that would befall every record no request starts; those in flight
    are answered first, then it is raised.
    """

    def __init__(self, annotator: RemoteAnnotator, keep: Keep, purse: Purse) -> None:
        self._annotator, self._keep, self._purse = annotator, keep, purse
        self.open = 0
        self._failure: BaseException | None = None
        self._spent: BudgetSpent | None = None
        self._ended: list[Conversation] = []
        self._look = threading.Event()
        self._done = False
        self._unended = 0
        # Replies that may not be in the ledger yet, by request: of this page and of the one before.
        self._recent: dict[str, Reply] = {}
        self._earlier: dict[str, Reply] = {}
        # Those that wait for what another one is told, by the first request that they share with it.
        self._followers: dict[str, list[Conversation]] = {}
        self._queue: asyncio.Queue[Conversation] = asyncio.Queue()
        self._main: asyncio.Task[None] | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="annotate", daemon=True)

    def __enter__(self) -> RemoteTalk:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread.ident is None:
            self._loop.close()
            return
        self._tell(self._cancel)
        self._thread.join(GRACE)

    def put(self, conversations: Sequence[Conversation]) -> None:
        if not conversations:
            return
        self.open += len(conversations)
        if self._thread.ident is None:
            self._thread.start()
        self._tell(lambda: self._add(conversations))

    def take(self) -> list[Conversation]:
        # Polars installs a signal handler that restarts blocking calls: without a timeout Ctrl-C would do nothing.
        if self.open and not self._done:
            self._look.wait(BLINK)
        done = self._done
        self._look.clear()
        ended, self._ended = self._ended, []
        self.open -= len(ended)
        if done and not ended and self._failure:
            raise self._failure
        return ended

    def turn_page(self) -> None:
        self._earlier, self._recent = self._recent, {}

    def _tell(self, callback: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nothing is left to start or to stop
            self._loop.call_soon_threadsafe(callback)

    # -- in the loop's thread ------------------------------------------------------------------------------------

    def _add(self, conversations: Sequence[Conversation]) -> None:
        self._unended += len(conversations)
        for conversation in conversations:
            self._start(conversation)

    def _start(self, conversation: Conversation) -> None:
        """Queue a conversation, unless what came since the ledger was looked at ends it, or another one is ahead."""
        while conversation.request and (known := self._known(conversation.request)):
            advance(conversation, _turn(conversation.request, known), self._annotator.proceed)
        if conversation.annotation:
            self._end(conversation)
        elif (others := self._followers.get(conversation.first.key)) is not None:
            others.append(conversation)
        else:
            self._followers[conversation.first.key] = []
            self._queue.put_nowait(conversation)

    def _known(self, request: Request) -> Reply | None:
        return self._recent.get(request.key) or self._earlier.get(request.key)

    def _cancel(self) -> None:
        if self._main:
            self._main.cancel()

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._work())
        except asyncio.CancelledError:
            pass
        except BaseException as error:
            self._failure = self._failure or error
        finally:
            self._done = True
            self._look.set()

    async def _work(self) -> None:
        self._main = asyncio.current_task()
        async with self._annotator.session(self._keep, self._purse) as ask:
            first = await self._queue.get()
            await self._hold(first, ask)
            if self._failure:
                return
            workers = [asyncio.create_task(self._worker(ask)) for _ in range(self._annotator.concurrency)]
            try:
                await asyncio.gather(*workers)
            finally:
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)

    async def _worker(self, ask: Ask) -> None:
        """Hold one conversation after the other; ends, like all others, once one of them has failed for all."""
        while True:
            if self._failure:
                return
            conversation = await self._queue.get()
            await self._hold(conversation, ask)
            if self._failure:
                self._wake_workers()

    def _wake_workers(self) -> None:
        """Workers that wait for work see that there will be none."""
        for _ in range(self._annotator.concurrency):
            self._queue.put_nowait(Conversation(None))

    async def _hold(self, conversation: Conversation, ask: Ask) -> None:
        try:
            while conversation.request:
                if self._failure:
                    return
                if self._spent:
                    raise self._spent
                reply = await ask(conversation.request)
                if reply.status in SERVED_AGAIN:
                    self._recent[reply.request.key] = reply
                conversation.bought += 1
                advance(conversation, _turn(conversation.request, reply), self._annotator.proceed)
        except BudgetSpent as error:
            self._spent = error
            conversation.annotation = Annotation("over_budget", problem=error.problem)
        except Exception as error:
            self._failure = self._failure or error
            return
        if conversation.annotation is None:
            return
        self._end(conversation)
        for follower in self._followers.pop(conversation.first.key):
            self._follow(follower, conversation)

    def _follow(self, follower: Conversation, other: Conversation) -> None:
        """Tell a conversation what another one was told; it reads that by itself, for its own record."""
        for turn in other.turns[len(follower.turns) :]:
            if follower.request is None or follower.request.key != turn.request.key:
                break
            told = Turn(follower.request, turn.status, turn.text, turn.error, turn.read)
            advance(follower, told, self._annotator.proceed)
        self._start(follower)

    def _end(self, conversation: Conversation) -> None:
        self._ended.append(conversation)
        self._unended -= 1
        if not self._unended or len(self._ended) >= MANY:
            self._look.set()


def _turn(request: Request, reply: Reply) -> Turn:
    """A reply as one's own, which may have been bought for an equal request about another record."""
    return Turn(request, reply.status, reply.text, reply.error, reply.read)
