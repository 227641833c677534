"""A cap on the rate that grows along a cubic, as TCP CUBIC does (RFC 9438).

After a cut it stays a tenth below what was accepted. Once the cut is known to be right it grows: quickly back to what
was accepted, long around it, then ever faster beyond, until the next cut, or until it holds nothing back.
"""

from __future__ import annotations

from dataclasses import dataclass

_HEADROOM = 0.1
_SHORTEST, _LONGEST = 1.0, 60.0
_PLATEAU_REQUESTS = 300.0
_LIFT = 4.0
_SAME = 1.33
_LOWEST = 0.1


@dataclass(slots=True)
class Cap:
    """The cap of one endpoint and model; all rates are requests a second.

    Attributes:
        reference: What was accepted when the rate was cut last; None without a cap.
        growing: Whether the last cut is known to be right.
        since: Since when it grows.
        plateau: Seconds from there until it is again what was accepted; longer with each reference that confirms the
            one before.
        good: The last reference that proved right.
    """

    reference: float | None = None
    growing: bool = True
    since: float = 0.0
    plateau: float = _SHORTEST
    good: float | None = None

    def rate(self, now: float) -> float | None:
        """The highest rate; None without a cap."""
        if self.reference is None:
            return None
        passed = max(now - self.since, 0.0) if self.growing else 0.0
        return self.reference * (1 + _HEADROOM * ((passed - self.plateau) / self.plateau) ** 3)

    @property
    def confirmed(self) -> bool:
        """Whether two references in a row were about the same."""
        return self.plateau > _SHORTEST

    def cut(self, rate: float) -> None:
        """Stay below what is accepted."""
        self.reference, self.growing = max(rate, _LOWEST), False

    def keep(self, now: float) -> None:
        """The cut was right: grow from here."""
        rate = self.reference or _LOWEST
        same = self.good is not None and 1 / _SAME < rate / self.good < _SAME
        longest = min(max(_PLATEAU_REQUESTS / rate, 5.0), _LONGEST)
        self.plateau = min(2 * self.plateau, longest) if same else _SHORTEST
        self.good, self.growing, self.since = rate, True, now

    def set(self, rate: float | None, since: float, plateau: float = _SHORTEST / 2) -> None:
        """Grow from a rate, where there is one, from a time on."""
        self.reference, self.growing, self.since = rate, True, since
        self.plateau = min(max(plateau, _SHORTEST / 2), _LONGEST)

    def lift(self, sent_rate: float, now: float) -> bool:
        """Take the cap away if it has grown and holds nothing back; whether it did."""
        rate = self.rate(now)
        if self.reference is None or rate is None or rate <= _LIFT * self.reference or sent_rate >= rate / 2:
            return False
        self.reference = self.good = None
        return True
