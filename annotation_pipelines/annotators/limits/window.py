"""How many requests may be in flight: additive increase, multiplicative decrease, after a slow start (RFC 5681)."""

from __future__ import annotations

from dataclasses import dataclass

START = 16
_NOISE = 0.05
"""The share of timeouts and 5xx that says nothing: a few requests are always slow."""


@dataclass(slots=True)
class Window:
    """The window of one endpoint and model.

    Attributes:
        size: Requests in flight.
        doubling: Whether it still doubles with each round of answers: until the first trouble.
        era: What was sent before this era belongs to a burst that was already answered by a decrease.
        fine, overloaded: Replies since then, older ones fading.
    """

    size: float = START
    doubling: bool = True
    era: int = 0
    fine: float = 0.0
    overloaded: float = 0.0

    def observe(self, fine: int, overloaded: int, *, bound: bool, maximum: int) -> bool:
        """Take in replies to requests of this era; whether the window shrank.

        Args:
            bound: Whether the window held requests back. One that did not is not shown to be too small.
        """
        self.size = min(self.size, maximum)
        self.fine += fine
        self.overloaded += overloaded
        total = self.fine + self.overloaded
        if overloaded and self.overloaded > _NOISE * total:
            self.size = max(1.0, self.size * (0.5 if self.doubling else 0.7))
            self.doubling = False
            self.fine = self.overloaded = 0.0
            return True
        if bound and fine:
            self.size = min(float(maximum), self.size + (fine if self.doubling else fine / self.size))
        if total > 4 * self.size:
            self.fine, self.overloaded = self.fine / 2, self.overloaded / 2
        return False

    def restart(self, maximum: int) -> None:
        """After an outage: from the start, so that a server that comes back is not met by everything at once."""
        self.size, self.doubling = float(min(START, maximum, max(1.0, self.size))), True
        self.fine = self.overloaded = 0.0
