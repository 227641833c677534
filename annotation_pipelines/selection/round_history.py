"""The rounds of active selection that have ended: the table selection_rounds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import polars as pl

from annotation_pipelines.project import Project
from annotation_pipelines.selection.stopping import flat
from annotation_pipelines.store.database import Store
from annotation_pipelines.store.schema import SELECTION_ROUNDS


@dataclass(frozen=True)
class Round:
    """One round that has ended: a row of selection_rounds."""

    partition_key: str
    round: int
    strategy: str
    chosen: int
    labelled: int
    silver: int
    gold: int
    metric: str
    value: float | None
    lower: float | None
    upper: float | None
    agreement: float | None
    cost_usd: float | None
    seconds: float
    stopped: str | None
    finished_at: datetime
    run_id: str | None = None


def rounds_of(store: Store, partition_key: str) -> list[Round]:
    """The rounds of a partition that have ended, in order."""
    rows = store.query("SELECT * FROM selection_rounds WHERE partition_key = ? ORDER BY round", [partition_key])
    return [Round(**row) for row in rows.iter_rows(named=True)]


def keep_round(store: Store, ended: Round) -> None:
    """Write a round that has ended."""
    with store.transaction() as con:
        store.upsert(con, SELECTION_ROUNDS.name, pl.DataFrame([vars(ended)], schema=_ROUNDS, orient="row"))


def open_partitions(store: Store, project: Project) -> list[str]:
    """The partitions in which a round is still to be run: records wait, rounds are left, and the curve is not flat."""
    selection = project.declaration.selection
    if selection.rounds is None:
        return []
    waiting = store.query(
        """
        SELECT r.partition_key FROM records r JOIN selected_records s USING (record_id) WHERE r.deleted_at IS NULL
        GROUP BY r.partition_key
        HAVING count(*) FILTER (s.state = 'waiting') > 0
            AND coalesce(count(*) FILTER (s.state = 'selected') < $most, true)
        ORDER BY r.partition_key
        """,
        {"most": selection.per_partition},
    )["partition_key"]
    done = {key: rounds_of(store, key) for key in waiting}
    return [
        key
        for key, rounds in done.items()
        if len(rounds) < selection.rounds and not flat([ended.agreement for ended in rounds], selection.stop)
    ]


_ROUNDS = pl.Schema(
    {
        "partition_key": pl.String(),
        "round": pl.Int64(),
        "strategy": pl.String(),
        "chosen": pl.Int64(),
        "labelled": pl.Int64(),
        "silver": pl.Int64(),
        "gold": pl.Int64(),
        "metric": pl.String(),
        "value": pl.Float64(),
        "lower": pl.Float64(),
        "upper": pl.Float64(),
        "agreement": pl.Float64(),
        "cost_usd": pl.Float64(),
        "seconds": pl.Float64(),
        "stopped": pl.String(),
        "finished_at": pl.Datetime("us", "UTC"),
        "run_id": pl.String(),
    }
)
