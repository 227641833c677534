"""Before anything is spent: how many calls, tokens and dollars a run would take, and what would be sent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from annotation_pipelines.annotators.base import Annotator, Request
from annotation_pipelines.annotators.factory import make_panel
from annotation_pipelines.annotators.panel import Panel
from annotation_pipelines.annotators.pending import Pending, Wanted
from annotation_pipelines.annotators.spending.forecast import Forecast, experience, forecast, total
from annotation_pipelines.partitions import Calendar, Window
from annotation_pipelines.project import Project
from annotation_pipelines.sources.gold import gather_human_labels
from annotation_pipelines.sources.ingest import read_records
from annotation_pipelines.store.database import Store
from annotation_pipelines.store.ledger import find_replies

_NOTHING = Forecast(0, 0, 0, 0.0, "computed on this machine")


@dataclass(frozen=True)
class MemberPlan:
    """What one annotator would do.

    Attributes:
        records: Records that need its label.
        from_ledger: Of these, those whose first reply the ledger has.
        forecast: What the others take.
        prompt: The first request as it would be sent, if there is one and it leaves this machine.
    """

    annotator: str
    records: int
    from_ledger: int
    forecast: Forecast
    prompt: str | None = None


@dataclass(frozen=True)
class Plan:
    """What a run would do.

    Attributes:
        not_ingested: Records of the source that the store does not have yet, or has with another content; they are
            part of the plan as far as the selection takes them.
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
    fresh = _not_ingested(store, project, keys)
    wanted = _wanted(project, keys, fresh, held_out=not partitions)
    return plan_calls(store, make_panel(project, store), wanted, not_ingested=fresh.height)


def plan_calls(store: Store, panel: Panel, wanted: Wanted, *, not_ingested: int = 0) -> Plan:
    """What the labels of some records would take."""
    table = "llm_labels" if len(panel.members) == 1 else "llm_votes"
    members = [_member(store, member, wanted, table) for member in panel.members]
    return Plan(not_ingested, members, at_most=table == "llm_votes" and panel.settings.combine == "cascade")


def _member(store: Store, annotator: Annotator, wanted: Wanted, table: str) -> MemberPlan:
    calls = prompt_bytes = content_bytes = from_ledger = 0
    first: Request | None = None
    seen: set[str] = set()
    with Pending(store, wanted, table=table, annotator=annotator.name, fingerprint=annotator.fingerprint) as pending:
        for chunk, requests in _rendered(pending, annotator):
            known = set(find_replies(store, [request.key for request in requests])["request_key"])
            for request, content in zip(requests, chunk["content"], strict=True):
                if request.key in known:
                    from_ledger += 1
                elif request.key not in seen:
                    seen.add(request.key)
                    first = first or request
                    calls += 1
                    content_bytes += len(content.encode())
                    prompt_bytes += len(request.body.messages) if annotator.endpoint else 0
        records = len(pending)
    return MemberPlan(
        annotator.name,
        records,
        from_ledger,
        _forecast(store, annotator, calls, prompt_bytes, content_bytes),
        _prompt(annotator, first),
    )


def _rendered(pending: Pending, annotator: Annotator) -> Iterator[tuple[pl.DataFrame, list[Request]]]:
    for chunk in pending.chunks():
        yield chunk, annotator.requests(chunk)


def _forecast(store: Store, annotator: Annotator, calls: int, prompt_bytes: int, content_bytes: int) -> Forecast:
    from annotation_pipelines.annotators.endpoint.annotator import OpenAIAnnotator

    if not isinstance(annotator, OpenAIAnnotator):
        return _NOTHING
    return forecast(
        annotator.settings,
        annotator.price,
        experience(store, annotator.name, annotator.fingerprint),
        requests=calls,
        prompt_bytes=prompt_bytes,
        content_bytes=content_bytes,
    )


def _prompt(annotator: Annotator, request: Request | None) -> str | None:
    from annotation_pipelines.annotators.endpoint.annotator import OpenAIAnnotator

    if request is None or not isinstance(annotator, OpenAIAnnotator):
        return None
    return annotator.batch_line(request).decode()


def _not_ingested(store: Store, project: Project, keys: Sequence[str]) -> pl.DataFrame:
    """Records of the source that would be asked about and that the store does not have so: as `Wanted` reads them."""
    selection = project.declaration.selection
    calendar = Calendar(project.declaration.partitions)
    found = read_records(project, _span(calendar, keys)).records.filter(pl.col("partition_key").is_in(list(keys)))
    known = store.query("SELECT record_id, content_hash FROM records WHERE deleted_at IS NULL")
    people = store.query("SELECT record_id FROM human_labels WHERE role IN ('demonstration', 'training')")
    fresh = found.join(known, on=["record_id", "content_hash"], how="anti").join(people, on="record_id", how="anti")
    if selection.per_partition:
        fresh = fresh.filter(pl.int_range(pl.len()).over("partition_key") < selection.per_partition)
    return fresh.select("record_id", "content_hash", "content")


def _span(calendar: Calendar, keys: Sequence[str]) -> Window:
    """From the first of some partitions to the last; open where there are none."""
    windows = [calendar.window(key) for key in keys]
    starts, ends = [start for start, _ in windows if start], [end for _, end in windows if end]
    return min(starts, default=None), max(ends, default=None)


def _wanted(project: Project, keys: Sequence[str], fresh: pl.DataFrame, *, held_out: bool) -> Wanted:
    evaluation = project.declaration.evaluation
    also = f"UNION ALL {Wanted.held_out().sql}" if held_out and evaluation and evaluation.teacher else ""
    return Wanted(
        f"""
        SELECT r.record_id, r.content_hash, r.content
        FROM selected_records s JOIN records r USING (record_id)
        WHERE s.partition_key IN (SELECT key FROM planned_partitions) AND s.state = 'selected'
              AND r.deleted_at IS NULL AND r.record_id NOT IN (SELECT record_id FROM not_ingested)
        UNION ALL SELECT record_id, content_hash, content FROM not_ingested
        {also}
        """,
        {"planned_partitions": pl.DataFrame({"key": list(keys)}, schema={"key": pl.String}), "not_ingested": fresh},
    )
