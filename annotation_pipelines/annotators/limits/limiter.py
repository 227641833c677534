"""One endpoint and model: what the processes of this machine may send together. A pure state machine.

`exchange` takes what one process did since it last asked, and gives it a lease for the next 50 ms. Four things decide:
how many requests may be in flight (`window`), how many a minute are allowed (`pace`), what refusals tell of that
(`refusals`), and whether anything is answered at all (`circuit`). Slots and rates are shared fairly.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import floor, inf
from typing import NamedTuple

from annotation_pipelines.annotators.limits.circuit import Circuit
from annotation_pipelines.annotators.limits.lease import LEASE_SECONDS, Lease, Replies, Report
from annotation_pipelines.annotators.limits.refusals import Refusals
from annotation_pipelines.annotators.limits.shares import fair_shares
from annotation_pipelines.annotators.limits.state import Member, State
from annotation_pipelines.annotators.limits.window import Window

_FORGET_SECONDS = 600.0
_SILENT_SECONDS = 1.0
_SHORTEST_WAIT, _LONGEST_WAIT = 0.025, 0.25
_HEADROOM = 4
_MOST_OWED_SECONDS = 5.0
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


class _Amount(NamedTuple):
    """Requests and tokens to send, and where there are none when to ask again."""

    requests: float = inf
    tokens: float = inf
    ready: float = 0.0


def exchange(state: State, name: str, report: Report, terms: Terms, now: float) -> Lease:
    """Take in what a process did and give it a new lease.

    Args:
        name: Of the process.
        now: Seconds of the machine's monotonic clock.
    """
    now = max(now, state.at)
    _refresh(state, now)
    me = state.members.setdefault(name, Member())
    me.seen, me.in_flight, me.waiting, me.maximum = now, report.in_flight, report.waiting, terms.maximum
    me.requests_per_minute, me.tokens_per_minute = terms.requests_per_minute, terms.tokens_per_minute
    if report.sent:
        me.served = now
    maximum = min(member.maximum for member in state.members.values())
    _settle_accounts(state, report, now)
    _learn(state, report, maximum, now)
    return _lease(state, me, report, maximum, now)


def silent(state: State, now: float) -> list[str]:
    """Processes that have not asked for a while: they may be dead."""
    return [name for name, member in state.members.items() if now - member.seen > _SILENT_SECONDS]


def leave(state: State, name: str) -> None:
    """A process ended: what it held is free again."""
    state.members.pop(name, None)


def _refresh(state: State, now: float) -> None:
    """After a long time without requests only the endpoint's own words still hold."""
    if now - state.at > _FORGET_SECONDS:
        era = state.next_era()
        state.window, state.refusals, state.circuit = Window(era=era), Refusals(era=era), Circuit(era=era)
    state.at = now


def _settle_accounts(state: State, report: Report, now: float) -> None:
    """Give back what was not used, and hear what the endpoint says of what is left."""
    for pace, unused in ((state.requests, report.unused_requests), (state.tokens, report.unused_tokens)):
        if pace.rate and unused:
            pace.take(-unused, now)
    if report.requests_left:
        state.request_quota.tell(report.requests_left, now)
    if report.tokens_left:
        state.token_quota.tell(report.tokens_left, now)


def _learn(state: State, report: Report, maximum: int, now: float) -> None:
    window, refusals = state.window, state.refusals
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
        window.era = state.next_era()
    if report.pause_until > state.paused_until:
        state.paused_until = report.pause_until
        if report.pause_until - now > _LONG_PAUSE:
            refusals.resume(now, report.pause_until)
            refusals.era = state.next_era()
            return
    if state.circuit.is_open:
        refusals.suspend(accepted, now)
        return
    sent = report.sent if report.era >= refusals.era else 0
    verdict = refusals.observe(sent, accepted, refused, refusal_seconds / max(refused, 1), now)
    if verdict == "exhausted":
        state.circuit.exhausted(now)
        state.circuit.era = state.next_era()
    elif verdict == "changed":
        refusals.era = state.next_era()


def _break_or_mend(state: State, era: int, replies: Replies, maximum: int, now: float) -> None:
    circuit = state.circuit
    probe = era >= circuit.era
    if replies.throttled:
        circuit.refused(probe=probe, now=now)
    if replies.answered or replies.other:
        exhausted = circuit.is_exhausted
        if circuit.answered(probe=probe):
            state.window.restart(maximum)
            state.window.era = state.next_era()
            if exhausted:
                state.refusals.resume(now)
                state.refusals.era = state.era
    if replies.failures and circuit.failed(replies.failures, probe=probe, now=now):
        circuit.era = state.next_era()


def _lease(state: State, me: Member, report: Report, maximum: int, now: float) -> Lease:
    circuit, refusals = state.circuit, state.refusals
    closed_until = max(state.paused_until, refusals.held_until or 0.0)
    slots, room, amount = 0, False, _Amount(requests=0.0, ready=closed_until)
    if now >= closed_until and circuit.is_open:
        amount = _Amount(requests=0.0, ready=circuit.probe_at)
        if me.waiting and _taken(state, besides=me) + me.in_flight < maximum and circuit.probe(now):
            slots, amount = me.in_flight + 1, _Amount(requests=1.0)
    elif now >= closed_until:
        slots, room = _slots(state, me, report, maximum)
        amount = _amount(state, me, report, now)
    again = now + LEASE_SECONDS
    if amount.requests < 1:
        again = min(max(amount.ready, now + _SHORTEST_WAIT), now + _LONGEST_WAIT)
    me.slots = max(slots, me.in_flight)
    return Lease(
        until=now + LEASE_SECONDS,
        era=state.era,
        slots=slots,
        requests=amount.requests,
        tokens=amount.tokens,
        room=room,
        again=again,
        on_watch=refusals.on_watch,
        interrupted=circuit.is_open,
        failing_since=circuit.failing_since,
        paused_until=state.paused_until,
    )


def _taken(state: State, *, besides: Member) -> int:
    return sum(member.slots for member in state.members.values() if member is not besides)


def _slots(state: State, me: Member, report: Report, maximum: int) -> tuple[int, bool]:
    """Slots for a process, and whether more could be had: its fair share, and some to grow into that nobody wants."""
    capacity = int(min(state.window.size, maximum))
    # Who was served least recently comes first: with fewer slots than processes they take turns.
    members = sorted(state.members.values(), key=lambda member: member.served)
    demands = [member.in_flight + member.waiting for member in members]
    left = max(capacity - sum(demands), 0)
    shares = fair_shares(demands, capacity)
    share = next(share for share, member in zip(shares, members, strict=True) if member is me)
    if report.sent or report.waiting:
        share += min(max(_HEADROOM, me.in_flight + me.waiting), left)
    free = capacity - _taken(state, besides=me)
    slots = max(min(share, free), 0)
    return slots, slots < free and left > 0


def _amount(state: State, me: Member, report: Report, now: float) -> _Amount:
    """What a process may send: its share of what the paces allow now."""
    active = [m for m in state.members.values() if m.waiting or m.in_flight or m is me]
    ahead = sum(m.waiting > 0 and m.served < me.served for m in active)
    quota = state.request_quota.rate(_least(m.requests_per_minute for m in active), now)
    _count_unpaced(state, report, quota, now)
    cap = state.refusals.cap.rate(now)
    rate = quota if cap is None else cap if quota is None else min(quota, cap)
    token_rate = state.token_quota.rate(_least(m.tokens_per_minute for m in active), now)
    state.requests.at(rate, now)
    state.tokens.at(token_rate, now)
    requests = tokens = inf
    if rate is not None:
        available = state.requests.available(now)
        whole = floor(available) + 1 if available >= 0 else 0
        requests = float(max(whole // len(active), min(whole, 1)))
        if requests < 1:
            return _Amount(requests=0.0, ready=state.requests.ready(ahead))
    if token_rate is not None:
        available = max(state.tokens.available(now), 0.0)
        tokens = min(available, max(available / len(active), report.next_tokens))
        if tokens <= 0:
            return _Amount(requests=0.0, ready=state.tokens.ready(ahead * report.next_tokens))
        state.tokens.take(tokens, now)
    if rate is not None:
        state.requests.take(requests, now)
    if rate is not None or token_rate is not None:
        me.served = now
    return _Amount(requests, tokens)


def _count_unpaced(state: State, report: Report, quota: float | None, now: float) -> None:
    """Remember what was sent before the limit was known, or owe it now that it is."""
    if quota is None:
        if now - state.unpaced_since > 60:
            state.unpaced, state.unpaced_since = 0, now
        state.unpaced += report.sent
        return
    if state.unpaced:
        state.requests.at(quota, now)
        owed = state.unpaced_since + state.unpaced / quota
        state.requests.due = max(state.requests.due, min(owed, now + _MOST_OWED_SECONDS))
        state.unpaced = 0
    if report.unpaced:  # under a lease from before
        state.requests.at(quota, now)
        state.requests.take(report.unpaced, now)


def _least(declared: Iterable[int | None]) -> int | None:
    return min((value for value in declared if value), default=None)
