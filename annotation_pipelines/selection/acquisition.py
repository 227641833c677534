"""Which records are annotated next: a choice up to a budget, by scores or by a batch that is picked together.

The records come into one order first, that of a hash of seed and record id. So the choice depends on neither the order
in which they were read nor, where scores are equal, on which others there are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from annotation_pipelines.project import Strategy
from annotation_pipelines.selection.uncertainty import MEASURES

Scores = NDArray[np.float64]
Ints = NDArray[np.int64]
Score = Callable[[pl.DataFrame], Scores]
"""Records, n rows -> how unsure the student is of each, shape (n,)."""
Pick = Callable[[pl.DataFrame, int], Ints]
"""Records, n rows, and how many are wanted -> so many different rows, in the order of choice."""

DIVERSITY: tuple[Strategy, ...] = ("kmeans", "k_center", "typiclust")
"""Batches picked by vectors alone."""
BOTH: tuple[Strategy, ...] = ("badge", "hybrid")
"""Batches picked by vectors and by what the student is unsure of."""
BATCHES = (*DIVERSITY, *BOTH)


def needs_student(strategy: Strategy) -> bool:
    """Whether a strategy asks a student."""
    return strategy in MEASURES or strategy in BOTH


def without_student(strategy: Strategy) -> Strategy:
    """What decides in the place of a strategy as long as there is no student."""
    if strategy in MEASURES:
        return "random"
    return "typiclust" if strategy in BOTH else strategy


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
    score: Score | None = None,
    pick: Pick | None = None,
    seed: int = 0,
) -> pl.DataFrame:
    """Choose records up to a budget; a choice stands, so that nothing paid for is dropped for something newer.

    Args:
        records: The candidates: record_id, and the columns that `score` or `pick` reads.
        already_selected: Ids chosen before. Those among the candidates stay selected and count against the budget;
            where it has become too small for them, those with the best scores stay.
        budget: How many may be selected; None for all.
        score: Of the strategies by uncertainty; without it the choice is random, and says so.
        pick: Of the strategies that pick a batch, among the records that were not chosen before; likewise. It is not
            asked where all records fit.

    Returns:
        record_id, state (selected or waiting), strategy (which decided), score (higher was chosen first: the
        uncertainty, or from 1 down to 0 in the order of the batch); in the order of the candidates.
    """
    draw = draws(records["record_id"], seed)
    ordered = records.with_row_index("_row").with_columns(_draw=pl.Series(draw, dtype=pl.Float64))
    ordered = ordered.sort("_draw", "record_id", descending=[True, False])
    place = ordered["_row"].to_numpy()
    candidates = ordered.drop("_row", "_draw")
    kept = candidates["record_id"].is_in(pl.Series(list(already_selected), dtype=pl.String).implode()).to_numpy()
    most = records.height if budget is None else min(budget, records.height)

    if strategy in BATCHES and pick is not None:
        scores = _batch_scores(candidates, kept, most, pick)
    elif strategy in MEASURES and score is not None:
        scores = score(candidates)
    elif strategy == "all":
        scores = np.zeros(records.height)
    else:
        strategy, scores = "random", draw[place]

    # np.lexsort: the last key decides first.
    best = np.lexsort((np.arange(records.height), -scores, ~kept))[:most]
    selected, by_record = np.zeros(records.height, dtype=np.bool_), np.empty(records.height)
    selected[place[best]] = True
    by_record[place] = scores
    return pl.DataFrame(
        {
            "record_id": records["record_id"],
            "state": pl.Series(np.where(selected, "selected", "waiting"), dtype=pl.String),
            "strategy": pl.Series([strategy] * records.height, dtype=pl.String),
            "score": pl.Series(by_record, dtype=pl.Float64),
        }
    )


def _batch_scores(candidates: pl.DataFrame, kept: NDArray[np.bool_], most: int, pick: Pick) -> Scores:
    """1 for the first of a batch, less for each further one, 0 for the rest."""
    scores = np.zeros(candidates.height)
    free = np.flatnonzero(~kept)
    count = min(most - int(kept.sum()), len(free))
    if count < 1:
        return scores
    rows = np.arange(count) if count == len(free) else pick(candidates[free], count)
    scores[free[rows]] = 1 - np.arange(count) / count
    return scores
