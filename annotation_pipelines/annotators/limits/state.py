"""What is known of one endpoint and model, and who sends to it: the limiter's state, and its form as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from annotation_pipelines.annotators.limits.background import Background
from annotation_pipelines.annotators.limits.cap import Cap
from annotation_pipelines.annotators.limits.circuit import Circuit
from annotation_pipelines.annotators.limits.counts import SLICES, Counts, LongRun
from annotation_pipelines.annotators.limits.explanations import Trial
from annotation_pipelines.annotators.limits.pace import Pace, Quota
from annotation_pipelines.annotators.limits.refusals import Refusals
from annotation_pipelines.annotators.limits.window import Window

_VERSION = 2
_CLOCK_SECONDS = 10.0


@dataclass(slots=True)
class Member:
    """A process that sends, or wants to.

    Attributes:
        seen: When it last asked.
        slots: Its lease's, or what it has in flight where that is more.
        served: When it last got something to send.
        maximum, requests_per_minute, tokens_per_minute: What it declares.
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
    """One endpoint and model.

    Attributes:
        at: When it last changed; seconds of the machine's monotonic clock, as all times.
        era: Counts up when the rules change: what was sent before says nothing of them.
        paused_until: Up to when the endpoint asked to send nothing.
        unpaced, unpaced_since: Requests sent since a time while no limit was known; they count once one is.
        members: The processes, by name.
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

    def next_era(self) -> int:
        """Begin an era."""
        self.era += 1
        return self.era


def load(document: Mapping[str, Any], now: float) -> State:
    """The state in a document; a new one where there is none, or none that can be read."""
    try:
        # The machine's clock starts anew with the machine; the processes' readings differ by what they wait in turn.
        if document["version"] != _VERSION or document["at"] > now + _CLOCK_SECONDS:
            return State(now)
        state: State = _unpack(State, document["state"])
    except (KeyError, TypeError, ValueError, AttributeError):
        return State(now)
    return state


def dump(state: State) -> dict[str, Any]:
    """The state as a document for JSON."""
    return {"version": _VERSION, "at": state.at, "state": _pack(state)}


def _pack(part: Any) -> list[Any]:
    values = []
    for name, _ in _FIELDS[type(part)]:
        value = getattr(part, name)
        if name in _PARTS:
            value = _pack(value)
        elif name == "members":
            value = {process: _pack(member) for process, member in value.items()}
        values.append(value)
    return values


def _unpack(kind: Any, values: list[Any]) -> Any:
    expected = _FIELDS[kind]
    if len(expected) != len(values):
        raise ValueError
    return kind(
        *[_unpack_value(name, optional, value) for (name, optional), value in zip(expected, values, strict=True)]
    )


def _unpack_value(name: str, optional: bool, value: Any) -> Any:
    if name in _PARTS:
        return _unpack(_PARTS[name], value)
    if name == "members":
        return {process: _unpack(Member, member) for process, member in value.items()}
    if name == "trials":
        return [Trial(*map(_number, trial)) for trial in value]
    if name == "slices":
        if len(value) != SLICES:
            raise ValueError
        return [_number(answers) for answers in value]
    return None if optional and value is None else _number(value)


def _number(value: Any) -> Any:
    if not isinstance(value, int | float):
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
_FIELDS = {
    kind: tuple((part.name, "None" in str(part.type)) for part in fields(kind))
    for kind in {State, Member, *_PARTS.values()}
}
