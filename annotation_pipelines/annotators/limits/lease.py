"""What a process may do until it asks again, and what it tells when it does. Pure: values and the time in, answers out.

A process asks the shared limiter every 50 ms, not for every request: it holds a lease of slots in flight and of
requests and tokens to send, and admits by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Literal, NamedTuple

from annotation_pipelines.annotators.limits.circuit import TROUBLE
from annotation_pipelines.annotators.limits.headers import Allowance, allowance, retry_after

LEASE_SECONDS = 0.05
_QUIET_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a request ended, as far as limits go.

    Attributes:
        kind: answered; throttled (429); overloaded (5xx, timeouts); broken (no connection); other: a reply that says
            nothing of the load, such as 400, or no reply because the request was given up.
        headers: Of the reply, looked up in lower case.
        tokens: What it took, where the endpoint says so.
        status: Of the reply.
    """

    kind: Literal["answered", "throttled", "overloaded", "broken", "other"]
    headers: Mapping[str, str] | None = None
    tokens: int | None = None
    status: int | None = None


@dataclass(frozen=True, slots=True)
class Lease:
    """What a process may do.

    Attributes:
        until: When it ends.
        era: What is sent under it belongs to this era.
        slots: Requests in flight, those that already are included.
        requests, tokens: To send; infinite where there is no limit.
        room: Whether more could be had at once.
        again: When to ask again, if this is not enough.
        on_watch: Whether a refusal would be news that the others should hear at once.
        interrupted: Whether only probes go out, because nothing is answered.
        failing_since: Since when nothing is answered, if so.
        paused_until: Up to when the endpoint asked to send nothing.
    """

    until: float = 0.0
    era: int = 0
    slots: int = 0
    requests: float = 0.0
    tokens: float = 0.0
    room: bool = True
    again: float = 0.0
    on_watch: bool = True
    interrupted: bool = False
    failing_since: float | None = None
    paused_until: float = 0.0


@dataclass(slots=True)
class Replies:
    """How many replies there were of each kind, to requests of one era.

    Attributes:
        failures: Overloaded and broken ones since the last answer.
        refusal_seconds: From the throttled ones' requests to their replies, in all.
    """

    answered: int = 0
    other: int = 0
    throttled: int = 0
    overloaded: int = 0
    broken: int = 0
    failures: int = 0
    refusal_seconds: float = 0.0


@dataclass(slots=True)
class Report:
    """What a process did under its last lease.

    Attributes:
        era: The lease's.
        sent: Requests since the last report.
        unpaced: Those of them that no limit held back.
        in_flight, waiting: Requests now.
        bound: Whether its slots held requests back.
        unused_requests, unused_tokens: Leased and not sent; negative where requests took more tokens than thought.
        next_tokens: Of the request that waits first.
        replies: By era.
        requests_left, tokens_left: What the latest headers said.
        pause_until: Up to when the endpoint asked to send nothing.
    """

    era: int = 0
    sent: int = 0
    unpaced: int = 0
    in_flight: int = 0
    waiting: int = 0
    bound: bool = False
    unused_requests: float = 0.0
    unused_tokens: float = 0.0
    next_tokens: int = 0
    replies: dict[int, Replies] = field(default_factory=dict)
    requests_left: Allowance | None = None
    tokens_left: Allowance | None = None
    pause_until: float = 0.0


class Sent(NamedTuple):
    """A request that was admitted.

    Attributes:
        tokens: What it is thought to take.
    """

    era: int
    tokens: int
    at: float


class Account:
    """What one process did under its lease.

    Attributes:
        lease: The present one.
        in_flight: Requests now.
        urgent: Whether the others should hear of the last replies at once.
    """

    __slots__ = (
        "_bound",
        "_headers",
        "_pause_until",
        "_replies",
        "_requests",
        "_sent",
        "_tokens",
        "in_flight",
        "lease",
        "urgent",
    )

    def __init__(self) -> None:
        self.in_flight = 0
        self.renew(Lease())

    def renew(self, lease: Lease) -> None:
        """Go on under a new lease, all told of the old one."""
        self.lease = lease
        self._requests, self._tokens = lease.requests, lease.tokens
        self._sent = 0
        self._bound = self.urgent = False
        self._replies: dict[int, Replies] = {}
        self._headers: Mapping[str, str] | None = None
        self._pause_until = 0.0

    def admit(self, tokens: int, now: float) -> Sent | None:
        """Count a request as sent, if it may be."""
        lease = self.lease
        if self._requests < 1 or self._tokens <= 0 or now >= lease.until:
            return None
        if self.in_flight >= lease.slots:
            self._bound = True
            return None
        self.in_flight += 1
        self._sent += 1
        self._requests -= 1
        self._tokens -= tokens
        return Sent(lease.era, tokens, now)

    def take_back(self, sent: Sent) -> None:
        """A request that was admitted is not sent after all."""
        self.in_flight -= 1
        self._sent -= 1
        self._requests += 1
        self._tokens += sent.tokens

    def settle(self, outcome: Outcome, sent: Sent, now: float) -> None:
        """A request is done."""
        self.in_flight -= 1
        kind, headers, era = outcome.kind, outcome.headers, sent.era
        if outcome.tokens is not None:
            self._tokens -= outcome.tokens - sent.tokens
        if headers is not None:
            self._headers = headers
        elif kind == "other" and outcome.status is None:
            return
        replies = self._replies.get(era)
        if replies is None:
            replies = self._replies[era] = Replies()
        if kind == "answered":
            replies.answered += 1
            replies.failures = 0
        elif kind == "other":
            replies.other += 1
        else:
            self._trouble(kind, replies, sent, now)
            if headers is not None and (seconds := retry_after(headers)):
                self._pause_until = max(self._pause_until, now + seconds)
                self.urgent |= now + seconds > self.lease.paused_until + LEASE_SECONDS

    def may_ask(self, now: float) -> bool:
        """Whether a request that was not admitted should ask for a new lease at once."""
        return now >= self.lease.until or (self.lease.room and self._requests >= 1 and self._tokens > 0)

    def ask_at(self, waiting: int) -> float | None:
        """When to ask again, whatever comes; None when there is nothing to tell or to ask for.

        Args:
            waiting: Requests that want to go.
        """
        lease = self.lease
        if waiting:
            return lease.again
        if self._sent or self._replies or lease.slots > self.in_flight:
            return lease.until
        return lease.until + _QUIET_SECONDS if self.in_flight else None

    def report(self, waiting: int, next_tokens: int) -> Report:
        """What to tell at the end of the lease.

        Args:
            waiting: Requests that want to go.
            next_tokens: Of the first of them.
        """
        headers = self._headers
        return Report(
            era=self.lease.era,
            sent=self._sent,
            unpaced=self._sent if self.lease.requests == inf else 0,
            in_flight=self.in_flight,
            waiting=waiting,
            bound=self._bound,
            unused_requests=self._requests if self.lease.requests < inf else 0.0,
            unused_tokens=self._tokens if self.lease.tokens < inf else 0.0,
            next_tokens=next_tokens,
            replies=self._replies,
            requests_left=allowance(headers, "requests") if headers is not None else None,
            tokens_left=allowance(headers, "tokens") if headers is not None else None,
            pause_until=self._pause_until,
        )

    def _trouble(self, kind: str, replies: Replies, sent: Sent, now: float) -> None:
        if kind == "throttled":
            replies.throttled += 1
            replies.refusal_seconds += now - sent.at
            self.urgent |= self.lease.on_watch and sent.era == self.lease.era
            return
        if kind == "overloaded":
            replies.overloaded += 1
        else:
            replies.broken += 1
        replies.failures += 1
        self.urgent |= replies.failures == TROUBLE and not self.lease.interrupted
