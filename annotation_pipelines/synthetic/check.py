"""From the answers of a generating annotator to checked synthetic records.

Every entry of every answer ends in one row of `synthetic_records`: kept, dropped with the first check that it did not
pass, or waiting for an answer. The checks, in order: rules, near-duplicates of the pool and of one another, the judge,
the round trip. Judge and round trip ask through the same engine as annotation: same ledger, same budget, and what was
asked before is not asked again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import duckdb
import polars as pl

from annotation_pipelines.annotators.annotation import annotate
from annotation_pipelines.annotators.base import Annotator
from annotation_pipelines.annotators.counts import ANY_OCCASION, AnnotationCounts, Occasion
from annotation_pipelines.annotators.passes import Progress
from annotation_pipelines.annotators.pending import Wanted, registered
from annotation_pipelines.content import Content
from annotation_pipelines.project import Project
from annotation_pipelines.project.synthetic import Synthetic
from annotation_pipelines.sources.records import content_hashes
from annotation_pipelines.store.database import Store
from annotation_pipelines.synthetic.candidates import Candidate, find_candidates, kept_elsewhere, pool_texts
from annotation_pipelines.synthetic.checkers import make_blind, make_judge
from annotation_pipelines.synthetic.duplicates import Twin, repeats_among, repeats_of_pool
from annotation_pipelines.synthetic.rules import RULES, Rules
from annotation_pipelines.tasks.base import UNANSWERED, canonical_json
from annotation_pipelines.tasks.generation import GenerationTask
from annotation_pipelines.tasks.generation_modes import Texts, with_wanted

STAGE = "synthetic_records"
REASONS = (*RULES, "near_duplicate", "pool_duplicate", "judge", "not_judged", "round_trip")
"""Why an entry may be dropped, in the order of the checks."""

_ANNOTATIONS = "synthetic_annotations"


@dataclass(frozen=True)
class Verdict:
    """What the checks made of a candidate so far; kept until a check says otherwise."""

    candidate: Candidate
    state: str = "kept"
    reason: str | None = None
    problem: str | None = None
    judge_score: float | None = None
    round_trip_label: str | None = None
    near_duplicate_of: str | None = None
    similarity: float | None = None

    def dropped(self, reason: str, problem: str | None, **more: Any) -> Verdict:
        """The same, dropped."""
        return replace(self, state="dropped", reason=reason, problem=problem, **more)


@dataclass
class SyntheticCounts:
    """What became of what was generated from a partition's seeds: generated = kept + waiting + all that was dropped.

    Attributes:
        seeds: Seeds whose annotation is labelled.
        generated: Entries of their answers.
        missing: Entries that were asked for and not given.
        surplus: Entries beyond those that were asked for.
        waiting: Not yet judged, or not yet labelled blind: the budget is spent, or there was no answer.
        dropped: By reason; every reason is there.
        labels: Wanted label to how many were kept, in the mode texts.
        judge, round_trip: What the engine did for them; None where they are not declared.
    """

    seeds: int = 0
    generated: int = 0
    missing: int = 0
    surplus: int = 0
    kept: int = 0
    waiting: int = 0
    dropped: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REASONS, 0))
    labels: dict[str, int] = field(default_factory=dict)
    judge: AnnotationCounts | None = None
    round_trip: AnnotationCounts | None = None

    @property
    def called(self) -> int:
        """Requests that the checks sent."""
        return sum(counts.called for counts in (self.judge, self.round_trip) if counts)

    @property
    def cost_usd(self) -> float | None:
        """What they cost; None where a price is unknown."""
        costs = [counts.cost_usd for counts in (self.judge, self.round_trip) if counts]
        known = [cost for cost in costs if cost is not None]
        return sum(known) if len(known) == len(costs) else None

    def facts(self) -> dict[str, float | int | None]:
        """The counts, flat: name to number."""
        return {
            "seeds": self.seeds,
            "generated": self.generated,
            "missing": self.missing,
            "surplus": self.surplus,
            "kept": self.kept,
            "waiting": self.waiting,
            "dropped": sum(self.dropped.values()),
            **{f"dropped_{reason}": n for reason, n in self.dropped.items()},
            "called": self.called,
            "cost_usd": self.cost_usd,
        }


def check_generated(
    store: Store,
    project: Project,
    partition_key: str,
    annotator: str,
    settings: Synthetic,
    *,
    occasion: Occasion = ANY_OCCASION,
    progress: Progress | None = None,
) -> SyntheticCounts:
    """Bring the synthetic records of a partition up to date with its annotations.

    What has not changed is neither asked about nor written again.

    Args:
        project: A project that generates.
        annotator: The name under which the project's annotations are in llm_labels.
        settings: How to check.
        progress: Told (done, total) as the judge, then the blind annotator, answers.

    Raises:
        DeclarationError: A check cannot be made as declared.
        AnnotatorError: The judge or the blind annotator cannot work at all. Nothing was written but their answers.
    """
    task = project.task
    assert isinstance(task, GenerationTask)
    judge = make_judge(project, store, settings, settings.judge) if settings.judge else None
    blind = None
    if settings.round_trip and isinstance(task.mode, Texts):
        blind = make_blind(project, store, settings, settings.round_trip, task.mode.labels)
    generated = find_candidates(store, task, partition_key, annotator)
    counts = SyntheticCounts(generated.seeds, len(generated.candidates), generated.missing, generated.surplus)

    verdicts = _by_rules(generated.candidates, Rules(task, settings))
    # A seed that came from another partition has left its synthetic records there: they are these.
    own = {candidate.synthetic_id for candidate in generated.candidates}
    with store.transaction() as con:
        elsewhere = kept_elsewhere(con, partition_key, own)
    verdicts = _without_repeats(verdicts, elsewhere, "near_duplicate", settings)
    verdicts = _without_repeats(verdicts, pool_texts(store), "pool_duplicate", settings)
    verdicts = _without_repetitions(verdicts, settings)
    if judge and settings.judge:
        least = settings.judge.min_score
        said, counts.judge = _asked(store, judge, partition_key, _kept(verdicts), _judged, occasion, progress)
        verdicts = _settled(verdicts, said, lambda verdict, row: _by_judge(verdict, row, least))
    if blind:
        said, counts.round_trip = _asked(store, blind, partition_key, _kept(verdicts), _unmarked, occasion, progress)
        verdicts = _settled(verdicts, said, _by_round_trip)

    compared = own.union(synthetic_id for synthetic_id, _ in elsewhere)
    with store.transaction() as con:
        late = kept_elsewhere(con, partition_key, compared)  # by another run, in the meantime
        verdicts = _without_repeats(verdicts, late, "near_duplicate", settings)
        _count(verdicts, counts)
        _write(store, con, verdicts, partition_key, [a.name for a in (judge, blind) if a], occasion.run_id)
        store.record_stage(con, STAGE, partition_key, counts.facts(), occasion.run_id)
    return counts


def kept_records(store: Store, partition_key: str | None = None) -> pl.DataFrame:
    """The synthetic records that passed all checks, of one partition or of all: synthetic_id, content_hash, content,
    value, label, judge_score; in the order of their ids."""
    return store.query(
        "SELECT synthetic_id, content_hash, content, value, label, judge_score FROM synthetic_records "
        "WHERE state = 'kept' AND ($partition IS NULL OR partition_key = $partition) ORDER BY synthetic_id",
        {"partition": partition_key},
    )


# -- the checks --------------------------------------------------------------------------------------------------------


def _by_rules(candidates: Sequence[Candidate], rules: Rules) -> list[Verdict]:
    verdicts = []
    for candidate in candidates:
        fault = rules.fault(candidate)
        verdict = Verdict(candidate)
        verdicts.append(verdict.dropped(fault.reason, fault.problem) if fault else verdict)
    return verdicts


def _without_repeats(
    verdicts: Sequence[Verdict], pool: Sequence[tuple[str, str]], reason: str, settings: Synthetic
) -> list[Verdict]:
    """The verdicts with those dropped that say nearly what one of a pool says, given as (id, text)."""
    left = _kept(verdicts)
    texts = [text for _, text in pool]
    twins = repeats_of_pool(
        [v.candidate.main for v in left], texts, threshold=settings.near_duplicate, rouge_l=settings.rouge_l
    )
    return _with_twins(verdicts, left, twins, [id for id, _ in pool], reason)


def _without_repetitions(verdicts: Sequence[Verdict], settings: Synthetic) -> list[Verdict]:
    """The verdicts with those dropped that say nearly what an earlier one says."""
    left = _kept(verdicts)
    twins = repeats_among([v.candidate.main for v in left], threshold=settings.near_duplicate, rouge_l=settings.rouge_l)
    return _with_twins(verdicts, left, twins, [v.candidate.synthetic_id for v in left], "near_duplicate")


def _with_twins(
    verdicts: Sequence[Verdict],
    compared: Sequence[Verdict],
    twins: Sequence[Twin | None],
    others: Sequence[str],
    reason: str,
) -> list[Verdict]:
    """The verdicts with those dropped that have a twin; its id is in `others`."""
    kind = "record" if reason == "pool_duplicate" else "synthetic record"
    dropped = {}
    for verdict, twin in zip(compared, twins, strict=True):
        if twin:
            other = others[twin.index]
            dropped[verdict.candidate.synthetic_id] = verdict.dropped(
                reason,
                f"it says nearly what the {kind} {other} says",
                near_duplicate_of=other,
                similarity=twin.similarity,
            )
    return [dropped.get(verdict.candidate.synthetic_id, verdict) for verdict in verdicts]


def _asked(
    store: Store,
    annotator: Annotator,
    partition_key: str,
    verdicts: Sequence[Verdict],
    shown: Callable[[Candidate], Content],
    occasion: Occasion,
    progress: Progress | None,
) -> tuple[dict[str, dict[str, Any]], AnnotationCounts]:
    """What an annotator says of candidates as they are shown to it, by synthetic_id."""
    contents = [shown(verdict.candidate).stored for verdict in verdicts]
    frame = pl.DataFrame(
        {"record_id": [v.candidate.synthetic_id for v in verdicts], "content": contents},
        schema={"record_id": pl.String, "content": pl.String},
    )
    wanted = Wanted.of_frame(frame.with_columns(content_hashes(frame["content"])))
    counts = annotate(
        store, annotator, wanted, partition_key, table="synthetic_annotations", occasion=occasion, progress=progress
    )
    rows = store.query(
        f"SELECT record_id, state, label, problem FROM {_ANNOTATIONS} WHERE partition_key = ? AND annotator = ?",
        [partition_key, annotator.name],
    )
    return {row["record_id"]: row for row in rows.iter_rows(named=True)}, counts


def _settled(
    verdicts: Sequence[Verdict],
    said: Mapping[str, dict[str, Any]],
    settle: Callable[[Verdict, dict[str, Any]], Verdict],
) -> list[Verdict]:
    return [
        settle(verdict, said[verdict.candidate.synthetic_id]) if verdict.state == "kept" else verdict
        for verdict in verdicts
    ]


def _judged(candidate: Candidate) -> Content:
    """What the judge sees: the entry, and what the seed asked for."""
    assert candidate.content
    return with_wanted(candidate.content, {k: v for k, v in candidate.entry.items() if k in ("attributes", "label")})


def _unmarked(candidate: Candidate) -> Content:
    """What the blind annotator sees: the text alone."""
    assert candidate.content
    return candidate.content


def _by_judge(verdict: Verdict, row: Mapping[str, Any], least: float) -> Verdict:
    if row["state"] in UNANSWERED:
        return replace(verdict, state="waiting", reason="judge", problem=row["problem"])
    if row["state"] != "labelled":
        return verdict.dropped("not_judged", f"the judge gave no score ({row['state']}): {row['problem']}")
    score = float(row["label"])
    if score < least:
        return verdict.dropped("judge", f"the judge's score {score:g} is below {least:g}", judge_score=score)
    return replace(verdict, judge_score=score)


def _by_round_trip(verdict: Verdict, row: Mapping[str, Any]) -> Verdict:
    if row["state"] in UNANSWERED:
        return replace(verdict, state="waiting", reason="round_trip", problem=row["problem"])
    if row["state"] != "labelled":
        return verdict.dropped("round_trip", f"it was given no label blind ({row['state']}): {row['problem']}")
    wanted, given = verdict.candidate.label, str(row["label"])
    if given != wanted:
        return verdict.dropped(
            "round_trip", f"{wanted!r} was wanted, and blind it was labelled {given!r}", round_trip_label=given
        )
    return replace(verdict, round_trip_label=given)


def _kept(verdicts: Sequence[Verdict]) -> list[Verdict]:
    return [verdict for verdict in verdicts if verdict.state == "kept"]


# -- the table ---------------------------------------------------------------------------------------------------------


def _count(verdicts: Sequence[Verdict], counts: SyntheticCounts) -> None:
    for verdict in verdicts:
        if verdict.state == "dropped":
            counts.dropped[verdict.reason or ""] += 1
    counts.kept = len(_kept(verdicts))
    counts.waiting = sum(verdict.state == "waiting" for verdict in verdicts)
    counts.labels = dict(Counter(v.candidate.label for v in _kept(verdicts) if v.candidate.label is not None))


def _write(
    store: Store,
    con: duckdb.DuckDBPyConnection,
    verdicts: Sequence[Verdict],
    partition_key: str,
    checkers: Sequence[str],
    run_id: str | None,
) -> None:
    """Leave the rows of these verdicts alone in the partition; only those that differ are written."""
    frame = _rows(verdicts, partition_key)
    ids, names = frame.select("synthetic_id"), pl.DataFrame({"annotator": checkers}, schema={"annotator": pl.String})
    before = store.frame(con, "SELECT * FROM synthetic_records WHERE partition_key = ?", [partition_key])
    changed = frame.join(before, on=frame.columns, how="anti", nulls_equal=True).with_columns(
        checked_at=pl.lit(datetime.now(UTC)), run_id=pl.lit(run_id, dtype=pl.String)
    )
    with registered(con, written=ids, checkers=names):
        con.execute(
            "DELETE FROM synthetic_records WHERE partition_key = ? "
            "AND synthetic_id NOT IN (SELECT synthetic_id FROM written)",
            [partition_key],
        )
        con.execute(
            f"DELETE FROM {_ANNOTATIONS} WHERE partition_key = ? AND annotator NOT IN (SELECT annotator FROM checkers)",
            [partition_key],
        )
    store.upsert(con, "synthetic_records", changed)


def _rows(verdicts: Sequence[Verdict], partition_key: str) -> pl.DataFrame:
    """The rows of synthetic_records, without the time of the check."""
    candidates = [verdict.candidate for verdict in verdicts]
    text: dict[str, Any] = {"dtype": pl.String}
    number: dict[str, Any] = {"dtype": pl.Float64}
    contents = pl.Series([c.content.stored if c.content else "" for c in candidates], **text)
    return pl.DataFrame(
        {
            "synthetic_id": pl.Series([c.synthetic_id for c in candidates], **text),
            "seed_record_id": pl.Series([c.seed_record_id for c in candidates], **text),
            "content_hash": content_hashes(contents),
            "content": contents,
            "value": pl.Series([canonical_json(c.entry) for c in candidates], **text),
            "label": pl.Series([c.label for c in candidates], **text),
            "state": pl.Series([v.state for v in verdicts], **text),
            "reason": pl.Series([v.reason for v in verdicts], **text),
            "problem": pl.Series([v.problem for v in verdicts], **text),
            "judge_score": pl.Series([v.judge_score for v in verdicts], **number),
            "round_trip_label": pl.Series([v.round_trip_label for v in verdicts], **text),
            "near_duplicate_of": pl.Series([v.near_duplicate_of for v in verdicts], **text),
            "similarity": pl.Series([v.similarity for v in verdicts], **number),
            "annotator": pl.Series([c.annotator for c in candidates], **text),
            "generated_at": pl.Series([c.generated_at for c in candidates], dtype=pl.Datetime("us", "UTC")),
        }
    ).with_columns(synthetic=pl.lit(True), partition_key=pl.lit(partition_key))
