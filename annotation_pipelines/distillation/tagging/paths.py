"""The tags of a text's units, and the sequences of them that make whole entities.

Begin, inside, end, single and outside, as Ratinov and Roth (2009). What a model says of each unit by itself is made
whole by dynamic programming over all texts of one length at once: the best sequence (Viterbi 1967), the sum over all
sequences, and the probability of each tag given that the sequence is whole (Baum et al. 1970).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

OUTSIDE, BEGIN, INSIDE, END, SINGLE = range(5)
TAGS = 5

_NEVER = -1e9
_AT_ONCE = 256
_FOLLOWS = {
    OUTSIDE: (OUTSIDE, BEGIN, SINGLE),
    BEGIN: (INSIDE, END),
    INSIDE: (INSIDE, END),
    END: (OUTSIDE, BEGIN, SINGLE),
    SINGLE: (OUTSIDE, BEGIN, SINGLE),
}
_STEPS = np.array([[0.0 if to in _FOLLOWS[of] else _NEVER for to in range(5)] for of in range(5)])
_FIRST = np.array([0.0, 0.0, _NEVER, _NEVER, 0.0])
_LAST = np.array([0.0, _NEVER, _NEVER, 0.0, 0.0])

Array = NDArray[np.float64]
Tags = NDArray[np.int64]


@dataclass(frozen=True)
class Paths:
    """The best whole sequence of tags of each text.

    Attributes:
        tags: n arrays, each of shape (units,).
        scores: The sum of the log-probabilities of its tags, shape (n,); 0 of a text without units.
    """

    tags: list[Tags]
    scores: Array


def best_paths(odds: Array, lengths: Sequence[int]) -> Paths:
    """The best whole sequence of every text.

    Args:
        odds: The log-probability of each tag for each unit, text after text, shape (units, 5).
        lengths: How many units each text has.
    """
    tags: list[Tags] = [np.zeros(0, dtype=np.int64) for _ in lengths]
    scores = np.zeros(len(lengths))
    for rows, block in _blocks(odds, lengths):
        score = block[:, 0] + _FIRST
        back = np.zeros(block.shape, dtype=np.int64)
        for place in range(1, block.shape[1]):
            steps = score[:, :, None] + _STEPS
            back[:, place] = steps.argmax(axis=1)
            score = steps.max(axis=1) + block[:, place]
        score = score + _LAST
        scores[rows] = score.max(axis=1)
        path = np.zeros(block.shape[:2], dtype=np.int64)
        path[:, -1] = score.argmax(axis=1)
        every = np.arange(len(rows))
        for place in range(block.shape[1] - 1, 0, -1):
            path[:, place - 1] = back[every, place, path[:, place]]
        for row, found in zip(rows, path, strict=True):
            tags[row] = found[: lengths[row]]
    return Paths(tags, scores)


def log_certainty(odds: Array, lengths: Sequence[int], tags: Sequence[Tags]) -> Array:
    """The log-probability of given sequences among all whole ones, shape (n,); very low for one that is not whole."""
    found = np.zeros(len(lengths))
    starts = np.cumsum([0, *lengths])
    for rows, block in _blocks(odds, lengths):
        found[rows] -= _log_sum(_forward(block)[:, -1] + _LAST)
    for row, given in enumerate(tags):
        if len(given):
            found[row] += odds[starts[row] : starts[row + 1]][np.arange(len(given)), given].sum()
            found[row] += _FIRST[given[0]] + _STEPS[given[:-1], given[1:]].sum() + _LAST[given[-1]]
    return np.minimum(found, 0.0)


def marginals(odds: Array, lengths: Sequence[int]) -> Array:
    """The probability of each tag for each unit, given that the sequence is whole: shape (units, 5)."""
    found = np.zeros_like(odds)
    starts = np.cumsum([0, *lengths])
    for rows, block in _blocks(odds, lengths):
        forward = _forward(block)
        behind = np.tile(_LAST, (len(rows), 1))
        backward = np.zeros_like(block)
        backward[:, -1] = behind
        for place in range(block.shape[1] - 2, -1, -1):
            behind = _log_sum(_STEPS + (block[:, place + 1] + behind)[:, None, :])
            backward[:, place] = behind
        both = forward + backward
        both -= both.max(axis=2, keepdims=True)
        shares = np.exp(both)
        shares /= shares.sum(axis=2, keepdims=True)
        for row, share in zip(rows, shares, strict=True):
            found[starts[row] : starts[row + 1]] = share[: lengths[row]]
    return found


def _blocks(odds: Array, lengths: Sequence[int]) -> Iterator[tuple[NDArray[np.int64], Array]]:
    """Texts of about one length: their places, and their odds, shape (texts, units, 5).

    Shorter ones are filled with units that are outside for certain, which changes neither sums nor best sequences.
    """
    starts = np.cumsum([0, *lengths])
    order = np.argsort(np.asarray(lengths, dtype=np.int64), kind="stable")
    order = order[np.asarray(lengths, dtype=np.int64)[order] > 0]
    for first in range(0, len(order), _AT_ONCE):
        rows = order[first : first + _AT_ONCE]
        block = np.full((len(rows), lengths[rows[-1]], TAGS), _NEVER)
        block[:, :, OUTSIDE] = 0.0
        for place, row in enumerate(rows):
            block[place, : lengths[row]] = odds[starts[row] : starts[row + 1]]
        yield rows, block


def _forward(block: Array) -> Array:
    """The log of the sum over all beginnings that end in each tag, at every unit: shape (texts, units, 5)."""
    found = np.zeros_like(block)
    score = block[:, 0] + _FIRST
    found[:, 0] = score
    for place in range(1, block.shape[1]):
        score = _log_sum(np.swapaxes(score[:, :, None] + _STEPS, 1, 2)) + block[:, place]
        found[:, place] = score
    return found


def _log_sum(scores: Array) -> Array:
    """The log of the sum of the exponentials along the last axis."""
    most = scores.max(axis=-1, keepdims=True)
    found: Array = np.log(np.exp(scores - most).sum(axis=-1)) + most[..., 0]
    return found
