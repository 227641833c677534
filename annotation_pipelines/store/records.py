"""What stages read of the records: those that are live, those that are selected."""

from __future__ import annotations

import polars as pl

from annotation_pipelines.store.database import Store


def live_records(store: Store, partition_key: str | None = None) -> pl.DataFrame:
    """The records that the source still has, of one partition or of all, in the order of their ids."""
    return store.query(
        """
        SELECT record_id, content_hash, content, event_time, partition_key, gold FROM records
        WHERE deleted_at IS NULL AND ($partition IS NULL OR partition_key = $partition)
        ORDER BY record_id
        """,
        {"partition": partition_key},
    )


def records_to_annotate(store: Store, partition_key: str) -> pl.DataFrame:
    """The selected records of a partition with their content: record_id, content_hash, content."""
    return store.query(
        """
        SELECT r.record_id, r.content_hash, r.content
        FROM selected_records s JOIN records r USING (record_id)
        WHERE s.partition_key = ? AND s.state = 'selected' AND r.deleted_at IS NULL
        ORDER BY r.record_id
        """,
        [partition_key],
    )
