"""Processes, the limiter and a server, event by event on a clock of their own: minutes of traffic in a second.

A process has so many workers; each sends one request after the other, and again where it was refused or failed. What
lies between (lease, account, limiter, its state through JSON) is the code that runs in production.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from annotation_pipelines.annotators.limits import limiter
from annotation_pipelines.annotators.limits.lease import Account, Outcome, Sent
from annotation_pipelines.annotators.limits.limiter import Terms
from annotation_pipelines.annotators.limits.state import State, dump, load
from tests.rate_limits import Rule, Ruling, most_in, share

_START = 1000.0
_TOKENS = 100
_KINDS = {200: "answered", 429: "throttled", 503: "overloaded", 0: "broken", 400: "other"}


@dataclass
class Server:
    """Follows a rule.

    Attributes:
        latency: Seconds to an answer.
        refusal_latency: Seconds to anything else; default: the same.
        peak: The most requests in flight at once.
    """

    rule: Rule = lambda now: Ruling()
    latency: float = 0.05
    refusal_latency: float | None = None
    in_flight: int = 0
    peak: int = 0

    def receive(self, now: float) -> tuple[Outcome, float]:
        """The outcome of a request that arrives, and when it comes."""
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        ruling = self.rule(now)
        headers = {name.lower(): value for name, value in ruling.headers.items()}
        late = self.refusal_latency if ruling.status != 200 and self.refusal_latency is not None else self.latency
        return Outcome(_KINDS[ruling.status], headers, status=ruling.status or None), late  # type: ignore[arg-type]


@dataclass
class Seen:
    """What went on.

    Attributes:
        sent: When every request was sent, in order, and how it ended.
        finished: When the last record was answered; the end of time when that never was.
        answers: By process.
    """

    sent: list[tuple[float, str]] = field(default_factory=list)
    finished: float = float("inf")
    answers: dict[str, int] = field(default_factory=dict)
    exchanges: int = 0
    state: State = field(default_factory=lambda: State(0.0))

    def share(self, kind: str, after: float = 0.0) -> float:
        """The share of requests sent after a time that ended so."""
        return share(self.sent, kind, after)

    def count(self, kind: str) -> int:
        """How many requests ended so."""
        return sum(k == kind for _, k in self.sent)

    def most_in(self, window: float) -> int:
        """The most requests sent within any window of so many seconds."""
        return most_in([at for at, _ in self.sent], window)


def simulate(
    server: Server,
    *,
    records: int,
    processes: int = 1,
    workers: int = 64,
    terms: Terms | None = None,
    until: float = 600.0,
    pause: Callable[[Outcome], float] = lambda outcome: 0.0,
) -> Seen:
    """Annotate so many records with so many processes, each with so many workers.

    Args:
        pause: Seconds that a worker waits after an outcome before it sends again.
    """
    return _Simulation(server, records, processes, workers, terms or Terms(64), until, pause).run()


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
    ) -> None:
        self.server, self.terms, self.until, self.pause = server, terms, until, pause
        self.now = _START
        self.left = self.unanswered = records
        self.processes = [_Process(f"p{n}") for n in range(processes)]
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.order = count()
        self.document: str = "{}"
        self.seen = Seen(answers={p.name: 0 for p in self.processes})
        for process in self.processes:
            for _ in range(workers):
                self.at(_START, lambda process=process: self.next_record(process))

    def at(self, when: float, do: Callable[[], None]) -> None:
        heapq.heappush(self.events, (max(when, self.now), next(self.order), do))

    def run(self) -> Seen:
        while self.events and self.unanswered:
            when, _, do = heapq.heappop(self.events)
            if when > _START + self.until:
                break
            self.now = when
            do()
        if not self.unanswered:
            self.seen.finished = self.now - _START
        self.seen.state = load(json.loads(self.document), self.now)
        return self.seen

    def next_record(self, process: _Process) -> None:
        if self.left:
            self.left -= 1
            self.enter(process)

    def enter(self, process: _Process) -> None:
        account = process.account
        if not process.waiting:
            if sent := account.admit(_TOKENS, self.now):
                self.send(process, sent)
                return
            if account.may_ask(self.now):
                self.exchange(process, extra=1)
                if sent := account.admit(_TOKENS, self.now):
                    self.send(process, sent)
                    return
        process.waiting += 1
        self.arm(process)

    def exchange(self, process: _Process, extra: int = 0) -> None:
        state = load(json.loads(self.document), self.now)
        report = process.account.report(process.waiting + extra, _TOKENS)
        process.account.renew(limiter.exchange(state, process.name, report, self.terms, self.now))
        self.document = json.dumps(dump(state))
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
        while process.waiting and (sent := process.account.admit(_TOKENS, self.now)):
            process.waiting -= 1
            self.send(process, sent)

    def send(self, process: _Process, sent: Sent) -> None:
        outcome, seconds = self.server.receive(self.now - _START)
        self.seen.sent.append((self.now - _START, outcome.kind))
        self.at(self.now + seconds, lambda: self.end(process, outcome, sent))
        if process.account.ask_at(process.waiting) is not None and not process.timer:
            self.arm(process)

    def end(self, process: _Process, outcome: Outcome, sent: Sent) -> None:
        self.server.in_flight -= 1
        process.account.settle(outcome, sent, self.now)
        if process.account.urgent:
            self.exchange(process)
        if outcome.kind == "answered":
            self.unanswered -= 1
            self.seen.answers[process.name] += 1
            self.next_record(process)
        elif pause := self.pause(outcome):
            self.at(self.now + pause, lambda: self.enter(process))
        else:
            self.enter(process)
        if process.waiting and process.account.may_ask(self.now):
            self.exchange(process)
        self.serve(process)
