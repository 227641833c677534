"""One endpoint and model: what the processes of this machine may send together. A pure state machine.

`exchange` takes what one process did since it last asked, and gives it a lease for the next 50 ms. All state is in
`State`, which is kept as JSON between exchanges. Times are seconds of the machine's monotonic clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from math import floor, inf
from typing import Any

from annotation_pipelines.annotators.limits.background import Background
from annotation_pipelines.annotators.limits.cap import Cap
from annotation_pipelines.annotators.limits.circuit import Circuit
from annotation_pipelines.annotators.limits.counts import Counts, LongRun
from annotation_pipelines.annotators.limits.explanations import Trial
from annotation_pipelines.annotators.limits.lease import LEASE_SECONDS, Lease, Replies, Report
from annotation_pipelines.annotators.limits.pace import Pace, Quota
from annotation_pipelines.annotators.limits.refusals import Refusals
from annotation_pipelines.annotators.limits.shares import fair_shares
from annotation_pipelines.annotators.limits.window import Window

_VERSION = 1
_FORGET_SECONDS = 600.0
_SILENT_SECONDS = 1.0
_SHORTEST_WAIT, _LONGEST_WAIT = 0.025, 0.25
_MOST_OWED = 5.0
_LONG_PAUSE = 5.0
"""Seconds of Retry-After from which on it is a quota that is used up, not a bucket that fills again at once."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a process declares.

    Attributes:
        maximum: The most requests in flight, of all processes together.
        requests_per_minute, tokens_per_minute: None where unknown.
    """

    maximum: int
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None


@dataclass(slots=True)
class Member:
    """A process that sends, or wants to.

    Attributes:
        seen: When it last asked.
        slots: Its lease's, or what it has in flight where that is more.
        served: When it last got something to send.
        maximum, requests_per_minute, tokens_per_minute: Its terms.
    """

    seen: float = 0.0
    slots: int = 0
    in_flight: int = 0
    waiting: int = 0
    served: float = 0.0
    maximum: int = 1
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None


@dataclass(slots=True)
class State:
    """What is known of one endpoint and model, and who sends to it.

    Attributes:
        at: When it last changed.
        era: Counts up when the rules change: what was sent before says nothing of them.
        paused_until: Up to when the endpoint asked to send nothing.
        unpaced, unpaced_since: Requests sent since a time while no limit was known; they count once one is.
    """

    at: float
    era: int = 0
    paused_until: float = 0.0
    unpaced: int = 0
    unpaced_since: float = 0.0
    window: Window = field(default_factory=Window)
    refusals: Refusals = field(default_factory=Refusals)
    circuit: Circuit = field(default_factory=Circuit)
    requests: Pace = field(default_factory=Pace)
    tokens: Pace = field(default_factory=Pace)
    request_quota: Quota = field(default_factory=Quota)
    token_quota: Quota = field(default_factory=Quota)
    members: dict[str, Member] = field(default_factory=dict)


def exchange(state: State, name: str, report: Report, terms: Terms, now: float) -> Lease:
    """Take in what a process did and give it a new lease.

    Args:
        name: Of the process.
    """
    _refresh(state, now)
    me = state.members.setdefault(name, Member())
    me.seen, me.in_flight, me.waiting = now, report.in_flight, report.waiting
    me.maximum, me.requests_per_minute, me.tokens_per_minute = (
        terms.maximum,
        terms.requests_per_minute,
        terms.tokens_per_minute,
    )
    if report.sent:
        me.served = now
    maximum = min(member.maximum for member in state.members.values())
    _give_back(state, report, now)
    _hear(state, report, now)
    _learn(state, report, maximum, now)
    return _lease(state, me, report, maximum, now)


def silent(state: State, now: float) -> list[str]:
    """Processes that hold something and have not asked for a while: they may be dead."""
    return [name for name, member in state.members.items() if now - member.seen > _SILENT_SECONDS]


def leave(state: State, name: str) -> None:
    """A process ended: what it held is free again."""
    state.members.pop(name, None)


def load(document: Mapping[str, Any], now: float) -> State:
    """The state in a document; a new one where there is none, or none that can be read."""
    try:
        if document["version"] != _VERSION or document["at"] > now:  # the machine's clock starts anew with it
            return State(now)
        state: State = _unpack(State, document["state"])
    except (KeyError, TypeError, ValueError, AttributeError):
        return State(now)
    return state


def dump(state: State) -> dict[str, Any]:
    """The state as a JSON-able document."""
    return {"version": _VERSION, "at": state.at, "state": _pack(state)}


def _refresh(state: State, now: float) -> None:
    """After a long time without requests only the endpoint's own words still hold."""
    if now - state.at > _FORGET_SECONDS:
        state.era += 1
        state.window, state.refusals, state.circuit = Window(), Refusals(), Circuit()
        _begin_era(state)
    state.at = now


def _begin_era(state: State) -> None:
    state.refusals.era = state.era


def _give_back(state: State, report: Report, now: float) -> None:
    for pace, unused in ((state.requests, report.unused_requests), (state.tokens, report.unused_tokens)):
        if pace.rate and unused:
            pace.take(-unused, now)


def _hear(state: State, report: Report, now: float) -> None:
    if report.requests_left:
        state.request_quota.tell(report.requests_left, now)
    if report.tokens_left:
        state.token_quota.tell(report.tokens_left, now)


def _learn(state: State, report: Report, maximum: int, now: float) -> None:
    window, refusals, circuit = state.window, state.refusals, state.circuit
    fine = overloaded = accepted = refused = 0
    refusal_seconds = 0.0
    for era, replies in report.replies.items():
        if era >= window.era:
            fine += replies.answered
            overloaded += replies.overloaded
        if era >= refusals.era:
            accepted += replies.answered + replies.other
            refused += replies.throttled
            refusal_seconds += replies.refusal_seconds
        _break_or_mend(state, era, replies, maximum, now)
    if window.observe(fine, overloaded, bound=report.bound, maximum=maximum):
        state.era += 1
        window.era = state.era
    sent = report.sent if report.era >= refusals.era else 0
    if circuit.is_open:
        refusals.suspend(accepted, now)
        return
    verdict = refusals.observe(sent, accepted, refused, refusal_seconds / max(refused, 1), now)
    if verdict == "exhausted":
        circuit.exhausted(now)
        state.era += 1
        circuit.era = state.era
    elif verdict == "changed":
        state.era += 1
        refusals.era = state.era
    if report.pause_until > state.paused_until:
        state.paused_until = report.pause_until
        if report.pause_until - now > _LONG_PAUSE:
            refusals.resume(now, report.pause_until)
            state.era += 1
            refusals.era = state.era


def _break_or_mend(state: State, era: int, replies: Replies, maximum: int, now: float) -> None:
    circuit = state.circuit
    probe = era >= circuit.era
    if replies.throttled:
        circuit.refuse(now)
        if circuit.is_open and probe:
            circuit.failed(0, probe=True, now=now)
    if replies.answered or replies.other:
        refused = circuit.refused
        if circuit.answered(probe=probe):
            state.era += 1
            state.window.restart(maximum)
            state.window.era = state.era
            if refused:
                state.refusals.resume(now)
                state.refusals.era = state.era
    if replies.failures and circuit.failed(replies.failures, probe=probe, now=now):
        state.era += 1
        circuit.era = state.era


def _lease(state: State, me: Member, report: Report, maximum: int, now: float) -> Lease:
    circuit, refusals = state.circuit, state.refusals
    closed_until = max(state.paused_until, refusals.held_until or 0.0)
    slots, requests, tokens, room = 0, inf, inf, False
    again = now + LEASE_SECONDS
    if now < closed_until:
        requests, again = 0.0, min(closed_until, now + _LONGEST_WAIT)
    elif circuit.is_open:
        if me.waiting and circuit.probe(now):
            slots, requests = me.in_flight + 1, 1.0
        else:
            requests, again = 0.0, min(max(circuit.probe_at, now + _SHORTEST_WAIT), now + _LONGEST_WAIT)
    else:
        slots, room = _slots(state, me, report, maximum)
        requests, tokens, ready = _amounts(state, me, report, now)
        if requests < 1 or tokens <= 0:
            again = min(max(ready, now + _SHORTEST_WAIT), now + _LONGEST_WAIT)
    me.slots = max(slots, me.in_flight)
    return Lease(
        until=now + LEASE_SECONDS,
        era=state.era,
        slots=slots,
        requests=requests,
        tokens=tokens,
        room=room,
        again=again,
        on_watch=refusals.on_watch,
        interrupted=circuit.is_open,
        failing_since=circuit.failing_since,
        paused_until=state.paused_until,
    )


def _slots(state: State, me: Member, report: Report, maximum: int) -> tuple[int, bool]:
    """Slots for a process: its fair share, and some to grow into where nobody else wants them."""
    capacity = int(min(state.window.size, maximum))
    # Who was served least recently comes first: with fewer slots than processes they take turns.
    members = sorted(state.members.values(), key=lambda member: member.served)
    demands = [member.in_flight + member.waiting for member in members]
    share = next(n for n, member in zip(fair_shares(demands, capacity), members, strict=True) if member is me)
    free = capacity - sum(member.slots for member in members if member is not me)
    if report.sent or report.waiting:
        share += min(max(4, me.in_flight + me.waiting), max(capacity - sum(demands), 0))
    slots = max(min(share, free), 0)
    return slots, slots < free and sum(demands) < capacity


def _amounts(state: State, me: Member, report: Report, now: float) -> tuple[float, float, float]:
    """Requests and tokens that a process may send, and when there will be some again."""
    active = [m for m in state.members.values() if m.waiting or m.in_flight or m is me]
    ahead = sum(m.waiting > 0 and m.served < me.served for m in active)
    declared = [m.requests_per_minute for m in active if m.requests_per_minute]
    rates = [state.request_quota.rate(min(declared, default=None), now), state.refusals.cap.rate(now)]
    rate = min((r for r in rates if r is not None), default=None)
    declared = [m.tokens_per_minute for m in active if m.tokens_per_minute]
    token_rate = state.token_quota.rate(min(declared, default=None), now)
    requests = tokens = inf
    ready = now
    _count_unpaced(state, report.sent, rates[0], now)
    if rate is not None:
        pace = state.requests
        pace.at(rate, now)
        available = floor(pace.available(now)) + 1 if pace.available(now) >= 0 else 0
        requests = float(max(available // len(active), min(available, 1)))
        ready = pace.ready(ahead)
    else:
        state.requests.rate = 0.0
    if token_rate is not None and requests >= 1:
        pace = state.tokens
        pace.at(token_rate, now)
        available_tokens = max(pace.available(now), 0.0)
        tokens = min(available_tokens, max(available_tokens / len(active), report.next_tokens))
        ready = max(ready, pace.ready(ahead * report.next_tokens))
        if tokens > 0:
            pace.take(tokens, now)
        else:
            requests = 0.0
    elif token_rate is None:
        state.tokens.rate = 0.0
    if rate is not None and requests >= 1:
        state.requests.take(requests, now)
        me.served = now
    return requests, tokens, ready


def _count_unpaced(state: State, sent: int, quota: float | None, now: float) -> None:
    """Remember what was sent before the limit was known, or owe it now that it is."""
    if quota is None:
        if now - state.unpaced_since > 60:
            state.unpaced, state.unpaced_since = 0, now
        state.unpaced += sent
    elif state.unpaced:
        state.requests.at(quota, now)
        owed = state.unpaced_since + state.unpaced / quota
        state.requests.due = max(state.requests.due, min(owed, now + _MOST_OWED))
        state.unpaced = 0


def _pack(part: Any) -> list[Any]:
    return [
        _pack(value) if name in _PARTS else {key: _pack(one) for key, one in value.items()} if name in _MANY else value
        for name in _NAMES[type(part)]
        for value in (getattr(part, name),)
    ]


def _unpack(kind: Any, values: list[Any]) -> Any:
    names = _NAMES[kind]
    if len(names) != len(values):
        raise ValueError
    return kind(*[_value(name, value) for name, value in zip(names, values, strict=True)])


def _value(name: str, value: Any) -> Any:
    if name in _PARTS:
        return _unpack(_PARTS[name], value)
    if name in _MANY:
        return {key: _unpack(_MANY[name], one) for key, one in value.items()}
    if name == "trials":
        return [Trial(*trial) for trial in value]
    if value is not None and not isinstance(value, int | float | list):
        raise ValueError
    return value


_PARTS: dict[str, Any] = {
    "window": Window,
    "refusals": Refusals,
    "cap": Cap,
    "background": Background,
    "older": Counts,
    "newer": Counts,
    "long_run": LongRun,
    "circuit": Circuit,
    "requests": Pace,
    "tokens": Pace,
    "request_quota": Quota,
    "token_quota": Quota,
}
_MANY: dict[str, Any] = {"members": Member}
_NAMES = {kind: tuple(f.name for f in fields(kind)) for kind in {State, *_PARTS.values(), *_MANY.values()}}
