"""The belief that a share of requests is refused whatever the rate, for as long as it holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

_FIRST_BELIEF, _LONGEST_BELIEF = 8.0, 16.0
_FIRST_DISPROOF, _LONGEST_DISPROOF = 8.0, 60.0
_FEWEST = 32
_NOISE = 4.0
"""Standard errors by which refusals may differ from what is expected."""
_CONTRADICTED = 0.5
"""Of the share that should be accepted: with less the belief is wrong."""


@dataclass(slots=True)
class Background:
    """What is believed of one endpoint and model.

    Attributes:
        share: Refused whatever the rate; 0 when nothing is believed.
        until: When that is to be doubted.
        seconds: How long the next belief holds.
        disproved_until: Up to when it is not believed again, because it was wrong.
        disproof: Seconds that this lasts the next time.
    """

    share: float = 0.0
    until: float = 0.0
    seconds: float = _FIRST_BELIEF
    disproved_until: float = 0.0
    disproof: float = _FIRST_DISPROOF

    def believe(self, share: float, now: float) -> None:
        """Believe it for a while."""
        self.share, self.until = share, now + self.seconds
        self.seconds = min(2 * self.seconds, _LONGEST_BELIEF)

    def drop(self) -> None:
        """Believe nothing."""
        self.share = 0.0

    def explains(self, replies: float, refused: int) -> Literal[True, False, None]:
        """Whether the belief explains what is seen; None where too little is. One that is too high is lowered."""
        if replies < _FEWEST:
            return None
        expected = replies * self.share
        noise = _NOISE * (expected * (1 - self.share)) ** 0.5
        accepted = 1 - refused / replies
        if refused > expected + noise and accepted <= _CONTRADICTED * (1 - self.share):
            return False
        if refused < expected - noise:
            self.share = 1 - accepted
        return True

    def disprove(self, now: float) -> None:
        """Sending more raised the refused share: it was a limit after all."""
        self.share = 0.0
        self.disproved_until = now + self.disproof
        self.disproof = min(2 * self.disproof, _LONGEST_DISPROOF)

    def forget_doubts(self) -> None:
        """A limit was found: the next belief is a new one."""
        self.seconds = _FIRST_BELIEF
