"""Rounds of active selection within one run: choose, annotate, train, choose again (Zhang et al. 2023, LLMaAA).

A round is in the store as soon as its records are chosen (selected_records.round), and has ended when its row is in
selection_rounds. So a run that was killed goes on where it was: records of an open round keep their choice, and what
was answered about them is not asked again.

The student of a round is trained on the silver labels so far and on one half of the gold that serves neither
evaluation nor prompts alone; the learning curve is measured on the other half. Which half a gold record belongs to is
decided by its id.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import polars as pl

from annotation_pipelines.annotators.counts import AnnotationCounts
from annotation_pipelines.distillation.embedding import Embedder
from annotation_pipelines.distillation.prediction import ReadyModel
from annotation_pipelines.distillation.students.base import Examples
from annotation_pipelines.distillation.students.registry import student_class
from annotation_pipelines.distillation.training import read_examples
from annotation_pipelines.errors import TrainingError
from annotation_pipelines.project import Project
from annotation_pipelines.quality.trust import would_trust
from annotation_pipelines.selection.acquisition import draws
from annotation_pipelines.selection.round_history import Round, keep_round, rounds_of
from annotation_pipelines.selection.select import select_records
from annotation_pipelines.selection.stopping import agreement, flat
from annotation_pipelines.store.database import Store
from annotation_pipelines.tasks.metrics.bootstrap import Metric

FLAT = "the curve is flat"
NO_RECORD_LEFT = "no record is left"
ALL_ROUNDS = "all rounds are done"
BUDGET_SPENT = "the budget is spent"
BATCHES_OPEN = "its batches are open"

_UNFINISHED = {"over_budget": BUDGET_SPENT, "submitted": BATCHES_OPEN}
"""States that leave a round open, and why; the next run goes on with it."""


@dataclass(frozen=True)
class RoundsOutcome:
    """What became of a partition's rounds.

    Attributes:
        rounds: All that have ended, those of earlier runs included.
        ended: Why no round followed in this run.
        counts: What was annotated in this run.
    """

    rounds: Sequence[Round]
    ended: str
    counts: AnnotationCounts


@dataclass(frozen=True)
class _Trained:
    """A round's student, and how many silver labels it learned from."""

    model: ReadyModel
    silver: int


@dataclass
class _Partition:
    """What the rounds of a partition work with."""

    store: Store
    project: Project
    key: str
    label: Callable[[], AnnotationCounts]
    embedder: Embedder
    run_id: str | None
    done: list[Round] = field(default_factory=list)


def run_rounds(
    store: Store,
    project: Project,
    partition_key: str,
    label: Callable[[], AnnotationCounts],
    embedder: Embedder,
    *,
    on_round: Callable[[Round], None] = lambda ended: None,
    run_id: str | None = None,
) -> RoundsOutcome:
    """Run the rounds of a partition that are still to be run.

    Args:
        label: Brings the labels of the partition's selected records up to date.
        on_round: Called with every round that ends.

    Raises:
        AnnotatorError: As `label` does; the round stays open.
        StoreError: The store cannot be read or written.
    """
    selection = project.declaration.selection
    assert selection.rounds is not None and selection.per_round is not None
    here = _Partition(store, project, partition_key, label, embedder, run_id, rounds_of(store, partition_key))
    passes: list[AnnotationCounts] = []
    before: _Trained | None = None
    if here.done:
        # What was chosen in earlier runs may have changed since, or be stale.
        passes.append(label())
        before = _student(here, len(here.done))
    while True:
        if ended := _ended(here, passes):
            return RoundsOutcome(here.done, ended, together(passes))
        start = time.monotonic()
        number = len(here.done) + 1
        if not _chosen(here, number):
            choose_round(store, project, partition_key, number, before.model if before else None, run_id=run_id)
            if not _chosen(here, number):
                return RoundsOutcome(here.done, NO_RECORD_LEFT, together(passes))
        passes.append(label())
        if why := _unfinished(passes[-1]):
            return RoundsOutcome(here.done, why, together(passes))
        student = _student(here, number)
        ended_round = _measured(here, number, student, before, passes[-1], time.monotonic() - start)
        here.done.append(ended_round)
        keep_round(store, ended_round)
        on_round(ended_round)
        before = student or before


def choose_round(
    store: Store,
    project: Project,
    partition_key: str,
    number: int,
    scorer: ReadyModel | None = None,
    *,
    run_id: str | None = None,
) -> dict[str, int]:
    """Choose the records of a round, beside those that were chosen before.

    Args:
        number: From 1; 0 chooses no further record, and only brings the states up to date.

    Returns:
        As `select_records`.
    """
    selection = project.declaration.selection
    before = store.query(
        """
        SELECT count(*) AS n FROM selected_records s JOIN records r USING (record_id)
        WHERE r.partition_key = ? AND r.deleted_at IS NULL AND s.state = 'selected'
        """,
        [partition_key],
    )["n"][0]
    budget = int(before) + (selection.per_round or 0 if number else 0)
    if selection.per_partition is not None:
        budget = min(budget, selection.per_partition)
    return select_records(
        store, project, partition_key, scorer=scorer, budget=budget, round_number=number or None, run_id=run_id
    )


def choose_first_round(
    store: Store, project: Project, partition_key: str, *, run_id: str | None = None
) -> dict[str, int]:
    """Choose the records of the first round, where no round was chosen yet; the others follow as labels come in."""
    chosen = store.query(
        "SELECT count(*) AS n FROM selected_records WHERE partition_key = ? AND round IS NOT NULL", [partition_key]
    )["n"][0]
    return choose_round(store, project, partition_key, 0 if chosen else 1, run_id=run_id)


def together(passes: Sequence[AnnotationCounts]) -> AnnotationCounts:
    """What several passes over the records of one partition come to; the last one saw them all."""
    if not passes:
        return AnnotationCounts()
    last, costs = passes[-1], [each.cost_usd for each in passes]
    known = [cost for cost in costs if cost is not None]
    added = {
        name: sum(getattr(each, name) for each in passes)
        for name in (
            "new",
            "changed",
            "stale",
            "retried",
            "from_ledger",
            "called",
            "repairs",
            "prompt_tokens",
            "cached_tokens",
            "completion_tokens",
            "seconds",
            "recovered",
            "damaged",
        )
    }
    touched = added["new"] + added["changed"] + added["stale"] + added["retried"]
    return AnnotationCounts(
        selected=last.selected,
        unchanged=max(0, last.selected - touched),
        states=Counter(last.states),
        cost_usd=sum(known) if len(known) == len(costs) else None,
        **added,
    )


def _ended(here: _Partition, passes: Sequence[AnnotationCounts]) -> str | None:
    """Why no further round begins, if none does."""
    selection = here.project.declaration.selection
    if passes and (why := _unfinished(passes[-1])):
        return why
    if flat([ended.agreement for ended in here.done], selection.stop):
        return FLAT
    return ALL_ROUNDS if len(here.done) >= (selection.rounds or 0) else None


def _unfinished(counts: AnnotationCounts) -> str | None:
    return next((why for state, why in _UNFINISHED.items() if counts.states[state]), None)


def _chosen(here: _Partition, number: int) -> int:
    """How many records a round has chosen."""
    rows = here.store.query(
        "SELECT count(*) AS n FROM selected_records WHERE partition_key = ? AND state = 'selected' AND round = ?",
        [here.key, number],
    )
    return int(rows["n"][0])


def _student(here: _Partition, number: int) -> _Trained | None:
    """The student of a round; None where there is too little to learn from."""
    from annotation_pipelines.annotators.factory import annotator_name

    project, config = here.project, here.project.declaration.distillation
    trusted = would_trust(here.store, project, here.key, annotator_name(project))
    later = here.store.query(
        "SELECT record_id FROM selected_records WHERE partition_key = ? AND round > ?", [here.key, number]
    )
    found = read_examples(
        here.store,
        project,
        instead_of=here.key,
        instead=trusted.join(later, on="record_id", how="anti", maintain_order="left"),
    ).examples
    rows = found.rows.filter((pl.col("origin") == "silver") | ~_measures(found.rows))
    if rows.height < config.min_labels:
        return None
    try:
        student = student_class(project.task, config.student)(project.task, config)
        model = ReadyModel(f"round {number}", student.fit(Examples(rows, found.audit), here.embedder), here.embedder)
        return _Trained(model, int((rows["origin"] == "silver").sum()))
    except TrainingError:
        return None


def _measures(rows: pl.DataFrame) -> pl.Series:
    """Which gold records measure the curve; the others teach."""
    halves = [hashlib.blake2b(record_id.encode(), digest_size=1).digest()[0] % 2 for record_id in rows["record_id"]]
    return pl.Series(halves, dtype=pl.Int64) == 1


def _measured(
    here: _Partition,
    number: int,
    student: _Trained | None,
    before: _Trained | None,
    counts: AnnotationCounts,
    seconds: float,
) -> Round:
    """What is to be said of a round that ends."""
    store, project, selection = here.store, here.project, here.project.declaration.selection
    mine = store.query(
        """
        SELECT s.strategy, count(*) AS chosen, count(*) FILTER (l.state = 'labelled') AS labelled
        FROM selected_records s LEFT JOIN llm_labels l USING (record_id, content_hash)
        WHERE s.partition_key = ? AND s.round = ? AND s.state = 'selected'
        GROUP BY s.strategy ORDER BY chosen DESC LIMIT 1
        """,
        [here.key, number],
    ).row(0, named=True)
    kappa = _kappa(here, student.model, before.model) if student and before else None
    headline = _headline(here, student.model) if student else None
    agreements = [*(ended.agreement for ended in here.done), kappa]
    last = number == selection.rounds
    return Round(
        partition_key=here.key,
        round=number,
        strategy=mine["strategy"],
        chosen=mine["chosen"],
        labelled=mine["labelled"],
        silver=student.silver if student else 0,
        gold=headline.records if headline else 0,
        metric=project.task.headline,
        value=headline.value if headline else None,
        lower=headline.lower if headline else None,
        upper=headline.upper if headline else None,
        agreement=kappa,
        cost_usd=counts.cost_usd,
        seconds=round(seconds, 3),
        stopped=FLAT if flat(agreements, selection.stop) else ALL_ROUNDS if last else None,
        finished_at=datetime.now(UTC),
        run_id=here.run_id,
    )


def _kappa(here: _Partition, student: ReadyModel, before: ReadyModel) -> float | None:
    """How well two students agree on records of the pool, the same ones in every round."""
    pool = here.store.query(
        """
        SELECT record_id, content_hash, content FROM records JOIN selected_records s USING (record_id, content_hash)
        WHERE s.partition_key = ? AND s.state <> 'gold' AND deleted_at IS NULL
        """,
        [here.key],
    )
    if pool.is_empty():
        return None
    selection = here.project.declaration.selection
    drawn = pool.with_columns(draw=pl.Series(draws(pool["record_id"], selection.seed))).sort("draw", "record_id")
    rows = drawn.head(selection.stop.records).select("content_hash", "content")
    return agreement(student.predict(rows).labels, before.predict(rows).labels)


def _headline(here: _Partition, student: ReadyModel) -> Metric | None:
    """The task's main metric on the half of the gold that does not teach."""
    people = here.store.query(
        """
        SELECT record_id, content_hash, content, label FROM human_labels
        WHERE role IN ('demonstration', 'training') ORDER BY record_id
        """
    )
    rows = people.filter(_measures(people))
    if rows.is_empty():
        return None
    given = student.predict(rows.select("content_hash", "content")).labels
    config = here.project.declaration.distillation
    return here.project.task.measure(rows["label"].to_list(), given, seed=config.seed)[0]
