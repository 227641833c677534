"""Write which records of a partition go to the annotator."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import polars as pl

from annotation_pipelines.project import Project
from annotation_pipelines.selection.acquisition import choose
from annotation_pipelines.store.database import Store
from annotation_pipelines.store.records import live_records

if TYPE_CHECKING:
    from annotation_pipelines.distillation.prediction import ReadyModel

STATES = ("selected", "waiting", "gold")


def select_records(
    store: Store,
    project: Project,
    partition_key: str,
    *,
    scorer: ReadyModel | None = None,
    budget: int | None = None,
    round_number: int | None = None,
    run_id: str | None = None,
) -> dict[str, int]:
    """Choose the records of a partition and keep the choice.

    Records that people labelled for use in prompts or in training are `gold` and not asked about.

    Args:
        scorer: The student whose uncertainty counts; default: the champion, where the strategy needs one.
        budget: How many records of the partition may be selected in all, earlier choices included; default: as
            declared.
        round_number: The round that chooses, from 1: kept with the records that are chosen now.

    Returns:
        How many live records are selected, waiting and gold; they sum to the live records.
    """
    selection = project.declaration.selection
    live = live_records(store, partition_key)
    known = store.query("SELECT record_id FROM human_labels WHERE role IN ('demonstration', 'training')")["record_id"]
    earlier = store.query(
        """
        SELECT record_id, s.strategy, s.score, s.selected_at, s.round
        FROM selected_records s JOIN records r USING (record_id)
        WHERE s.state = 'selected' AND r.partition_key = ?
        """,
        [partition_key],
    )
    gold = live.filter(pl.col("record_id").is_in(known.implode()))
    candidates = live.filter(~pl.col("record_id").is_in(known.implode()))
    probabilities = None
    if selection.strategy == "least_confidence":
        probabilities = _probabilities(store, project, candidates, scorer)
    chosen = choose(
        candidates,
        already_selected=earlier["record_id"],
        strategy=selection.strategy,
        budget=selection.budget if budget is None else budget,
        probabilities=probabilities,
        seed=selection.seed,
    )
    now = datetime.now(UTC)
    kept = earlier.select("record_id", "selected_at", kept_strategy="strategy", kept_score="score", kept_round="round")
    rows = (
        pl.concat(
            [
                chosen.select("record_id", "state", "strategy", "score"),
                gold.select(
                    "record_id",
                    pl.lit("gold").alias("state"),
                    pl.lit("people").alias("strategy"),
                    pl.lit(None, dtype=pl.Float64).alias("score"),
                ),
            ]
        )
        .join(kept, on="record_id", how="left")
        .join(live.select("record_id", "content_hash", "partition_key"), on="record_id")
        .select(
            "record_id",
            "content_hash",
            "partition_key",
            "state",
            pl.when(pl.col("state") == "selected")
            .then(pl.coalesce("kept_strategy", "strategy"))
            .otherwise("strategy")
            .alias("strategy"),
            pl.when(pl.col("selected_at").is_null()).then("score").otherwise("kept_score").alias("score"),
            pl.col("selected_at").fill_null(now),
            pl.when(pl.col("state") == "selected")
            .then(
                pl.when(pl.col("selected_at").is_null())
                .then(pl.lit(round_number, dtype=pl.Int64))
                .otherwise("kept_round")
            )
            .alias("round"),
        )
    )
    counts = Counter(rows["state"].to_list())
    facts = {state: counts[state] for state in STATES}
    stored = store.query("SELECT * FROM selected_records WHERE partition_key = ?", [partition_key])
    unchanged = stored.sort("record_id").equals(rows.select(stored.columns).sort("record_id"))
    with store.transaction() as con:
        if not unchanged:
            store.replace(con, "selected_records", rows, partition_key=partition_key)
        store.record_stage(con, "selected_records", partition_key, facts, run_id)
    return facts


def _probabilities(
    store: Store, project: Project, candidates: pl.DataFrame, scorer: ReadyModel | None
) -> pl.DataFrame | None:
    from annotation_pipelines.distillation.prediction import champion_probabilities

    if scorer is None:
        return champion_probabilities(store, project, candidates)
    return candidates.select(
        "record_id",
        confidence=pl.Series(scorer.predict(candidates.select("content_hash", "content")).confidence, dtype=pl.Float64),
    )
