"""The door of one process to an endpoint and model, whose limits all processes of this machine share.

Most requests pass by the lease that the process holds, without waiting and without touching the shared file. About
every 50 ms, and at once where that brings something, the process tells what it did and gets a new lease.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Self

from annotation_pipelines.annotators.limits import limiter, state
from annotation_pipelines.annotators.limits.lease import Account, Outcome, Sent
from annotation_pipelines.annotators.limits.limiter import Terms
from annotation_pipelines.annotators.shared_state import SharedState, is_alive, machine_folder, this_process
from annotation_pipelines.errors import StoreError

if TYPE_CHECKING:
    from annotation_pipelines.project import Limits

__all__ = ["Gate", "GaveUp", "Outcome"]

_NEW_START_SECONDS = 60.0
"""After so long without a request, earlier failures try nobody's patience."""


class GaveUp(Exception):
    """The endpoint has answered nothing for longer than the declared patience; the message says so."""


class _Waiter(NamedTuple):
    future: asyncio.Future[Sent]
    tokens: int


class Gate:
    """Lets requests through as the shared limiter allows; for one event loop.

    Args:
        endpoint: The base URL.
        maximum: The most requests in flight, of all processes of this machine.
        limits: What the endpoint allows a minute, where that is declared.
        patience: Seconds without an answer after which waiting requests are given up.
        folder: Where the processes meet; default: this user's on this machine.
    """

    def __init__(
        self, endpoint: str, model: str, *, maximum: int, limits: Limits, patience: float, folder: Path | None = None
    ) -> None:
        name = hashlib.blake2b(f"{endpoint}\0{model}".encode(), digest_size=12).hexdigest()
        self._shared = SharedState((folder or machine_folder()) / "limits" / f"{name}.json")
        self._terms = Terms(maximum, limits.requests_per_minute, limits.tokens_per_minute)
        self._patience = patience
        self._me = f"{this_process()}/{id(self):x}"
        self._account = Account()
        self._waiters: deque[_Waiter] = deque()
        self._sent: dict[asyncio.Task[object] | None, Sent] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._trying_since = self._idle_since = 0.0
        self._broken: StoreError | None = None

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._trying_since = self._idle_since = time.monotonic()
        self._exchange()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer:
            self._timer.cancel()
        try:
            if self._broken is None:
                self._exchange(last=True)
        finally:
            self._shared.close()

    @property
    def interrupted(self) -> bool:
        """Whether nothing is answered, so that only single probes go out: a failure then says nothing of its record."""
        return self._account.lease.interrupted

    async def enter(self, tokens: int) -> None:
        """Wait until a request of about so many tokens may be sent; `leave` must follow, from the same task.

        Raises:
            GaveUp: Nothing was answered for longer than the patience, or the endpoint asks to wait for longer.
            StoreError: The shared file cannot be used.
        """
        task = asyncio.current_task()
        if not self._waiters:
            now = time.monotonic()
            sent = self._account.admit(tokens, now)
            if sent is None and self._account.may_ask(now):
                self._start_anew(now)
                self._exchange(asking=tokens)
                sent = self._account.admit(tokens, now)
            if sent:
                self._sent[task] = sent
                return
        self._sent[task] = await self._wait(tokens)

    def leave(self, outcome: Outcome) -> None:
        """The request that this task entered with is done."""
        now = time.monotonic()
        sent = self._sent.pop(asyncio.current_task(), None)
        account = self._account
        account.settle(outcome, sent or Sent(account.lease.era, 0, now), now)
        if not account.in_flight:
            self._idle_since = now
        if account.urgent or (self._waiters and account.may_ask(now)):
            self._exchange_later_on_error()
        elif self._waiters:
            self._let_in(now)
        elif self._timer is None:
            self._set_timer(now)

    async def _wait(self, tokens: int) -> Sent:
        waiter = _Waiter(self._loop.create_future(), tokens)
        self._waiters.append(waiter)
        now = time.monotonic()
        self._lose_patience(now)
        if self._timer is None or len(self._waiters) == 1:
            self._set_timer(now)
        try:
            return await waiter.future
        except asyncio.CancelledError:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            elif waiter.future.done() and not waiter.future.cancelled() and waiter.future.exception() is None:
                self._account.take_back(waiter.future.result())
                self._let_in(time.monotonic())
            raise

    def _start_anew(self, now: float) -> None:
        if not self._account.in_flight and now - self._idle_since > _NEW_START_SECONDS:
            self._trying_since = now

    def _let_in(self, now: float) -> None:
        """Let those in who wait, first come, first served, as far as the lease goes."""
        while self._waiters:
            waiter = self._waiters[0]
            if waiter.future.done():  # cancelled, and not told yet
                self._waiters.popleft()
                continue
            sent = self._account.admit(waiter.tokens, now)
            if sent is None:
                return
            self._waiters.popleft()
            waiter.future.set_result(sent)

    def _exchange(self, *, asking: int | None = None, last: bool = False) -> None:
        """Tell what was done, get a new lease, and let those in who wait.

        Args:
            asking: Tokens of a request that is not among those who wait.
        """
        if self._broken:
            raise self._broken
        waiting = len(self._waiters) + (asking is not None)
        next_tokens = self._waiters[0].tokens if self._waiters else asking or 0
        report = self._account.report(waiting, next_tokens)
        try:
            with self._shared.turn() as document:
                now = time.monotonic()
                known = state.load(document, now)
                for name in limiter.silent(known, now):
                    if not is_alive(name.partition("/")[0]):
                        limiter.leave(known, name)
                lease = limiter.exchange(known, self._me, report, self._terms, now)
                if last:
                    limiter.leave(known, self._me)
                document.clear()
                document.update(state.dump(known))
        except StoreError as error:
            self._broken = error
            self._refuse(error)
            raise
        self._account.renew(lease)
        self._let_in(now)
        self._lose_patience(now)
        if not last:
            self._set_timer(now)

    def _exchange_later_on_error(self) -> None:
        """Exchange where nobody could be told of an error: the next who enters is."""
        with contextlib.suppress(StoreError):
            self._exchange()

    def _lose_patience(self, now: float) -> None:
        lease = self._account.lease
        if lease.paused_until - now > self._patience:
            self._refuse(GaveUp(f"the endpoint asks to wait for {lease.paused_until - now:,.0f} s"))
            return
        failing_since = now if lease.failing_since is None else max(lease.failing_since, self._trying_since)
        if now - failing_since > self._patience:
            self._refuse(GaveUp(f"nothing was answered for {self._patience:g} s: rate limits or an outage"))

    def _refuse(self, error: Exception) -> None:
        """Nobody who waits is let in any more."""
        for waiter in self._waiters:
            if not waiter.future.done():
                waiter.future.set_exception(error)
        self._waiters.clear()

    def _set_timer(self, now: float) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        at = self._account.ask_at(len(self._waiters))
        if at is not None:
            self._timer = self._loop.call_later(max(at - now, 0.0), self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        self._exchange_later_on_error()
