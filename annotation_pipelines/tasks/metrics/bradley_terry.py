"""One strength for each of many, out of comparisons of two: the model of Bradley and Terry.

The chance that i is preferred to j is p_i / (p_i + p_j). The strengths p of the greatest likelihood are found by the
MM algorithm (Hunter 2004, The Annals of Statistics 32(1), equation 3). A tie counts as half a win of either side.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from annotation_pipelines.tasks.metrics.bootstrap import Array

Comparison = tuple[str, str, str]
"""Who is A, who is B, and what was preferred: A, B or tie."""

_STEPS = 100_000
_PRECISION = 1e-12


@dataclass(frozen=True)
class Strength:
    """How strong one of many is.

    Attributes:
        group: Its group, from 0, the largest first. Strengths are comparable within a group alone.
        log_strength: The logarithm of p; the mean of a group is 0. A lead of log(3) wins three times of four.
        wins: Comparisons in which it was preferred, a tie as a half.
        comparisons: Those that it took part in.
    """

    name: str
    group: int
    log_strength: float
    wins: float
    comparisons: int


def bradley_terry(comparisons: Iterable[Comparison], *, prior: float = 0.0) -> list[Strength]:
    """The strength of everybody who was compared.

    A finite strength exists only among those of whom each has beaten (or tied with) each, in person or by a chain of
    others (Ford 1957; Hunter 2004, assumption 1): these are one group. Somebody who lost every comparison is a group of
    its own, below all whom it lost to, nobody can say how far. With a prior, every two that met are taken to have had
    so many ties more: all who are connected by comparisons are then one group.

    Args:
        comparisons: One a record and criterion; somebody compared with itself says nothing and is left out.
        prior: Further ties for every two that met, 0 or more.

    Returns:
        One for everybody, groups in order, the strongest of each first, then by name.

    Raises:
        ValueError: A preference is not A, B or tie, or the prior is below 0.
    """
    if prior < 0:
        raise ValueError(f"expected a prior of 0 or more, found {prior}")
    given = list(comparisons)
    names = sorted({name for first, second, _ in given for name in (first, second)})
    position = {name: index for index, name in enumerate(names)}
    wins = np.zeros((len(names), len(names)))
    for first, second, preferred in given:
        if preferred not in ("A", "B", "tie"):
            raise ValueError(f"expected A, B or tie, found {preferred!r}")
        i, j = position[first], position[second]
        if i != j:
            wins[i, j] += {"A": 1.0, "B": 0.0, "tie": 0.5}[preferred]
            wins[j, i] += {"A": 0.0, "B": 1.0, "tie": 0.5}[preferred]
    met = wins + wins.T
    weighted = wins + np.where(met > 0, prior / 2, 0.0)
    found = []
    for number, members in enumerate(_groups(weighted > 0)):
        logs = _strengths(weighted[np.ix_(members, members)])
        for member, log_strength in zip(members, logs, strict=True):
            found.append(
                Strength(
                    names[member],
                    number,
                    float(log_strength),
                    float(wins[member].sum()),
                    round(met[member].sum()),
                )
            )
    return sorted(found, key=lambda one: (one.group, -round(one.log_strength, 9), one.name))


def chances(strengths: Iterable[Strength]) -> Mapping[tuple[str, str], float]:
    """How likely each of a group is preferred to each other one of it."""
    listed = list(strengths)
    return {
        (one.name, other.name): 1 / (1 + math.exp(other.log_strength - one.log_strength))
        for one in listed
        for other in listed
        if one.group == other.group and one.name != other.name
    }


def _strengths(wins: Array) -> Array:
    """The logarithms of the strengths of a group, mean 0.

    Args:
        wins: How often each beat each, shape (n, n); from each to each there is a chain of wins.
    """
    total, met = wins.sum(axis=1), wins + wins.T
    strength = np.ones(len(wins))
    if len(wins) == 1:
        return np.zeros(1)
    for _ in range(_STEPS):
        # Hunter 2004, equation 3: p_i becomes W_i over the sum of N_ij / (p_i + p_j).
        new = total / (met / (strength[:, None] + strength[None, :])).sum(axis=1)
        new /= np.exp(np.log(new).mean())
        done = np.abs(np.log(new) - np.log(strength)).max() < _PRECISION
        strength = new
        if done:
            break
    logs: Array = np.log(strength)
    return logs


def _groups(beat: np.ndarray) -> list[list[int]]:
    """The strongly connected components of who beat whom, the largest first."""
    reach = beat | np.eye(len(beat), dtype=bool)
    for middle in range(len(beat)):  # Warshall 1962: by a chain whose members are at most `middle`
        reach |= reach[:, middle, None] & reach[None, middle, :]
    both = reach & reach.T
    groups = {int(row.argmax()): np.flatnonzero(row).tolist() for row in both}
    return sorted(groups.values(), key=lambda members: (-len(members), members))
