"""Who labels a project's records: one annotator, a jury of several, or a cascade from the cheap to the dear.

A single annotator's labels go straight into llm_labels. What each of several says goes into llm_votes; what they make
together is computed from these votes, which costs nothing, and goes into llm_labels under the panel's name.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import polars as pl

from annotation_pipelines.annotators.annotation import annotate, settle
from annotation_pipelines.annotators.base import Annotator, RemoteAnnotator
from annotation_pipelines.annotators.counts import ANY_OCCASION, AnnotationCounts, Occasion
from annotation_pipelines.annotators.passes import Progress, open_purse
from annotation_pipelines.annotators.pending import Wanted, registered
from annotation_pipelines.project import Panel as Settings
from annotation_pipelines.project import digest
from annotation_pipelines.store.database import Store
from annotation_pipelines.tasks.base import UNANSWERED, Annotation, State, Task, Vote

_VALID = ("labelled", "abstained")
_TO_COME = ("submitted", "over_budget")


@dataclass(frozen=True)
class Said:
    """What one annotator says of a record."""

    annotator: str
    annotation: Annotation


@dataclass(frozen=True)
class Panel:
    """The annotators of a project.

    Attributes:
        name: The name under which their labels are in llm_labels.
        members: In the order of the declaration.
        task: What is annotated.
        settings: How several make one label.
    """

    name: str
    members: Sequence[Annotator]
    task: Task
    settings: Settings = field(default_factory=Settings)

    @property
    def fingerprint(self) -> str:
        """Hash of all that decides their labels: a label with another one is stale."""
        if len(self.members) == 1:
            return self.members[0].fingerprint
        return digest({"panel": self.settings, "members": [[m.name, m.fingerprint] for m in self.members]})

    def label(
        self,
        store: Store,
        wanted: Wanted,
        partition_key: str,
        *,
        occasion: Occasion = ANY_OCCASION,
        progress: Progress | None = None,
    ) -> AnnotationCounts:
        """Bring the labels of some records up to date.

        Raises:
            AnnotatorError: An annotator cannot work at all: replies that came before are kept. Or the budget caps money
                and the price of one is unknown: none is asked.
        """
        if len(self.members) == 1:
            return annotate(store, self.members[0], wanted, partition_key, occasion=occasion, progress=progress)
        self._check_prices(store, occasion)
        asked, passes = wanted, []
        for member in self.members:
            passes.append(
                annotate(store, member, asked, partition_key, table="llm_votes", occasion=occasion, progress=progress)
            )
            if self.settings.combine == "cascade":
                asked = self._unsure(asked, member.name)
        self._forget_others(store, partition_key)
        self._combine(store, partition_key, occasion)
        counts = _total(passes)
        counts.states = settle(store, wanted, partition_key, self.name, table="llm_labels", votes=True)
        return counts

    def _check_prices(self, store: Store, occasion: Occasion) -> None:
        """Refuse a budget that cannot be kept to, before the first annotator costs anything."""
        for member in self.members:
            if isinstance(member, RemoteAnnotator) and member.price is None:
                open_purse(store, member, occasion).close()

    def undecided(self, asked: Wanted, member: Annotator) -> Wanted:
        """Of the records that a member of a cascade is to be asked about, those of which it is not known to be sure."""
        name = f"decided_{len(asked.frames)}"
        decided = {
            "annotator": [member.name],
            "fingerprint": [member.fingerprint],
            "confidence": [self.settings.min_confidence],
        }
        return Wanted(
            f"""
            SELECT w.* FROM ({asked.sql}) w WHERE NOT EXISTS (
                SELECT 1 FROM llm_votes v, {name} d
                WHERE v.record_id = w.record_id AND v.content_hash = w.content_hash AND v.annotator = d.annotator
                      AND v.fingerprint = d.fingerprint AND v.state = 'labelled' AND v.confidence >= d.confidence)
            """,
            {**asked.frames, name: pl.DataFrame(decided)},
        )

    def _unsure(self, asked: Wanted, member: str) -> Wanted:
        """Of the records that a member was asked about, those of which it is not sure."""
        name = f"sure_{len(asked.frames)}"
        return Wanted(
            f"""
            SELECT w.* FROM ({asked.sql}) w JOIN llm_votes v USING (record_id), {name} s
            WHERE v.annotator = s.annotator AND v.state NOT IN {UNANSWERED}
                  AND (v.state <> 'labelled' OR v.confidence IS NULL OR v.confidence < s.confidence)
            """,
            {
                **asked.frames,
                name: pl.DataFrame({"annotator": [member], "confidence": [self.settings.min_confidence]}),
            },
        )

    def _forget_others(self, store: Store, partition_key: str) -> None:
        """Remove votes of annotators that the declaration has no more."""
        names = pl.DataFrame({"annotator": [member.name for member in self.members]})
        with store.transaction() as con, registered(con, members=names):
            con.execute(
                "DELETE FROM llm_votes WHERE partition_key = ? AND annotator NOT IN (SELECT annotator FROM members)",
                [partition_key],
            )

    def _combine(self, store: Store, partition_key: str, occasion: Occasion) -> None:
        votes = store.query(
            "SELECT record_id, content_hash, annotator, state, label, confidence, problem, rationale, reused "
            "FROM llm_votes WHERE partition_key = ? ORDER BY record_id",
            [partition_key],
        )
        frame = _rows(votes, [member.name for member in self.members], self.task, self.settings).with_columns(
            pl.lit(partition_key).alias("partition_key"),
            pl.lit(self.name).alias("annotator"),
            pl.lit(self.fingerprint).alias("fingerprint"),
        )
        compared = [c for c in frame.columns if c not in ("reused", "scores")]
        with store.transaction() as con:
            before = store.frame(
                con, "SELECT * FROM llm_labels WHERE partition_key = ? AND annotator = ?", [partition_key, self.name]
            )
            changed = frame.join(before, on=compared, how="anti", nulls_equal=True).with_columns(
                pl.lit(datetime.now(UTC)).alias("labelled_at"),
                pl.lit(occasion.run_id, dtype=pl.String).alias("run_id"),
            )
            store.upsert(con, "llm_labels", changed)


def jury(votes: Sequence[Said], task: Task, weights: Mapping[str, float]) -> Annotation:
    """What the valid votes make together, as the task combines them.

    A vote that is still to come, from a batch or once there is budget again, is waited for; one that failed is not.
    """
    if waiting := next((v.annotation for v in votes if v.annotation.state in _TO_COME), None):
        return waiting
    valid = [Vote(v.annotation, weights.get(v.annotator, 1.0)) for v in votes if v.annotation.state in _VALID]
    return task.combine(valid) if valid else _most_frequent_state(votes)


def cascade(votes: Sequence[Said], min_confidence: float) -> Annotation:
    """The first label that was given with enough confidence; otherwise the last one that was given at all.

    Args:
        votes: In the order in which they were asked for.
    """
    for vote in votes:
        annotation, confidence = vote.annotation, vote.annotation.confidence
        if annotation.state == "labelled" and confidence is not None and confidence >= min_confidence:
            return annotation
    last = votes[-1].annotation
    if last.state in UNANSWERED:
        return last
    given = [vote.annotation for vote in votes if vote.annotation.state == "labelled"]
    return given[-1] if given else last


def _rows(votes: pl.DataFrame, members: Sequence[str], task: Task, settings: Settings) -> pl.DataFrame:
    """The panel's rows of llm_labels, made from the votes on each record."""
    order = {name: index for index, name in enumerate(members)}
    rows: list[dict[str, Any]] = []
    for (record_id, content_hash), group in votes.group_by("record_id", "content_hash", maintain_order=True):
        said = sorted(group.iter_rows(named=True), key=lambda row: order.get(row["annotator"], len(order)))
        given = [
            Said(
                row["annotator"],
                Annotation(
                    row["state"], row["label"], row["confidence"], problem=row["problem"], rationale=row["rationale"]
                ),
            )
            for row in said
        ]
        if settings.combine == "jury":
            made = jury(given, task, settings.weights)
        else:
            made = cascade(given, settings.min_confidence)
        rows.append(
            {
                "record_id": record_id,
                "content_hash": content_hash,
                "state": made.state,
                "label": made.label,
                "confidence": made.confidence,
                "scores": json.dumps(dict(made.scores)) if made.scores else None,
                "problem": made.problem,
                "rationale": made.rationale,
                "reused": all(row["reused"] for row in said),
            }
        )
    schema: dict[str, Any] = dict.fromkeys(
        ("record_id", "content_hash", "state", "label", "confidence", "scores", "problem", "rationale", "reused"),
        pl.String,
    )
    return pl.DataFrame(rows, schema={**schema, "confidence": pl.Float64, "reused": pl.Boolean})


def _most_frequent_state(votes: Sequence[Said]) -> Annotation:
    counts: Counter[State] = Counter(vote.annotation.state for vote in votes)
    state = counts.most_common(1)[0][0]
    return next(vote.annotation for vote in votes if vote.annotation.state == state)


def _total(passes: Sequence[AnnotationCounts]) -> AnnotationCounts:
    """The counts of a panel: of records as the first member met them, of calls and money all together."""
    first = passes[0]
    costs = [counts.cost_usd for counts in passes]
    known = [cost for cost in costs if cost is not None]
    return AnnotationCounts(
        selected=first.selected,
        new=first.new,
        changed=first.changed,
        stale=first.stale,
        retried=first.retried,
        unchanged=first.unchanged,
        from_ledger=first.from_ledger,
        called=sum(counts.called for counts in passes),
        repairs=sum(counts.repairs for counts in passes),
        prompt_tokens=sum(counts.prompt_tokens for counts in passes),
        cached_tokens=sum(counts.cached_tokens for counts in passes),
        completion_tokens=sum(counts.completion_tokens for counts in passes),
        cost_usd=sum(known) if len(known) == len(costs) else None,
        seconds=sum(counts.seconds for counts in passes),
        recovered=sum(counts.recovered for counts in passes),
        damaged=sum(counts.damaged for counts in passes),
    )
