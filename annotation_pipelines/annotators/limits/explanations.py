"""Why requests are refused: more are sent than a limit allows, or some are shed at random. Pure functions.

What is seen is a few trials: at so many requests a second, so many of so many were refused. A limit accepts the same
number a second at any rate above it, and all below it; random shedding accepts the same share at any rate. The two are
weighed by their likelihood, as in a sequential probability ratio test (Wald 1945): stop as soon as one is clear.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log, sqrt
from typing import NamedTuple

_CHANCE = 0.005
"""The share that is refused below a limit nevertheless: requests bunch up on their way."""
STRAY = 0.02
"""The share of refusals that says nothing."""
_CERTAIN = 2.5


class Trial(NamedTuple):
    """What was seen at one rate.

    Attributes:
        rate: Requests a second.
        refused: Of the replies.
    """

    rate: float
    replies: float
    refused: int


def odds_of_shedding(trials: Sequence[Trial]) -> float:
    """The logarithm of how much likelier random shedding makes the trials than a limit does."""
    replies, refused = _total(trials)
    shedding = _likelihood(replies, refused, refused / replies if replies else 0.0)
    limits = [trial.rate * (1 - trial.refused / trial.replies) for trial in trials if trial.replies]
    limits += [trial.rate for trial in trials]
    limited = max((_limited(trials, limit) for limit in limits), default=0.0)
    return shedding - limited


def refused_share(trials: Sequence[Trial]) -> float:
    """Refused in all the trials together."""
    replies, refused = _total(trials)
    return refused / replies if replies else 0.0


def after_burst(trials: Sequence[Trial], latest: Trial) -> bool:
    """Whether the accepted share is lower than in the trials before, by more than chance.

    Neither a limit nor shedding explains that a lower rate is refused more: a burst was accepted before, and is over.
    """
    before, before_refused = _total(trials)
    if not before or not latest.replies:
        return False
    pooled = (before_refused + latest.refused) / (before + latest.replies)
    error = sqrt(pooled * (1 - pooled) * (1 / before + 1 / latest.replies))
    return latest.refused / latest.replies - before_refused / before > _CERTAIN * error


def more_than_strays(refused: int, replies: float) -> bool:
    """Whether refusals are more than those that say nothing, by a standard error."""
    strays = STRAY * replies
    return refused > strays + sqrt(strays)


def _total(trials: Sequence[Trial]) -> tuple[float, int]:
    return sum(trial.replies for trial in trials), sum(trial.refused for trial in trials)


def _limited(trials: Sequence[Trial], limit: float) -> float:
    return sum(_likelihood(trial.replies, trial.refused, max(1 - limit / trial.rate, _CHANCE)) for trial in trials)


def _likelihood(replies: float, refused: int, share: float) -> float:
    share = min(max(share, 0.0001), 0.9999)
    return refused * log(share) + (replies - refused) * log(1 - share)
