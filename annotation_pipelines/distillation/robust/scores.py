"""The teacher's scores as probabilities over a student's classes."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

Array = NDArray[np.float64]

LEAST_SCORE = 1e-4


def read_scores(scores: pl.Series, classes: Sequence[str]) -> tuple[Array, NDArray[np.bool_]]:
    """Probabilities of the classes, and where the teacher gave scores.

    Scores that sum to less than 1 leave the rest to the classes that are not named (a teacher's three likeliest, for
    instance); those that sum to more are scaled down. No class gets less than 0.0001 before that. Scores that are no
    finite numbers, or none of them of a class, count as not given.

    Args:
        scores: n JSON objects of label to number, or nulls.
        classes: k labels.

    Returns:
        Shape (n, k), rows that sum to 1, NaN where there are none; and shape (n,).
    """
    k = len(classes)
    places = {label: place for place, label in enumerate(classes)}
    probabilities = np.full((len(scores), k), np.nan)
    known = np.zeros(len(scores), dtype=np.bool_)
    for row, text in enumerate(scores):
        named = _named(text, places)
        total = sum(named.values())
        if not named or total <= 0:
            continue
        known[row] = True
        rest = max(0.0, 1 - total) / max(1, k - len(named))
        probabilities[row] = rest
        for place, score in named.items():
            probabilities[row, place] = score
        probabilities[row] = np.maximum(probabilities[row], LEAST_SCORE)
        probabilities[row] /= probabilities[row].sum()
    return probabilities, known


def _named(text: str | None, places: dict[str, int]) -> dict[int, float]:
    if text is None:
        return {}
    try:
        given = json.loads(text)
    except ValueError:
        return {}
    if not isinstance(given, dict):
        return {}
    return {
        places[label]: max(0.0, float(score))
        for label, score in given.items()
        if label in places and isinstance(score, int | float) and np.isfinite(score)
    }
