"""Bring labels up to date: find what is new, changed or stale, ask only for that, write how every record ended.

What needs no label is found by one anti-join, without rendering a request. What does is rendered; a request that the
ledger has answered before costs nothing. Only the rest is asked. Every reply is in the journal before it is read.
"""

from __future__ import annotations

import time
from collections import Counter

import polars as pl

from annotation_pipelines.annotators.base import Annotator, RemoteAnnotator
from annotation_pipelines.annotators.batch_passes import BatchPass, LivePassBesideBatches, has_open_batches
from annotation_pipelines.annotators.counts import ANY_OCCASION, AnnotationCounts, Occasion
from annotation_pipelines.annotators.passes import LabelTable, LivePass, Progress
from annotation_pipelines.annotators.pending import Pending, Wanted, registered
from annotation_pipelines.store.database import Store
from annotation_pipelines.store.journal import fold_leftovers


def annotate(
    store: Store,
    annotator: Annotator,
    wanted: Wanted,
    partition_key: str,
    *,
    table: LabelTable = "llm_labels",
    occasion: Occasion = ANY_OCCASION,
    progress: Progress | None = None,
) -> AnnotationCounts:
    """Bring an annotator's labels of some records up to date.

    Args:
        wanted: The records that are to have a label. Labels of other records of the partition are removed (their
            replies stay in the ledger).
        table: Where the labels go.
        progress: Told (done, total) as conversations end.

    Raises:
        AnnotatorError: The annotator cannot work at all. Replies that came before are kept.
        StoreError: The store or the journal cannot be written. Replies that were written before are kept.
    """
    recovered = fold_leftovers(store)
    with Pending(store, wanted, table=table, annotator=annotator.name, fingerprint=annotator.fingerprint) as pending:
        counts = AnnotationCounts(
            selected=pending.wanted,
            new=pending.why["new"],
            changed=pending.why["changed"],
            stale=pending.why["stale"],
            retried=pending.why["retried"],
            unchanged=pending.wanted - len(pending),
            recovered=recovered.replies,
            damaged=recovered.damaged,
        )
        if len(pending):
            start = time.monotonic()
            _pass_of(store, annotator)(
                store, annotator, pending, partition_key, table, occasion, counts, progress
            ).run()
            counts.seconds = time.monotonic() - start
    counts.states = settle(store, wanted, partition_key, annotator.name, table=table)
    return counts


def _pass_of(store: Store, annotator: Annotator) -> type[LivePass]:
    if not isinstance(annotator, RemoteAnnotator):
        return LivePass
    if annotator.mode != "live":
        return BatchPass
    return LivePassBesideBatches if has_open_batches(store, annotator) else LivePass


def settle(
    store: Store, wanted: Wanted, partition_key: str, annotator: str, *, table: LabelTable, votes: bool = False
) -> Counter[str]:
    """Leave the labels of the wanted records alone in the partition: no others, and records that moved taken in.

    In llm_labels labels of other annotators go, too; in llm_votes several stand side by side.

    Args:
        votes: Whether the labels are made of votes; otherwise votes of former annotators go.

    Returns:
        How many labels there are in each state.
    """
    who = pl.DataFrame({"annotator": [annotator], "partition_key": [partition_key]})
    others = "OR annotator <> (SELECT annotator FROM who)" if table == "llm_labels" else ""
    only = "" if table == "llm_labels" else "AND annotator = (SELECT annotator FROM who)"
    with store.transaction() as con, registered(con, who=who, **wanted.frames):
        con.execute(
            f"""
            UPDATE {table} SET partition_key = (SELECT partition_key FROM who)
            WHERE annotator = (SELECT annotator FROM who) AND partition_key <> (SELECT partition_key FROM who)
                  AND record_id IN (SELECT record_id FROM ({wanted.sql}))
            """
        )
        con.execute(
            f"""
            DELETE FROM {table} WHERE partition_key = (SELECT partition_key FROM who) {only}
                  AND (record_id NOT IN (SELECT record_id FROM ({wanted.sql})) {others})
            """
        )
        if table == "llm_labels" and not votes:
            con.execute("DELETE FROM llm_votes WHERE partition_key = (SELECT partition_key FROM who)")
        states = con.execute(
            f"SELECT state, count(*) FROM {table} SEMI JOIN who USING (annotator, partition_key) GROUP BY state"
        ).fetchall()
    return Counter(dict(states))
