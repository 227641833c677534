"""From the source into the store: what is new, changed, moved, restored, deleted; and which partitions that touches.

The source is read outside any connection; then one transaction compares it with `records`, and writes only what
differs. A record that the source gives for one partition while the store has it, newer, in another one stays there:
so an old copy, read alone, does not win. A source that was read whole knows better, and its word counts.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime

import duckdb
import polars as pl

from annotation_pipelines.partitions import Calendar, Window
from annotation_pipelines.project import Project
from annotation_pipelines.sources.records import DUPLICATE, UNPLACED, Records, to_records
from annotation_pipelines.sources.rows import read_rows, reads_whole_source
from annotation_pipelines.store.database import Store

STAGE = "raw_records"

_COMPARE = """
SELECT i.record_id, i.partition_key, r.partition_key AS stored_in, r.deleted_at IS NULL AS live, CASE
    WHEN r.record_id IS NULL THEN 'new'
    WHEN r.partition_key <> i.partition_key AND r.deleted_at IS NULL AND r.event_time > i.event_time
        AND NOT $whole THEN 'older'
    WHEN r.partition_key <> i.partition_key THEN 'moved'
    WHEN r.deleted_at IS NOT NULL THEN 'restored'
    WHEN r.content_hash <> i.content_hash THEN 'changed'
    WHEN r.attributes::VARCHAR IS DISTINCT FROM i.attributes OR r.gold IS DISTINCT FROM i.gold
        OR r.event_time IS DISTINCT FROM i.event_time OR (i.synthetic AND r.synthetic IS NOT TRUE) THEN 'updated'
    ELSE 'unchanged' END AS state
FROM incoming i LEFT JOIN records r USING (record_id)
"""
_WRITE = """
INSERT INTO records (record_id, content_hash, content, attributes, event_time, partition_key, gold, first_seen,
    updated_at, deleted_at, synthetic)
SELECT record_id, content_hash, content, attributes, event_time, partition_key, gold, $now, $now, NULL, synthetic
FROM incoming
ON CONFLICT (record_id) DO UPDATE SET
    content_hash = excluded.content_hash, content = excluded.content, attributes = excluded.attributes,
    event_time = excluded.event_time, partition_key = excluded.partition_key, gold = excluded.gold,
    updated_at = CASE WHEN content_hash = excluded.content_hash
        AND attributes::VARCHAR IS NOT DISTINCT FROM excluded.attributes::VARCHAR
        AND gold IS NOT DISTINCT FROM excluded.gold AND event_time IS NOT DISTINCT FROM excluded.event_time
        THEN updated_at ELSE excluded.updated_at END,
    deleted_at = NULL, synthetic = synthetic OR excluded.synthetic
"""
# Once synthetic, for ever: a source that says otherwise later does not take the mark away.
_DELETE = """
UPDATE records SET deleted_at = $now
WHERE partition_key = $partition AND deleted_at IS NULL AND record_id NOT IN (SELECT record_id FROM incoming)
"""
_PLAN_SCHEMA = {"partition_key": pl.String, "new": pl.Int64, "changed": pl.Int64, "deleted": pl.Int64}


@dataclass(frozen=True)
class IngestCounts:
    """What one ingest of one partition found.

    `rows` = `records` + the rejected rows, without the notes on unknown labels. `records` = new + changed + updated +
    moved + restored + unchanged. `read` = `rows` + unplaced + `elsewhere`.

    Attributes:
        read: Rows that the source gave.
        rows: Rows of this partition.
        records: Records of this partition.
        new: Not seen before.
        changed: With another content.
        updated: With the same content, but another event time, gold label or attributes.
        moved: That were in another partition.
        restored: That had been deleted.
        unchanged: Not written.
        deleted: Which the source no longer has here; with on_delete: keep always 0.
        same_content: Records with the content of another one of the partition: an annotator is asked about it once.
        rejected: Rows of this partition that did not become records, and unknown labels, by reason.
        unplaced: Rows without a partition, by reason.
        elsewhere: Rows of other partitions.
    """

    read: int
    rows: int
    records: int
    new: int = 0
    changed: int = 0
    updated: int = 0
    moved: int = 0
    restored: int = 0
    unchanged: int = 0
    deleted: int = 0
    same_content: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    unplaced: dict[str, int] = field(default_factory=dict)
    elsewhere: int = 0

    def facts(self) -> dict[str, int]:
        """The counts, flat: name to number."""
        facts = {name: value for name, value in asdict(self).items() if isinstance(value, int)}
        facts |= {f"rejected_{reason}": count for reason, count in self.rejected.items()}
        return facts | {f"unplaced_{reason}": count for reason, count in self.unplaced.items()}


def ingest(
    store: Store, project: Project, partition_key: str, run_id: str | None = None, now: datetime | None = None
) -> IngestCounts:
    """Bring the records of a partition up to date with the source.

    Rows that are no records replace the partition's `rejected_records`; those that have no partition are kept under
    the key "" and replaced by every ingest.

    Args:
        store: The project's store.
        project: The project.
        partition_key: The partition; "all" without partitions.
        run_id: The Dagster run, kept with the counts.
        now: The time of the ingest; default: the clock's.

    Raises:
        SourceError: The source cannot be read, lacks a column, or there is no such partition. Nothing was written.
    """
    now = now or datetime.now(UTC)
    found = read_records(project, Calendar(project.declaration.partitions).window(partition_key))
    here, unplaced = found.of_partition(partition_key), found.rejected.filter(pl.col("partition_key") == UNPLACED)
    elsewhere = len(found.rows) - len(here.records) - len(here.dropped) - len(unplaced)
    whole = reads_whole_source(project)
    with store.transaction() as con:
        states = _compare(con, here.records, whole=whole)
        older = states.filter(pl.col("state") == "older")["record_id"]
        if len(older):
            here = here.without(older, DUPLICATE)
        deleted = 0
        if project.declaration.source.on_delete == "drop":
            deleted = _execute(con, _DELETE, here.records.select("record_id"), now=now, partition=partition_key)
        touched = states.filter(~pl.col("state").is_in(["unchanged", "older"]))
        if len(touched):
            _execute(con, _WRITE, here.records.join(touched, on="record_id", how="semi"), now=now)
        seen = pl.lit(now).alias("seen_at")
        for rejected, key in ((here.rejected, partition_key), (unplaced, UNPLACED)):
            store.replace(con, "rejected_records", rejected.with_columns(seen), partition_key=key)
        counts = IngestCounts(
            read=len(found.rows),
            rows=len(here.records) + len(here.dropped),
            records=len(here.records),
            deleted=deleted,
            same_content=len(here.records) - here.records["content_hash"].n_unique(),
            rejected=_counted(here.rejected["reason"]),
            unplaced=_counted(unplaced["reason"]),
            elsewhere=elsewhere,
            **{state: n for state, n in _counted(states["state"]).items() if state != "older"},
        )
        store.record_stage(con, STAGE, partition_key, counts.facts(), run_id)
    return counts


def plan_refresh(store: Store, project: Project, now: datetime | None = None) -> pl.DataFrame:
    """Which partitions the source has changed since they were last ingested.

    Args:
        store: The project's store.
        project: The project.
        now: The moment that decides which partitions exist; default: the clock's.

    Returns:
        One row a partition that exists and is touched, sorted: partition_key; new; changed (in content, attributes,
        gold, event time or partition, or back again); deleted (or moved to another partition).

    Raises:
        SourceError: The source cannot be read, or lacks a column.
    """
    now = now or datetime.now(UTC)
    calendar = Calendar(project.declaration.partitions)
    existing = pl.Series("partition_key", calendar.keys(now), pl.String)
    if existing.is_empty():
        return pl.DataFrame(schema=_PLAN_SCHEMA)
    # Up to the end of the last partition, not to now: the running one may hold a record whose clock is ahead.
    records = read_records(project, (calendar.start, calendar.window(existing[-1])[1])).records
    records = records.filter(pl.col("partition_key").is_in(existing.implode()))
    with store.transaction() as con:
        states = _compare(con, records, whole=True)
        stored = store.frame(con, "SELECT record_id, partition_key FROM records WHERE deleted_at IS NULL")
    kind = pl.col("state").replace_strict({"new": "new", "unchanged": None}, default="changed", return_dtype=pl.String)
    kinds = [states.select("partition_key", kind=kind)]
    moved = states.filter((pl.col("state") == "moved") & pl.col("live"))
    kinds.append(moved.select(partition_key="stored_in", kind=pl.lit("deleted")))
    if project.declaration.source.on_delete == "drop":
        gone = stored.join(states, on="record_id", how="anti")
        kinds.append(gone.select("partition_key", kind=pl.lit("deleted")))
    return (
        pl.concat(kinds)
        .filter(pl.col("kind").is_not_null() & pl.col("partition_key").is_in(existing.implode()))
        .group_by("partition_key")
        .agg((pl.col("kind") == name).sum().cast(pl.Int64).alias(name) for name in list(_PLAN_SCHEMA)[1:])
        .sort("partition_key")
    )


def read_records(project: Project, window: Window | None = None, calendar: Calendar | None = None) -> Records:
    """The source's records, as it has them now.

    Args:
        project: The project.
        window: The part of the source that is wanted; see `read_rows`.
        calendar: The partitions; default: the declared ones.
    """
    declaration = project.declaration
    return to_records(
        read_rows(project, window),
        declaration.source,
        project.task,
        calendar or Calendar(declaration.partitions),
    )


def _compare(con: duckdb.DuckDBPyConnection, records: pl.DataFrame, *, whole: bool) -> pl.DataFrame:
    """record_id, partition_key, stored_in, live, state of every record that the source has."""
    light = records.drop("content")
    return Store.frame(con, _COMPARE, {"whole": whole}, incoming=light)


def _execute(con: duckdb.DuckDBPyConnection, sql: str, incoming: pl.DataFrame, **params: object) -> int:
    """Run a statement over a frame; the number of rows it changed."""
    con.register("incoming", incoming.to_arrow())
    try:
        row = con.execute(sql, params).fetchone()
    finally:
        con.unregister("incoming")
    return int(row[0]) if row else 0


def _counted(values: pl.Series) -> dict[str, int]:
    return dict(sorted(values.value_counts().iter_rows()))
