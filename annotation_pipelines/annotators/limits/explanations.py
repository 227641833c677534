"""Why requests are refused: more are sent than a limit allows, or some are shed at random. Pure functions.

What is seen is a few trials: at so many requests a second, so many of so many were refused. A limit accepts the same
number a second at any rate above it, and all below it; random shedding accepts the same share at any rate. The two are
weighed by their likelihood, as in a sequential probability ratio test (Wald 1945): stop as soon as one is clear.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log

_CHANCE = 0.005
"""The share that is refused below a limit nevertheless: requests bunch up on their way."""


def odds_of_shedding(trials: Sequence[Sequence[float]]) -> float:
    """The logarithm of how much likelier random shedding makes the trials than a limit does.

    Args:
        trials: Requests a second, replies, and refusals among them, of each.
    """
    replies = sum(trial[1] for trial in trials)
    refused = sum(trial[2] for trial in trials)
    shedding = _likelihood(replies, refused, refused / replies if replies else 0.0)
    limits = [rate * (1 - trial_refused / count) for rate, count, trial_refused in trials if count]
    limits += [rate for rate, count, _ in trials if count]
    limited = max((_limited(trials, limit) for limit in limits), default=0.0)
    return shedding - limited


def fallen(trials: Sequence[Sequence[float]], replies: float, refused: float) -> bool:
    """Whether the accepted share is lower now than in the trials, by more than chance.

    Neither a limit nor shedding explains that a lower rate is refused more: a burst was accepted before, and is over.
    """
    before, before_refused = sum(trial[1] for trial in trials), sum(trial[2] for trial in trials)
    if not before or not replies:
        return False
    pooled = (before_refused + refused) / (before + replies)
    error = (pooled * (1 - pooled) * (1 / before + 1 / replies)) ** 0.5
    return refused / replies - before_refused / before > 2.5 * error


def _limited(trials: Sequence[Sequence[float]], limit: float) -> float:
    return sum(_likelihood(count, refused, max(1 - limit / rate, _CHANCE)) for rate, count, refused in trials)


def _likelihood(count: float, refused: float, share: float) -> float:
    share = min(max(share, 0.0001), 0.9999)
    return refused * log(share) + (count - refused) * log(1 - share)
