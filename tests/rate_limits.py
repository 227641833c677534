"""What an endpoint does with more than it takes: limits a minute, storms of refusals, outages.

A rule says what becomes of a request that arrives at a time. `Following` makes a MockEndpoint follow one; the
simulation of the limiter asks the same rules on a clock of its own. Times are seconds; a rule counts them from its
first request.

    limit = Following(TokenBucket(1200, burst=20, tells=("retry-after",)))
    with MockEndpoint(limit) as mock:
        ...
        assert limit.share(429, after=10) <= 0.02
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from tests.mock_endpoint import Act, Call, answer, error, reset

Telling = Literal["retry-after", "headers"]


@dataclass(frozen=True)
class Ruling:
    """What becomes of a request.

    Attributes:
        status: 200, an error, or 0 for a connection that breaks.
        headers: Of the reply.
    """

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


class Rule(Protocol):
    """A rule for all clients together."""

    def __call__(self, now: float) -> Ruling:
        """What becomes of a request at a time, no earlier than the last one."""


@dataclass
class TokenBucket:
    """So many a minute, refilled all the time; a bucket holds what was not taken.

    Attributes:
        burst: How many fit into the bucket.
        tells: retry-after: a refusal says when to come again; headers: every reply gives the `x-ratelimit-*` ones.
    """

    per_minute: float
    burst: float
    tells: Collection[Telling] = ()
    level: float = field(init=False)
    last: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self.level = self.burst

    def __call__(self, now: float) -> Ruling:
        rate = self.per_minute / 60
        self.level = min(self.burst, self.level + (now - self.last) * rate)
        self.last = now
        accepted = self.level >= 1
        self.level -= accepted
        headers = {}
        if "headers" in self.tells:
            headers = _headers(self.per_minute, self.level, (self.burst - self.level) / rate)
        if not accepted and "retry-after" in self.tells:
            headers["Retry-After"] = _whole_seconds((1 - self.level) / rate)
        return Ruling(200 if accepted else 429, headers)


@dataclass
class SlidingWindow:
    """No more than so many accepted in any `window` seconds."""

    per_minute: float
    window: float = 60.0
    tells: Collection[Telling] = ()
    accepted: deque[float] = field(default_factory=deque)

    def __call__(self, now: float) -> Ruling:
        limit = int(self.per_minute * self.window / 60)
        while self.accepted and self.accepted[0] <= now - self.window:
            self.accepted.popleft()
        taken = len(self.accepted) < limit
        if taken:
            self.accepted.append(now)
        oldest = self.accepted[0] + self.window - now if self.accepted else 0.0
        headers = {}
        if "headers" in self.tells:
            headers = _headers(self.per_minute, limit - len(self.accepted), self.accepted[-1] + self.window - now)
        if not taken and "retry-after" in self.tells:
            headers["Retry-After"] = _whole_seconds(oldest)
        return Ruling(200 if taken else 429, headers)


@dataclass
class FixedWindow:
    """No more than so many accepted from one full multiple of `window` seconds to the next."""

    per_minute: float
    window: float = 1.0
    accepted: int = 0
    number: int = -1

    def __call__(self, now: float) -> Ruling:
        if int(now // self.window) != self.number:
            self.number, self.accepted = int(now // self.window), 0
        taken = self.accepted < self.per_minute * self.window / 60
        self.accepted += taken
        return Ruling(200 if taken else 429)


@dataclass
class Storm:
    """Refuses a share at random, whatever the rate, for so many seconds; then follows another rule, if any."""

    share: float = 0.6
    seconds: float = 20.0
    seed: int = 0
    then: Rule | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def __call__(self, now: float) -> Ruling:
        if now < self.seconds and self.random.random() < self.share:
            return Ruling(429, self.headers)
        return self.then(now) if self.then else Ruling()


@dataclass
class Outage:
    """Down from `start` to `end`: breaks connections, or answers with a status."""

    start: float = 0.0
    end: float = 30.0
    status: int = 0

    def __call__(self, now: float) -> Ruling:
        return Ruling(self.status) if self.start <= now < self.end else Ruling()


class Following:
    """A MockEndpoint's behaviour that follows a rule.

    Attributes:
        seen: When each request arrived, counted from the first, and the status it got.
    """

    def __init__(self, rule: Rule, good: Act | None = None) -> None:
        self.rule, self.good = rule, good or answer("agrees")
        self.seen: list[tuple[float, int]] = []
        self._start: float | None = None

    def __call__(self, call: Call) -> Act:
        if self._start is None:
            self._start = call.arrived
        now = call.arrived - self._start
        ruling = self.rule(now)
        self.seen.append((now, ruling.status))
        if ruling.status == 0:
            return reset()
        if ruling.status == 200:
            return Act(200, self.good.body, {**self.good.headers, **ruling.headers}, billed=True)
        return error(ruling.status, "slow down", headers=ruling.headers)

    def share(self, status: int, after: float = 0.0) -> float:
        """The share of the requests after a time that got a status."""
        return share(self.seen, status, after)

    def most_in(self, window: float) -> int:
        """The most requests that arrived within any window of so many seconds."""
        return most_in([at for at, _ in self.seen], window)


def share(seen: Sequence[tuple[float, object]], what: object, after: float = 0.0) -> float:
    """The share of what was seen after a time that was this."""
    later = [kind for at, kind in seen if at >= after]
    return later.count(what) / len(later) if later else 0.0


def most_in(times: Sequence[float], window: float) -> int:
    """The most of these times, in order, that fall into any half-open window."""
    most = first = 0
    for last, at in enumerate(times):
        while times[first] <= at - window:
            first += 1
        most = max(most, last - first + 1)
    return most


def _headers(limit: float, left: float, reset_seconds: float) -> dict[str, str]:
    minutes, seconds = divmod(max(reset_seconds, 0.001), 60)
    reset = f"{int(minutes)}m{seconds:.3f}s" if minutes else f"{seconds * 1000:.0f}ms"
    return {
        "x-ratelimit-limit-requests": f"{limit:.0f}",
        "x-ratelimit-remaining-requests": str(int(left)),
        "x-ratelimit-reset-requests": reset,
    }


def _whole_seconds(seconds: float) -> str:
    return str(max(1, int(-(-seconds // 1))))
