"""At most so many a minute, evenly: the generic cell rate algorithm (ITU-T I.371), and the rates it runs at.

What is taken pushes a due time ahead; more may be taken while that is no further ahead than a tenth of a second. So a
minute's worth is never sent in one second, and no window of 60 seconds holds more than the minute's worth.
"""

from __future__ import annotations

from dataclasses import dataclass

from annotation_pipelines.annotators.limits.headers import Allowance

TOLERANCE = 0.1
"""Seconds that sending may run ahead of its pace; also absorbs that processes ask only every 50 ms."""

_MARGIN = 0.995
"""Of a minute's limit: covers the tolerance, the age of a lease and the way to the server."""

_LOW, _FEWEST = 0.05, 0.01
"""Shares of a limit: with less left what remains is spread over the time until it is reset; so much is always taken to
remain, because most limits come back bit by bit."""


@dataclass(slots=True)
class Pace:
    """How far what was taken runs ahead.

    Attributes:
        due: When all that was taken is paid off; seconds.
        rate: The rate it was counted at; 0 without one.
    """

    due: float = 0.0
    rate: float = 0.0

    def at(self, rate: float | None, now: float) -> None:
        """Go on at another rate, or without one: what is owed is owed in units, not in seconds."""
        if not self.rate:
            self.due = now
        elif rate and self.rate != rate:
            self.due = now + (self.due - now) * self.rate / rate
        self.rate = rate or 0.0

    def available(self, now: float) -> float:
        """How much may be taken now, one unit more than this included; negative when it is too early."""
        return (now + TOLERANCE - max(self.due, now)) * self.rate

    def take(self, amount: float, now: float) -> None:
        """Count so much as sent; a negative amount gives back."""
        self.due = max(self.due, now) + amount / self.rate if amount > 0 else self.due + amount / self.rate

    def ready(self, ahead: float = 0.0) -> float:
        """When something may be taken, after others have taken so much."""
        return self.due + ahead / self.rate - TOLERANCE


@dataclass(slots=True)
class Quota:
    """What the endpoint's headers said last.

    Attributes:
        limit: A minute.
        spread: What remained, evenly over the time until it is reset; a second. None while enough remains.
        until: When it is reset.
    """

    limit: float | None = None
    spread: float | None = None
    until: float = 0.0

    def tell(self, said: Allowance, now: float) -> None:
        """Take in what a reply said."""
        self.limit = said.limit or self.limit
        if said.remaining is not None and said.reset:
            limit = self.limit or 0.0
            low = not limit or said.remaining < _LOW * limit
            self.spread = max(said.remaining, _FEWEST * limit, 1.0) / said.reset if low else None
            self.until = now + said.reset

    def rate(self, declared: float | None, now: float) -> float | None:
        """How much to send a second; None where nothing is known.

        Args:
            declared: A minute, as the user says: it goes before the endpoint's limit.
        """
        limit = declared or self.limit
        rates = [limit * _MARGIN / 60] if limit else []
        if self.spread and now < self.until:
            rates.append(self.spread)
        return min(rates, default=None)
