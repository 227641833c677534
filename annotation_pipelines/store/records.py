"""What stages read of the records that are live."""

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
