"""Before anything is spent: how many calls, tokens and dollars a run would take, and what would be sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from annotation_pipelines.annotators.base import Annotator, Request
from annotation_pipelines.annotators.factory import make_panel
from annotation_pipelines.annotators.panel import Panel
from annotation_pipelines.annotators.passes import resumed
from annotation_pipelines.annotators.pending import Pending, Wanted
from annotation_pipelines.annotators.spending.forecast import Forecast, experience, forecast, total
from annotation_pipelines.partitions import Calendar, Window
from annotation_pipelines.project import Project
from annotation_pipelines.selection.acquisition import choose
from annotation_pipelines.selection.select import not_asked_about
from annotation_pipelines.sources.gold import gather_human_labels
from annotation_pipelines.sources.ingest import read_records
from annotation_pipelines.store.database import Store

_COMPUTED_HERE = Forecast(0, 0, 0, 0.0, "computed on this machine")
_NOTHING = Forecast(0, 0, 0, 0.0, "nothing is to be asked")


@dataclass(frozen=True)
class MemberPlan:
    """What one annotator would do.

    Attributes:
        records: Records that need its label.
        from_ledger: Of these, those that the ledger has all replies about.
        in_batches: Of these, those that an open batch has.
        forecast: What the others take.
        prompt: The first request as it would be sent, if there is one and it leaves this machine.
    """

    annotator: str
    records: int
    from_ledger: int
    forecast: Forecast
    prompt: str | None = None
    in_batches: int = 0


@dataclass(frozen=True)
class Plan:
    """What a run would do.

    Attributes:
        not_ingested: Of the records to label, those that the store does not have yet, or has with another content.
        members: One an annotator.
        at_most: Whether it is an upper bound: of a cascade it is not known what will be uncertain.
    """

    not_ingested: int
    members: Sequence[MemberPlan]
    at_most: bool

    @property
    def total(self) -> Forecast:
        """All annotators together."""
        return total([member.forecast for member in self.members])


def plan_run(
    store: Store, project: Project, partitions: Sequence[str] | None = None, *, now: datetime | None = None
) -> Plan:
    """What a run over some partitions would take; nothing is sent.

    Args:
        partitions: Default: all that exist, and the held-out records that a training run lets the annotator label.

    Raises:
        SourceError: The source cannot be read.
        DeclarationError: The declaration cannot be used.
    """
    gather_human_labels(store, project)
    keys = partitions or Calendar(project.declaration.partitions).keys(now or datetime.now(UTC))
    live = _live(store, project, keys)
    chosen, aside = _chosen(store, project, live)
    known = store.query("SELECT record_id, content_hash FROM records WHERE deleted_at IS NULL")
    not_ingested = chosen.join(known, on=["record_id", "content_hash"], how="anti").height
    wanted = _wanted(project, chosen, aside, held_out=not partitions)
    return plan_calls(store, make_panel(project, store), wanted, not_ingested=not_ingested)


def plan_calls(store: Store, panel: Panel, wanted: Wanted, *, not_ingested: int = 0) -> Plan:
    """What the labels of some records would take."""
    cascade = len(panel.members) > 1 and panel.settings.combine == "cascade"
    table = "llm_labels" if len(panel.members) == 1 else "llm_votes"
    members = []
    for member in panel.members:
        members.append(_member(store, member, wanted, table, panel.task.views))
        if cascade:
            wanted = panel.undecided(wanted, member)
    return Plan(not_ingested, members, at_most=cascade)


def _member(store: Store, annotator: Annotator, wanted: Wanted, table: str, views: int) -> MemberPlan:
    calls = prompt_bytes = content_bytes = from_ledger = in_batches = 0
    first: Request | None = None
    seen: set[str] = set()
    with Pending(store, wanted, table=table, annotator=annotator.name, fingerprint=annotator.fingerprint) as pending:
        for chunk in pending.chunks():
            conversations = resumed(store, annotator, annotator.requests(chunk))
            waiting = _waiting(store, annotator, [c.request.key for c in conversations if c.request])
            for conversation, content in zip(conversations, chunk["content"], strict=True):
                request = conversation.request
                if request is None:
                    from_ledger += 1
                    continue
                # A request in each view that is still to be shown: all of about the same length.
                left = views - request.body.view if annotator.endpoint else 1
                if request.key in waiting:
                    in_batches += 1
                    left -= 1
                elif request.key not in seen:
                    first = first or request
                if request.key not in seen:
                    seen.add(request.key)
                    calls += left
                    content_bytes += left * len(content.encode())
                    prompt_bytes += left * len(request.body.messages) if annotator.endpoint else 0
        records = len(pending)
    return MemberPlan(
        annotator.name,
        records,
        from_ledger,
        _forecast(store, annotator, calls, prompt_bytes, content_bytes),
        _prompt(annotator, first),
        in_batches,
    )


def _waiting(store: Store, annotator: Annotator, keys: Sequence[str]) -> set[str]:
    """Of these requests, those that are paid for and wait for a batch."""
    from annotation_pipelines.annotators.endpoint.batch_rows import waiting

    return waiting(store, keys) if annotator.endpoint else set()


def _forecast(store: Store, annotator: Annotator, calls: int, prompt_bytes: int, content_bytes: int) -> Forecast:
    from annotation_pipelines.annotators.endpoint.annotator import OpenAIAnnotator

    if not isinstance(annotator, OpenAIAnnotator):
        return _COMPUTED_HERE
    if not calls:
        return _NOTHING
    return forecast(
        annotator.settings,
        annotator.price,
        experience(store, annotator.name, annotator.fingerprint),
        requests=calls,
        prompt_bytes=prompt_bytes,
        content_bytes=content_bytes,
        answer_tokens=annotator.expected_tokens,
    )


def _prompt(annotator: Annotator, request: Request | None) -> str | None:
    from annotation_pipelines.annotators.endpoint.annotator import OpenAIAnnotator

    if request is None or not isinstance(annotator, OpenAIAnnotator):
        return None
    annotator.recall()
    return annotator.batch_line(request).decode()


def _chosen(store: Store, project: Project, live: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The records that a run would choose, and the held-out ones that the strategy sets aside, of those there are."""
    selection = project.declaration.selection
    people = store.query("SELECT record_id, role FROM human_labels")
    earlier = store.query("SELECT record_id FROM selected_records WHERE state = 'selected'")
    not_asked = not_asked_about(people, earlier, selection.strategy)
    candidates = live.join(not_asked, on="record_id", how="anti")
    # How many there will be is known; which ones a student or vectors would choose is not: a draw stands for them.
    chosen = [
        choose(
            group,
            already_selected=earlier["record_id"],
            strategy=selection.strategy,
            budget=selection.budget,
            seed=selection.seed,
        ).filter(pl.col("state") == "selected")
        for group in candidates.partition_by("partition_key")
    ]
    ids = pl.concat(chosen) if chosen else candidates
    columns = ("record_id", "content_hash", "content")
    return (
        candidates.join(ids, on="record_id", how="semi").select(columns),
        live.join(not_asked.filter(pl.col("role") == "evaluation"), on="record_id", how="semi").select(columns),
    )


def _live(store: Store, project: Project, keys: Sequence[str]) -> pl.DataFrame:
    """The records that the store would have after an ingest: record_id, content_hash, content, partition_key."""
    columns = ["record_id", "content_hash", "content", "partition_key"]
    calendar = Calendar(project.declaration.partitions)
    found = read_records(project, _span(calendar, keys)).records
    found = found.filter(pl.col("partition_key").is_in(list(keys))).select(columns)
    if project.declaration.source.on_delete == "drop":
        return found
    kept = store.query(
        "SELECT record_id, content_hash, content, partition_key FROM records "
        "WHERE deleted_at IS NULL AND partition_key IN (SELECT key FROM planned)",
        planned=pl.DataFrame({"key": list(keys)}, schema={"key": pl.String}),
    )
    return pl.concat([found, kept.join(found, on="record_id", how="anti")])


def _span(calendar: Calendar, keys: Sequence[str]) -> Window:
    """From the first of some partitions to the last; open where there are none."""
    windows = [calendar.window(key) for key in keys]
    starts, ends = [start for start, _ in windows if start], [end for _, end in windows if end]
    return min(starts, default=None), max(ends, default=None)


def _wanted(project: Project, chosen: pl.DataFrame, aside: pl.DataFrame, *, held_out: bool) -> Wanted:
    evaluation = project.declaration.evaluation
    if not held_out or evaluation is None or not evaluation.teacher:
        return Wanted("SELECT * FROM chosen", {"chosen": chosen})
    # What a run has set aside already is among the held-out ones: a record counts once.
    also = f"UNION {Wanted.held_out().sql} UNION SELECT * FROM aside"
    return Wanted(f"SELECT * FROM chosen {also}", {"chosen": chosen, "aside": aside})
