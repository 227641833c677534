"""Acquisition functions: which records are annotated next. Pure functions over ids and probabilities.

Every strategy gives each record a score, and the highest scores are chosen. Ties are broken by a hash of seed and
record id, so that the choice depends on neither the order of the records nor on which others there are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

Strategy = Literal["all", "random", "least_confidence"]
Scores = NDArray[np.float64]
Score = Callable[[Scores, NDArray[np.float64] | None], Scores | None]


def everything(draw: Scores, probabilities: NDArray[np.float64] | None) -> Scores | None:
    """No record before another: the draw decides where a budget does not reach for all."""
    return np.zeros_like(draw)


def random(draw: Scores, probabilities: NDArray[np.float64] | None) -> Scores | None:
    """The draw itself."""
    return draw


def least_confidence(draw: Scores, probabilities: NDArray[np.float64] | None) -> Scores | None:
    """1 minus the champion's probability of its label (Lewis and Gale 1994); none without a champion."""
    return None if probabilities is None else 1 - probabilities


ACQUISITIONS: Mapping[Strategy, Score] = {
    "all": everything,
    "random": random,
    "least_confidence": least_confidence,
}


def draws(record_ids: Iterable[str], seed: int) -> Scores:
    """A number in [0, 1) for every record id: the same for the same seed, whatever stands beside it."""
    return np.array(
        [
            int.from_bytes(hashlib.blake2b(f"{seed}:{record_id}".encode(), digest_size=6).digest()) / 2**48
            for record_id in record_ids
        ],
        dtype=np.float64,
    )


def choose(
    records: pl.DataFrame,
    *,
    already_selected: Iterable[str],
    strategy: Strategy,
    budget: int | None,
    probabilities: pl.DataFrame | None = None,
    seed: int = 0,
) -> pl.DataFrame:
    """Choose records up to a budget; a choice stands, so that nothing paid for is dropped for something newer.

    Args:
        records: The candidates: record_id.
        already_selected: Ids chosen before. Those among the candidates stay selected and count against the budget;
            where it has become too small for them, the best of them stay.
        budget: How many may be selected; None for all.
        probabilities: The champion's record_id and confidence (the probability of its label), for least_confidence;
            None without a champion: the choice is random then, and says so. A record without one goes first.

    Returns:
        record_id, state (selected or waiting), strategy (which decided), score; in the order of the candidates.
    """
    draw = draws(records["record_id"], seed)
    confidence = None
    if probabilities is not None:
        joined = records.select("record_id").join(
            probabilities.select("record_id", "confidence"), on="record_id", how="left", maintain_order="left"
        )
        confidence = joined["confidence"].fill_null(0.0).fill_nan(0.0).cast(pl.Float64).to_numpy()
    scores = ACQUISITIONS[strategy](draw, confidence)
    if scores is None:
        strategy, scores = "random", draw
    kept = records["record_id"].is_in(pl.Series(list(already_selected), dtype=pl.String).implode()).to_numpy()
    selected = np.zeros(records.height, dtype=bool)
    if budget is None:
        selected[:] = True
    else:
        order = np.lexsort((-draw, -scores, ~kept))
        selected[order[:budget]] = True
    return pl.DataFrame(
        {
            "record_id": records["record_id"],
            "state": pl.Series(np.where(selected, "selected", "waiting"), dtype=pl.String),
            "strategy": pl.Series([strategy] * records.height, dtype=pl.String),
            "score": pl.Series(scores, dtype=pl.Float64),
        }
    )
