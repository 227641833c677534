"""The circuit breaker: when nothing is answered any more, single probes with growing pauses take the place of requests.

An outage of a minute then costs a handful of tries, not one for each record that waits.
"""

from __future__ import annotations

from dataclasses import dataclass

TROUBLE = 8
"""Failures without an answer between them that open the circuit."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 15.0


@dataclass(slots=True)
class Circuit:
    """The breaker of one endpoint and model.

    Attributes:
        failures: Since the last answer.
        failing_since: When the first of them came, refusals included; None after an answer.
        pause: Between probes; 0 while the circuit is closed and requests flow.
        probe_at: When the next probe may go.
        era: Only what was sent from this era on is a probe.
        is_exhausted: Whether it opened because every request was refused for its rate.
    """

    failures: int = 0
    failing_since: float | None = None
    pause: float = 0.0
    probe_at: float = 0.0
    era: int = 0
    is_exhausted: bool = False

    @property
    def is_open(self) -> bool:
        """Whether only probes may go."""
        return self.pause > 0

    def answered(self, *, probe: bool) -> bool:
        """An answer came; whether that closed the circuit.

        Args:
            probe: Whether it was sent in the current era. A server that goes down in good order still answers what it
                had taken in.
        """
        self.failing_since = None
        if self.is_open and not probe:
            return False
        self.failures = 0
        was_open, self.pause, self.is_exhausted = self.is_open, 0.0, False
        return was_open

    def failed(self, count: int, *, probe: bool, now: float) -> bool:
        """So many failed; whether that opened the circuit.

        Args:
            probe: Whether they were sent in the current era.
        """
        self._fails(now)
        if self.is_open:
            self._probe_failed(probe, now)
            return False
        self.failures += count
        if self.failures < TROUBLE:
            return False
        self._open(now)
        return True

    def refused(self, *, probe: bool, now: float) -> None:
        """Requests were refused for their rate. That is no failure, but no answer either."""
        self._fails(now)
        if self.is_open:
            self._probe_failed(probe, now)

    def exhausted(self, now: float) -> None:
        """Every request is refused for its rate: open."""
        self._fails(now)
        self._open(now)
        self.is_exhausted = True

    def probe(self, now: float) -> bool:
        """Whether a probe may go now; it counts as sent."""
        if now < self.probe_at:
            return False
        self.probe_at = now + _LONGEST_PAUSE
        return True

    def _fails(self, now: float) -> None:
        if self.failing_since is None:
            self.failing_since = now

    def _probe_failed(self, probe: bool, now: float) -> None:
        if probe:
            self.pause = min(2 * self.pause, _LONGEST_PAUSE)
            self.probe_at = now + self.pause

    def _open(self, now: float) -> None:
        self.pause, self.probe_at = _FIRST_PAUSE, now + _FIRST_PAUSE
