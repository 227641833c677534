"""What was sent and what became of it, over the last seconds and over the last minute and a half."""

from __future__ import annotations

from dataclasses import dataclass, field

_REPORTED = 0.05
"""Seconds after which processes report what they saw."""
SLICES = 18
_SLICE = 5.0


@dataclass(slots=True)
class Counts:
    """Requests that were sent since a time, and the replies to them.

    Attributes:
        start: The time.
    """

    start: float = 0.0
    sent: int = 0
    accepted: int = 0
    refused: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            min(self.start, other.start),
            self.sent + other.sent,
            self.accepted + other.accepted,
            self.refused + other.refused,
        )

    @property
    def replies(self) -> int:
        """How many came."""
        return self.accepted + self.refused

    def settled(self, until: float, now: float, lag: float) -> float:
        """How many requests are known to be accepted or refused.

        Servers are quick to refuse and slow to answer: what was not refused in the time that refusals take is accepted.

        Args:
            until: When sending ended.
            lag: Seconds from a request to its refusal.
        """
        share = (now - lag - _REPORTED - self.start) / max(until - self.start, 0.001)
        return max(self.sent * min(share, 1.0), float(self.replies))


@dataclass(slots=True)
class LongRun:
    """Answers of the last 90 seconds.

    Attributes:
        last: Number of the last slice of five seconds.
        slices: Answers in each, the last one last.
    """

    last: int = 0
    slices: list[int] = field(default_factory=lambda: [0] * SLICES)

    def add(self, answers: int, now: float) -> None:
        """Count answers."""
        new = min(max(int(now // _SLICE) - self.last, 0), SLICES)
        if new:
            self.slices = self.slices[new:] + [0] * new
            self.last = int(now // _SLICE)
        self.slices[-1] += answers

    def average(self, until: float) -> tuple[float, float] | None:
        """Answers a second, and over how many seconds; None where there are too few to say.

        Args:
            until: Up to when; no earlier than the last answer.
        """
        first = next((number for number, answers in enumerate(self.slices) if answers), None)
        if first is None or sum(self.slices) < 5:
            return None
        seconds = max(until - (self.last - (SLICES - 1) + first) * _SLICE, _SLICE)
        return sum(self.slices) / seconds, seconds
