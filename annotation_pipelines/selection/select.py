"""Write which records of a partition go to the annotator."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import polars as pl

from annotation_pipelines.project import Project, Strategy
from annotation_pipelines.selection.acquisition import choose
from annotation_pipelines.selection.strategies import Means
from annotation_pipelines.store.database import Store
from annotation_pipelines.store.records import live_records

if TYPE_CHECKING:
    from annotation_pipelines.distillation.prediction import ReadyModel

STATES = ("selected", "waiting", "gold")

_TEXTS = ("content_hash", "content")


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

    Records that people labelled for use in prompts or in training are `gold` and not asked about. Where the strategy
    looks at what is in the records, gold that is held out for evaluation is not asked about either: nothing is learned
    from it, and a teacher measured on the hardest records would look worse than it is.

    Args:
        scorer: The student whose uncertainty counts; default: the champion, where the strategy needs one.
        budget: How many records of the partition may be selected in all, earlier choices included; default: as
            declared.
        round_number: The round that chooses, from 1: kept with the records that are chosen now.

    Returns:
        How many live records are selected, waiting and gold; they sum to the live records.

    Raises:
        StoreCorrupted: The champion's files are missing or damaged.
        TrainingError: The champion's encoder is not there any more.
        DeclarationError: The encoder cannot be loaded.
    """
    selection = project.declaration.selection
    live = live_records(store, partition_key)
    people = store.query("SELECT record_id, content_hash, content, role FROM human_labels ORDER BY record_id")
    earlier = store.query(
        """
        SELECT record_id, s.state, s.strategy, s.score, s.selected_at, s.round
        FROM selected_records s JOIN records r USING (record_id) WHERE r.partition_key = ?
        """,
        [partition_key],
    )
    stands = earlier.filter(pl.col("state") == "selected")
    aside = not_asked_about(people, stands, selection.strategy)
    gold = live.join(aside, on="record_id", how="semi", maintain_order="left")
    candidates = live.join(aside, on="record_id", how="anti", maintain_order="left")
    means = Means(store, project, scorer, _known(people, candidates.join(stands, on="record_id", how="semi")))
    chosen = choose(
        candidates.select("record_id", *_TEXTS),
        already_selected=stands["record_id"],
        strategy=means.strategy,
        budget=selection.budget if budget is None else budget,
        score=means.score,
        pick=means.pick,
        seed=selection.seed,
    )
    rows = _rows(live, chosen, gold, earlier, round_number)
    counts = Counter(rows["state"].to_list())
    facts = {state: counts[state] for state in STATES}
    stored = store.query("SELECT * FROM selected_records WHERE partition_key = ?", [partition_key])
    unchanged = stored.sort("record_id").equals(rows.select(stored.columns).sort("record_id"))
    with store.transaction() as con:
        if not unchanged:
            store.replace(con, "selected_records", rows, partition_key=partition_key)
        store.record_stage(con, "selected_records", partition_key, facts, run_id)
    return facts


def not_asked_about(people: pl.DataFrame, selected: pl.DataFrame, strategy: Strategy) -> pl.DataFrame:
    """Of the records that people labelled those that are `gold`: candidates are all others.

    Args:
        people: record_id and role.
        selected: record_id of those that are selected: a choice stands.

    Returns:
        The rows of people's frame.
    """
    teaching = pl.col("role").is_in(["demonstration", "training"])
    if strategy in ("all", "random"):
        return people.filter(teaching)
    held_out = people.filter(pl.col("role") == "evaluation").join(selected, on="record_id", how="anti")
    return pl.concat([people.filter(teaching), held_out])


def _known(people: pl.DataFrame, selected: pl.DataFrame) -> pl.DataFrame:
    """The texts that there is a label for, or will be: gold and chosen ones, but none that is held out."""
    held_out = people.filter(pl.col("role") == "evaluation")
    teaching = people.filter(pl.col("role").is_in(["demonstration", "training"]))
    return pl.concat([teaching.select(_TEXTS), selected.join(held_out, on="record_id", how="anti").select(_TEXTS)])


def _rows(
    live: pl.DataFrame, chosen: pl.DataFrame, gold: pl.DataFrame, earlier: pl.DataFrame, round_number: int | None
) -> pl.DataFrame:
    """The rows of selected_records; of a record that stays selected, everything as it was when it was chosen."""
    people = gold.select(
        "record_id",
        state=pl.lit("gold"),
        strategy=pl.lit("people"),
        score=pl.lit(None, dtype=pl.Float64),
    )
    stays = (pl.col("state") == "selected") & (pl.col("state") == pl.col("state_before"))
    return (
        pl.concat([chosen, people])
        .join(earlier, on="record_id", how="left", suffix="_before")
        .join(live.select("record_id", "content_hash", "partition_key"), on="record_id")
        .select(
            "record_id",
            "content_hash",
            "partition_key",
            "state",
            pl.when(stays).then("strategy_before").otherwise("strategy").alias("strategy"),
            pl.when(stays).then("score_before").otherwise("score").alias("score"),
            pl.when(pl.col("state") == pl.col("state_before"))
            .then("selected_at")
            .otherwise(pl.lit(datetime.now(UTC)))
            .alias("selected_at"),
            pl.when(stays)
            .then("round")
            .when(pl.col("state") == "selected")
            .then(pl.lit(round_number, dtype=pl.Int64))
            .alias("round"),
        )
    )
