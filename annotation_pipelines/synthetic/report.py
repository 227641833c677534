"""How diverse the kept synthetic records of a partition are, and how new beside the records there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from annotation_pipelines.content import readable
from annotation_pipelines.store.database import Store
from annotation_pipelines.synthetic.candidates import pool_texts
from annotation_pipelines.synthetic.check import kept_records
from annotation_pipelines.synthetic.diversity import Diversity, diversity

if TYPE_CHECKING:
    from annotation_pipelines.distillation.embedding import Embedder

STAGE = "synthetic_diversity"


def diversity_of(
    store: Store, partition_key: str, embedder: Embedder | None = None, run_id: str | None = None
) -> Diversity:
    """The diversity report of a partition; kept in `stage_runs`, too.

    Args:
        embedder: Gives the vectors for the spread; None leaves it out.

    Raises:
        DeclarationError: The encoder cannot be loaded.
        StoreError: The vectors cannot be written.
    """
    kept = kept_records(store, partition_key)
    texts = [readable(content) for content in kept["content"]]
    vectors = embedder.vectors(kept.select("content_hash", "content")) if embedder and len(kept) > 1 else None
    found = diversity(texts, (text for _, text in pool_texts(store)), vectors)
    with store.transaction() as con:
        store.record_stage(con, STAGE, partition_key, found.facts(), run_id)
    return found


def kept_by_label(store: Store, partition_key: str) -> pl.DataFrame:
    """How many texts were kept for each wanted label: label, kept, generated; in the order of the labels."""
    return store.query(
        "SELECT label, count(*) FILTER (state = 'kept') AS kept, count(*) AS generated FROM synthetic_records "
        "WHERE partition_key = ? AND label IS NOT NULL GROUP BY label ORDER BY label",
        [partition_key],
    )
