"""Processes, the limiter and a server, event by event on a clock of their own: minutes of traffic in a second.

A process has so many workers; each sends one request after the other, and again where it was refused or failed. What
lies between (lease, account, limiter, its state through JSON) is the code that runs in production.
"""

from __future__ import annotations

import heapq
import json
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Protocol

from annotation_pipelines.annotators.limits import limiter
from annotation_pipelines.annotators.limits.lease import Account, Outcome, Sent
from annotation_pipelines.annotators.limits.limiter import Terms

ANSWERED, THROTTLED = Outcome("answered", status=200), Outcome("throttled", status=429)
OVERLOADED, BROKEN = Outcome("overloaded", status=503), Outcome("broken")


class Server(Protocol):
    """What a server does with a request that arrives at a time: its outcome, and seconds to the reply."""

    def reply(self, now: float) -> tuple[Outcome, float]: ...

    def done(self) -> None: ...


@dataclass
class Plain:
    """Answers all."""

    latency: float = 0.05
    in_flight: int = 0
    peak: int = 0

    def reply(self, now: float) -> tuple[Outcome, float]:
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        return self.judge(now), self.latency

    def judge(self, now: float) -> Outcome:
        return ANSWERED

    def done(self) -> None:
        self.in_flight -= 1


@dataclass
class Bucket(Plain):
    """A token bucket: so many a second, `depth` at once; tells nothing but 429."""

    rate: float = 50.0
    depth: float = 50.0
    quick: float | None = None
    level: float | None = None
    last: float = 0.0

    def reply(self, now: float) -> tuple[Outcome, float]:
        outcome, latency = super().reply(now)
        return outcome, latency if outcome is ANSWERED or self.quick is None else self.quick

    def judge(self, now: float) -> Outcome:
        level = self.depth if self.level is None else min(self.depth, self.level + (now - self.last) * self.rate)
        self.last = now
        self.level = level - 1 if level >= 1 else level
        return ANSWERED if level >= 1 else THROTTLED


@dataclass
class Sliding(Plain):
    """At most `limit` accepted in any `window` seconds."""

    limit: int = 1200
    window: float = 60.0
    accepted: deque[float] = field(default_factory=deque)
    headers: Callable[[float], dict[str, str]] | None = None

    def judge(self, now: float) -> Outcome:
        while self.accepted and self.accepted[0] <= now - self.window:
            self.accepted.popleft()
        if len(self.accepted) < self.limit:
            self.accepted.append(now)
            return ANSWERED
        return THROTTLED


@dataclass
class Storm(Plain):
    """Refuses a share at random for a while, whatever the rate; then answers all."""

    share: float = 0.6
    seconds: float = 20.0
    seed: int = 0
    after: Plain | None = None

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def judge(self, now: float) -> Outcome:
        if now < self.seconds and self.random.random() < self.share:
            return THROTTLED
        return self.after.judge(now) if self.after else ANSWERED


@dataclass
class Outage(Plain):
    """Breaks every connection from `start` to `end`."""

    start: float = 5.0
    end: float = 35.0

    def judge(self, now: float) -> Outcome:
        return BROKEN if self.start <= now < self.end else ANSWERED


@dataclass
class Seen:
    """What went on.

    Attributes:
        sent: (time, outcome kind) of every request, in order of sending.
        finished: When the last record was answered; None when time ran out.
        by_process: Answers that each process got.
    """

    sent: list[tuple[float, str]] = field(default_factory=list)
    answered: int = 0
    finished: float | None = None
    by_process: dict[str, int] = field(default_factory=dict)
    exchanges: int = 0
    state: Any = None

    def share(self, kind: str, after: float = 0.0) -> float:
        """The share of requests sent after a time that ended so."""
        kinds = [k for at, k in self.sent if at >= after]
        return kinds.count(kind) / len(kinds) if kinds else 0.0

    def count(self, kind: str) -> int:
        return sum(k == kind for _, k in self.sent)

    def most_in(self, window: float) -> int:
        """The most requests sent within any window of so many seconds."""
        times = [at for at, _ in self.sent]
        most = first = 0
        for last, at in enumerate(times):
            while times[first] <= at - window:
                first += 1
            most = max(most, last - first + 1)
        return most


def simulate(
    server: Server,
    *,
    records: int,
    processes: int = 1,
    workers: int = 64,
    maximum: int = 64,
    terms: Terms | None = None,
    until: float = 600.0,
    pause: Callable[[Outcome], float] = lambda outcome: 0.0,
    start: float = 1000.0,
) -> Seen:
    """Annotate so many records with so many processes, each with so many workers.

    Args:
        pause: Seconds that a worker waits after an outcome before it sends again.
    """
    return _Simulation(server, records, processes, workers, terms or Terms(maximum), until, pause, start).run()


class _Process:
    def __init__(self, name: str) -> None:
        self.name, self.account, self.waiting, self.timer = name, Account(), 0, 0


class _Simulation:
    def __init__(
        self,
        server: Server,
        records: int,
        processes: int,
        workers: int,
        terms: Terms,
        until: float,
        pause: Callable[[Outcome], float],
        start: float,
    ) -> None:
        self.server, self.terms, self.until, self.pause, self.start = server, terms, until, pause, start
        self.now = start
        self.left = self.unanswered = records
        self.processes = [_Process(f"p{n}") for n in range(processes)]
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.order = count()
        self.document: str = "{}"
        self.seen = Seen(by_process={p.name: 0 for p in self.processes})
        for process in self.processes:
            for _ in range(workers):
                self.at(start, lambda process=process: self.next_record(process))

    def at(self, when: float, do: Callable[[], None]) -> None:
        heapq.heappush(self.events, (max(when, self.now), next(self.order), do))

    def run(self) -> Seen:
        while self.events and self.unanswered:
            when, _, do = heapq.heappop(self.events)
            if when > self.start + self.until:
                break
            self.now = when
            do()
        if not self.unanswered:
            self.seen.finished = self.now - self.start
        self.seen.state = limiter.load(json.loads(self.document), self.now)
        return self.seen

    def next_record(self, process: _Process) -> None:
        if self.left:
            self.left -= 1
            self.enter(process)

    def enter(self, process: _Process) -> None:
        account = process.account
        if not process.waiting:
            if sent := account.admit(100, self.now):
                self.send(process, sent)
                return
            if account.may_ask(self.now):
                self.exchange(process, extra=1)
                if sent := account.admit(100, self.now):
                    self.send(process, sent)
                    return
        process.waiting += 1
        self.arm(process)

    def exchange(self, process: _Process, extra: int = 0) -> None:
        state = limiter.load(json.loads(self.document), self.now)
        report = process.account.report(process.waiting + extra, 100)
        process.account.renew(limiter.exchange(state, process.name, report, self.terms, self.now))
        self.document = json.dumps(limiter.dump(state))
        self.seen.exchanges += 1
        self.arm(process)

    def arm(self, process: _Process) -> None:
        ask_at = process.account.ask_at(process.waiting)
        process.timer += 1
        if ask_at is not None:
            self.at(ask_at, lambda timer=process.timer: self.tick(process, timer))

    def tick(self, process: _Process, timer: int) -> None:
        if timer == process.timer:
            self.exchange(process)
            self.serve(process)

    def serve(self, process: _Process) -> None:
        while process.waiting and (sent := process.account.admit(100, self.now)):
            process.waiting -= 1
            self.send(process, sent)

    def send(self, process: _Process, sent: Sent) -> None:
        outcome, seconds = self.server.reply(self.now - self.start)
        self.seen.sent.append((self.now - self.start, outcome.kind))
        self.at(self.now + seconds, lambda: self.end(process, outcome, sent))
        if process.account.ask_at(process.waiting) is not None and not process.timer:
            self.arm(process)

    def end(self, process: _Process, outcome: Outcome, sent: Sent) -> None:
        self.server.done()
        process.account.settle(outcome, sent, self.now)
        if process.account.urgent:
            self.exchange(process)
        if outcome.kind == "answered":
            self.unanswered -= 1
            self.seen.by_process[process.name] += 1
            self.seen.answered += 1
            self.next_record(process)
        elif pause := self.pause(outcome):
            self.at(self.now + pause, lambda: self.enter(process))
        else:
            self.enter(process)
        if process.waiting and self.now >= process.account.lease.until and self.now >= process.account.lease.again:
            self.exchange(process)
        self.serve(process)
