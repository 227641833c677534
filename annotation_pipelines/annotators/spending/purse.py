"""The purse of a run: no request goes out unless the declared caps allow what it may cost.

All processes of a project share one account, `spending.json` in its storage folder: a day's cap holds over all of them.
What was spent is also in the ledger (`llm_calls`); opening a purse takes the larger figure of the two, so that the
account can be lost and made again. It knows more than the ledger only about requests that brought no reply and may have
been billed: those count with their bound.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from annotation_pipelines import project
from annotation_pipelines.annotators.shared_state import SharedState, is_alive, this_process
from annotation_pipelines.annotators.spending.bought import bought
from annotation_pipelines.annotators.spending.bounds import Bounds
from annotation_pipelines.annotators.spending.budget import Account, Amount, Cap, Kind, Verdict, declared_caps
from annotation_pipelines.annotators.spending.prices import cost
from annotation_pipelines.errors import AnnotatorError, BudgetSpent, StoreError
from annotation_pipelines.project import Price
from annotation_pipelines.store.database import Store

POLL_SECONDS = 0.05
"""Between two looks at whether requests in flight came in below their bounds."""

LONGEST_WAIT = 600.0
"""Seconds; room that is held for longer counts as spent by those who wait for it."""

_numbers = itertools.count()


@dataclass(frozen=True, slots=True, eq=False)
class Reservation:
    """What a request, or a batch of them, may use at most.

    Attributes:
        bound: Money and tokens.
        scopes: Where it is held; none without caps.
        prompt_bytes: Of the prompt of one request.
    """

    bound: Amount
    scopes: tuple[str, ...] = ()
    prompt_bytes: int = 0


_NOTHING_HELD = Reservation(Amount())


class Purse:
    """What a run may still spend with one annotator. Without caps every method returns at once.

    A purse is closed at the end, as a context manager or by `close`: what is held then counts as spent. Its methods
    may be called from several threads.
    """

    def __init__(
        self,
        file: Path,
        caps: Sequence[Cap],
        *,
        run_id: str | None,
        backfill_id: str | None,
        price: Price | None,
        now: Callable[[], datetime],
    ) -> None:
        self._holder = f"{this_process()}/{next(_numbers)}"
        self._caps = tuple(cap for cap in caps if cap.kind != "backfill" or backfill_id is not None)
        self._run = f"run:{run_id or self._holder}"
        self._backfill = f"backfill:{backfill_id}"
        self._price, self._now = price, now
        self._state = SharedState(file)
        self._lock = threading.RLock()
        self._outstanding: set[Reservation] = set()
        # By scope what was spent when this purse last looked, and what it holds: enough to mend a damaged account.
        self._known: dict[str, tuple[Amount, Amount]] = {}
        self._bounds = Bounds(price)
        self._named: dict[str, dict[str, Cap]] = {}
        self._line: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None
        self._in_line = 0

    @classmethod
    def open(
        cls,
        store: Store,
        budget: project.Budget,
        *,
        run_id: str | None,
        backfill_id: str | None,
        price: Price | None,
        where: str,
        now: Callable[[], datetime] | None = None,
    ) -> Purse:
        """A purse with what its run, day and backfill have already cost.

        Args:
            store: Its ledger counts; fold journals that were left over before.
            run_id: None makes the purse a run of its own.
            backfill_id: None where the run belongs to none: caps on a backfill do not apply.
            price: None where it is unknown.
            where: The annotator and its endpoint, for errors.
            now: The time; a day is one of UTC.

        Raises:
            AnnotatorError: There is a cap on money, and the price is unknown.
            StoreError: The account or the store cannot be used.
        """
        caps = declared_caps(budget)
        money = ", ".join(f"per_{cap.kind}_usd" for cap in caps if cap.usd is not None)
        if money and price is None:
            raise AnnotatorError(
                f"the budget caps money ({money}), but the price of the model is not known",
                where=where,
                todo="Add price: {input: DOLLARS, output: DOLLARS}, for a million tokens, to the annotator, or list "
                "the model in prices.yaml beside workspace.yaml, or cap tokens instead",
            )
        file = store.home / "spending.json"
        clock = now or (lambda: datetime.now(UTC))
        purse = cls(file, caps, run_id=run_id, backfill_id=backfill_id, price=price, now=clock)
        if purse._caps:
            purse._catch_up(store, run_id, backfill_id)
        return purse

    def __enter__(self) -> Purse:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def caps(self) -> str:
        """The caps that apply, in words; empty without any."""
        return ", ".join(cap.words for cap in self._caps)

    def spent(self) -> dict[Kind, Amount]:
        """What was spent in each scope with a cap, other runs included; not what is in flight."""
        if not self._caps:
            return {}
        with self._turn() as account:
            return {cap.kind: account.spent(scope) for scope, cap in self._scopes().items()}

    async def reserve(self, prompt_bytes: int, completion_tokens: int) -> Reservation:
        """Hold what a request may use; waits while only requests in flight are in the way.

        Args:
            prompt_bytes: Of its messages. How many tokens a byte may be is learned from the replies.
            completion_tokens: The most that it lets the model write, over all its answers.

        Raises:
            BudgetSpent: A cap would be exceeded.
            StoreError: The account cannot be written.
        """
        if not self._caps:
            return _NOTHING_HELD
        if not self._in_line:
            reservation = self._try(prompt_bytes, completion_tokens)
            if reservation is not None:
                return reservation
        return await self._stand_in_line(prompt_bytes, completion_tokens)

    def settle(
        self,
        reservation: Reservation,
        *,
        prompt_tokens: int | None,
        completion_tokens: int | None,
        cost_usd: float | None,
    ) -> None:
        """Count what a request used. What is unknown counts with its bound: it may have been billed.

        A reservation that was settled or released before is left alone.
        """
        if not self._caps:
            return
        tokens = None
        if prompt_tokens is not None and completion_tokens is not None:
            tokens = prompt_tokens + completion_tokens
            self._bounds.learn(reservation.prompt_bytes, prompt_tokens)
        if cost_usd is None:
            cost_usd = cost(self._price, prompt_tokens=prompt_tokens, completion_tokens=completion_tokens)
        bound = reservation.bound
        spent = Amount(bound.usd if cost_usd is None else cost_usd, bound.tokens if tokens is None else tokens)
        self._end(reservation, spent)

    def release(self, reservation: Reservation) -> None:
        """Let go what a request held that was certainly not billed: refused with 429, or no connection came about."""
        if self._caps:
            self._end(reservation, Amount())

    def close(self) -> None:
        """Count as spent what is still held: requests that were broken off may have been billed."""
        if not self._caps:
            return
        with self._lock:
            self._outstanding.clear()
            try:
                with self._turn() as account:
                    account.reclaim(lambda holder: holder != self._holder)
            except StoreError as error:
                # The account finds the same later, when this process is gone.
                logging.getLogger(__name__).warning("%s", error)
            finally:
                self._state.close()

    # -- batches -------------------------------------------------------------------------------------------------

    def reserve_batch(self, sizes: Sequence[tuple[int, int]]) -> tuple[int, Reservation]:
        """Hold what a batch may use, at the price of the batch API: as many requests, from the first, as fit now.

        Args:
            sizes: Bytes of the prompt and the most tokens of the answers, for every request.

        Returns:
            How many fit, and one reservation for all of them.
        """
        if not self._caps or not sizes:
            return len(sizes), _NOTHING_HELD
        single = (self._bounds.bound(prompt, answer, batch=True) for prompt, answer in sizes)
        bounds = [Amount(), *itertools.accumulate(single)]
        with self._lock, self._turn() as account:
            caps = self._scopes()
            fit, too_many = 0, len(bounds)
            while too_many - fit > 1:
                middle = (fit + too_many) // 2
                if account.answer(caps, bounds[middle]).answer == "yes":
                    fit = middle
                else:
                    too_many = middle
            account.hold(caps, self._holder, bounds[fit], self._today())
            reservation = Reservation(bounds[fit], tuple(caps))
            self._outstanding.add(reservation)
        return fit, reservation

    def hand_over(self, reservation: Reservation, batch_id: str) -> None:
        """Let a batch that was submitted hold a reservation: it outlives this process, and nobody waits for it."""
        with self._lock:
            if reservation in self._outstanding:
                self._outstanding.discard(reservation)
                with self._turn() as account:
                    account.hand_to_batch(reservation.scopes, self._holder, reservation.bound, batch_id, self._today())

    def settle_batch(
        self, batch_id: str, *, prompt_tokens: int | None, completion_tokens: int | None, cost_usd: float | None
    ) -> None:
        """Count what a batch used, in the scopes of the run that submitted it; unknown amounts count with their bound.

        Args:
            prompt_tokens: Of all its requests. A batch that failed as a whole used 0 of everything.
            completion_tokens: Likewise.
            cost_usd: At the price of the batch API.
        """
        if not self._caps:
            return
        spent = None
        if prompt_tokens is not None and completion_tokens is not None:
            if cost_usd is None:
                counts: dict[str, Any] = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
                cost_usd = cost(self._price, **counts, batch=True)
            spent = Amount(cost_usd, prompt_tokens + completion_tokens)
        with self._turn() as account:
            account.settle_batch(batch_id, spent, self._today())

    # -- what is behind it ---------------------------------------------------------------------------------------

    def _try(self, prompt_bytes: int, completion_tokens: int, *, last: bool = False) -> Reservation | None:
        """A reservation, or None where it is worth waiting; the last try does not wait."""
        bound = self._bounds.bound(prompt_bytes, completion_tokens)
        with self._lock:
            with self._turn() as account:
                caps = self._scopes()
                verdict = account.answer(caps, bound)
                if verdict.answer == "wait" and account.reclaim(_lives):
                    verdict = account.answer(caps, bound)
                if verdict.answer == "yes":
                    account.hold(caps, self._holder, bound, self._today())
            if verdict.answer == "yes":
                reservation = Reservation(bound, tuple(caps), prompt_bytes)
                self._outstanding.add(reservation)
                return reservation
        if verdict.answer == "no" or last:
            raise _spent_error(verdict, bound)
        return None

    async def _stand_in_line(self, prompt_bytes: int, completion_tokens: int) -> Reservation:
        """One looks again and again; the others wait behind it, so that many of them cost no more than one."""
        loop = asyncio.get_running_loop()
        if self._line is None or self._line[0] is not loop:
            self._line = loop, asyncio.Lock()
        self._in_line += 1
        try:
            async with self._line[1]:
                end = time.monotonic() + LONGEST_WAIT
                while True:
                    last = time.monotonic() > end
                    reservation = self._try(prompt_bytes, completion_tokens, last=last)
                    if reservation is not None:
                        return reservation
                    await asyncio.sleep(POLL_SECONDS)
        finally:
            self._in_line -= 1

    def _end(self, reservation: Reservation, spent: Amount) -> None:
        with self._lock:
            if reservation in self._outstanding:
                self._outstanding.discard(reservation)
                with self._turn() as account:
                    account.settle(reservation.scopes, self._holder, reservation.bound, spent, self._today())

    def _today(self) -> date:
        return self._now().astimezone(UTC).date()

    def _scopes(self) -> dict[str, Cap]:
        """The caps by scope, at this time."""
        day = f"day:{self._today()}"
        if day not in self._named:
            names: dict[Kind, str] = {"run": self._run, "day": day, "backfill": self._backfill}
            self._named = {day: {names[cap.kind]: cap for cap in self._caps}}
        return self._named[day]

    @contextmanager
    def _turn(self) -> Iterator[Account]:
        """The account, mended first where it has lost something; remembered when it is written."""
        with self._lock:
            with self._state.turn() as document:
                account = Account(document)
                today = self._today()
                for scope, (spent, held) in self._known.items():
                    account.restore(scope, spent, self._holder, held, today)
                yield account
            scopes = self._scopes()
            for scope in {*scopes, *self._known}:
                spent, held = account.spent(scope), account.held(scope, self._holder)
                if scope in scopes or held:
                    self._known[scope] = spent, held
                else:
                    del self._known[scope]

    def _catch_up(self, store: Store, run_id: str | None, backfill_id: str | None) -> None:
        today = self._today()
        before = bought(store, run_id=run_id, backfill_id=backfill_id, day=today)
        with self._turn() as account:
            account.reclaim(_lives)
            account.drop_old(today)
            for scope, cap in self._scopes().items():
                account.restore(scope, before[cap.kind], self._holder, Amount(), today)


def _lives(holder: str) -> bool:
    return is_alive(holder.partition("/")[0])


def _spent_error(verdict: Verdict, bound: Amount) -> BudgetSpent:
    cap = verdict.cap
    assert cap
    key = cap.exceeded_by(verdict.spent + bound)
    if key.endswith("usd"):
        spent, more = f"{verdict.spent.usd or 0:.4f} USD", f"{bound.usd or 0:.4f} USD"
    else:
        spent, more = f"{verdict.spent.tokens:,} tokens", f"{bound.tokens:,} tokens"
    return BudgetSpent(
        f"the cap of {cap.words} is reached: {spent} spent, and the next request may take {more}",
        where=f"budget: {key}",
        todo="The next run goes on from here; to go on now, raise the cap",
    )
