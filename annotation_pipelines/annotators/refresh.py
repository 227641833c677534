"""What a refresh has to do: which partitions the source or the declaration has changed."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl

from annotation_pipelines.annotators.factory import make_panel
from annotation_pipelines.partitions import Calendar
from annotation_pipelines.project import Project
from annotation_pipelines.selection.round_history import open_partitions
from annotation_pipelines.sources.gold import gather_human_labels
from annotation_pipelines.sources.ingest import plan_refresh
from annotation_pipelines.store.database import Store
from annotation_pipelines.tasks.base import UNANSWERED

_COUNTS = ("new", "changed", "deleted", "stale")


def plan(store: Store, project: Project, refresh_id: str, *, now: datetime | None = None) -> pl.DataFrame:
    """Find the partitions that need work and keep the plan.

    A partition needs work when the source has new, changed or deleted records in it, when a selected record of it has
    no label, or one from another declaration, or when a round of selection is still to be run in it.

    Returns:
        One row a partition: partition_key, new, changed, deleted, stale.
    """
    now = now or datetime.now(UTC)
    gather_human_labels(store, project)
    from_source = plan_refresh(store, project, now=now)
    panel = make_panel(project, store)
    stale = unlabelled(store, panel.name, panel.fingerprint)
    existing = Calendar(project.declaration.partitions).keys(now)
    unfinished = pl.DataFrame({"partition_key": open_partitions(store, project)}, schema={"partition_key": pl.String})
    touched = (
        from_source.join(stale, on="partition_key", how="full", coalesce=True)
        .join(unfinished, on="partition_key", how="full", coalesce=True)
        .with_columns(pl.col(_COUNTS).fill_null(0))
        .filter(pl.col("partition_key").is_in(existing))
        .select("partition_key", *_COUNTS)
        .sort("partition_key")
    )
    rows = touched.with_columns(pl.lit(refresh_id).alias("refresh_id"), pl.lit(now).alias("planned_at"))
    with store.transaction() as con:
        store.replace(con, "refresh_plans", rows, refresh_id=refresh_id)
    return touched


def unlabelled(store: Store, annotator: str, fingerprint: str) -> pl.DataFrame:
    """How many records of each partition need the annotator: partition_key, stale.

    Records whose batch is open do not: its replies ask for a run when they are there. Of a jury, records count for
    which a vote is missing.
    """
    return store.query(
        f"""
        WITH awaited AS (
            SELECT request_key FROM batch_requests JOIN llm_batches USING (batch_id) WHERE harvested_at IS NULL
        ),
        unanswered AS (
            SELECT record_id FROM (
                SELECT record_id, state, request_key FROM llm_votes
                UNION ALL SELECT record_id, state, request_key FROM llm_labels WHERE annotator = $annotator
            )
            WHERE state IN {UNANSWERED} AND NOT (state = 'submitted' AND coalesce(request_key IN (FROM awaited), true))
        )
        SELECT r.partition_key, count(*) AS stale
        FROM records r
        LEFT JOIN selected_records s USING (record_id)
        LEFT JOIN llm_labels l ON l.record_id = r.record_id AND l.annotator = $annotator
        WHERE r.deleted_at IS NULL
          AND (s.record_id IS NULL
               OR (s.state = 'selected'
                   AND (l.record_id IS NULL OR l.content_hash <> r.content_hash OR l.fingerprint <> $fingerprint
                        OR r.record_id IN (FROM unanswered))))
        GROUP BY r.partition_key
        """,
        {"annotator": annotator, "fingerprint": fingerprint},
    )
