"""Annotate a partition: find what is new, changed or stale, ask only for that, and write how every record ended.

A label is fresh when its record has the same content hash and the annotator the same fingerprint: one anti-join
decides, without rendering a request. What is not fresh is rendered; a request that the ledger has answered before
costs nothing. Only the rest is asked. Every reply is in the journal before it is read.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import polars as pl

from annotation_pipelines.annotators.base import Annotator, Reply, Request
from annotation_pipelines.store.database import Store
from annotation_pipelines.store.journal import Journal, fold_leftovers
from annotation_pipelines.store.ledger import call_row, find_replies
from annotation_pipelines.tasks.base import STATES, Annotation

CHUNK = 5_000
"""Records between two writes of labels: what a kill may leave to be read again from the journal."""

Progress = Callable[[int, int], None]


@dataclass
class AnnotationCounts:
    """What happened to the selected records of a partition.

    Attributes:
        selected: Records to annotate: new + changed + stale + retried + unchanged.
        new: Never annotated before.
        changed: Annotated with another content.
        stale: Annotated under another declaration: task, guideline, annotator or demonstrations.
        retried: Annotated before without an answer.
        unchanged: Fresh: nothing to do.
        from_ledger: Not fresh, but answered before: the reply was read again.
        called: Requests sent to the annotator.
        states: How the selected records ended, by state.
        cost_usd: What the calls cost; None where a price is unknown.
        seconds: Time spent calling.
        recovered: Replies found in the journals of runs that were killed.
        damaged: Journal lines that could not be read.
    """

    selected: int = 0
    new: int = 0
    changed: int = 0
    stale: int = 0
    retried: int = 0
    unchanged: int = 0
    from_ledger: int = 0
    called: int = 0
    states: Counter[str] = field(default_factory=Counter)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = 0.0
    seconds: float = 0.0
    recovered: int = 0
    damaged: int = 0

    @property
    def reused(self) -> int:
        """Records labelled without a call: fresh ones, and those whose reply the ledger had."""
        return self.unchanged + self.from_ledger

    def facts(self) -> dict[str, float | int | None]:
        """Every count by name, states included."""
        numbers = {k: v for k, v in vars(self).items() if k != "states"}
        return {**numbers, "reused": self.reused, **{state: self.states[state] for state in STATES}}


def freshness(store: Store, records: pl.DataFrame, annotator: str, fingerprint: str) -> pl.DataFrame:
    """Why each record of a frame (record_id, content_hash) needs an annotation.

    Returns:
        One row for every record that needs one: record_id, content_hash, why (new, changed, stale, retried).
    """
    return store.query(
        """
        SELECT r.record_id, r.content_hash,
               CASE WHEN l.record_id IS NULL THEN 'new'
                    WHEN l.content_hash <> r.content_hash THEN 'changed'
                    WHEN l.fingerprint <> $fingerprint THEN 'stale'
                    ELSE 'retried' END AS why
        FROM wanted r LEFT JOIN llm_labels l ON l.record_id = r.record_id AND l.annotator = $annotator
        WHERE l.record_id IS NULL OR l.content_hash <> r.content_hash OR l.fingerprint <> $fingerprint
              OR l.state = 'failed'
        """,
        {"annotator": annotator, "fingerprint": fingerprint},
        wanted=records.select("record_id", "content_hash"),
    )


def annotate_records(
    store: Store,
    annotator: Annotator,
    records: pl.DataFrame,
    partition_key: str,
    *,
    run_id: str | None = None,
    progress: Progress | None = None,
) -> AnnotationCounts:
    """Bring the labels of a partition up to date.

    Args:
        records: The records to annotate: record_id, content_hash, content. Labels of other records of the partition
            are removed (their replies stay in the ledger).
        progress: Told (done, total) as replies arrive.

    Raises:
        AnnotatorError: The annotator cannot work at all. Replies that came before are kept.
    """
    recovered = fold_leftovers(store)
    fingerprint = annotator.fingerprint
    todo = freshness(store, records, annotator.name, fingerprint)
    why = Counter(todo["why"].to_list())
    counts = AnnotationCounts(
        selected=len(records),
        new=why["new"],
        changed=why["changed"],
        stale=why["stale"],
        retried=why["retried"],
        unchanged=len(records) - len(todo),
        recovered=recovered.replies,
        damaged=recovered.damaged,
    )
    pending = records.join(todo.select("record_id"), on="record_id", how="semi", maintain_order="left")
    start = time.monotonic()
    done = 0
    with Journal(store.home) as journal:
        for chunk in pending.iter_slices(CHUNK):
            offset = done

            def advance(answered: int, offset: int = offset) -> None:
                if progress:
                    progress(offset + answered, len(pending))

            rows = _annotate_chunk(store, journal, annotator, chunk, counts, run_id, advance)
            _write_labels(store, annotator.name, fingerprint, partition_key, rows, run_id)
            done += len(chunk)
    counts.seconds = time.monotonic() - start
    _settle(store, annotator.name, partition_key, records)
    counts.states = _states(store, annotator.name, partition_key)
    return counts


def _annotate_chunk(
    store: Store,
    journal: Journal,
    annotator: Annotator,
    chunk: pl.DataFrame,
    counts: AnnotationCounts,
    run_id: str | None,
    advance: Callable[[int], None],
) -> list[tuple[Request, Annotation, bool]]:
    """Ask for a chunk of records; for each its request, what was answered, and whether the ledger had it."""
    requests = annotator.requests(chunk)
    by_key: dict[str, list[Request]] = {}
    for request in requests:
        by_key.setdefault(request.key, []).append(request)
    rows: list[tuple[Request, Annotation, bool]] = []
    for key, status, text in find_replies(store, list(by_key)).iter_rows():
        annotation = _read(annotator, status, text, None)
        rows += [(request, annotation, True) for request in by_key.pop(key)]
    counts.from_ledger += len(rows)
    answered = len(rows)
    advance(answered)
    for reply in _journaled(annotator, [same[0] for same in by_key.values()], journal, run_id):
        annotation = _read(annotator, reply.status, reply.text, reply.error)
        same = by_key[reply.request.key]
        rows += [(request, annotation, index > 0) for index, request in enumerate(same)]
        counts.from_ledger += len(same) - 1
        _count_call(counts, reply)
        answered += len(same)
        advance(answered)
    journal.fold(store)
    return rows


def _journaled(annotator: Annotator, requests: list[Request], journal: Journal, run_id: str | None) -> Iterator[Reply]:
    """The replies of an annotator, each written to the journal before it is passed on."""
    if not requests:
        return
    for reply in annotator.annotate(requests):
        journal.append(
            call_row(
                request_key=reply.request.key,
                record_id=reply.request.record_id,
                content_hash=reply.request.content_hash,
                annotator=annotator.name,
                endpoint=annotator.endpoint,
                status=reply.status,
                http_status=reply.http_status,
                reply=reply.text,
                error=reply.error,
                prompt_tokens=reply.prompt_tokens,
                completion_tokens=reply.completion_tokens,
                cost_usd=reply.cost_usd,
                seconds=reply.seconds,
                run_id=run_id,
            )
        )
        yield reply


def _read(annotator: Annotator, status: str, text: str | None, error: str | None) -> Annotation:
    if status == "ok":
        return annotator.read(text or "")
    if status == "refused":
        return Annotation("refused", problem=error or "the model declined to answer")
    return Annotation("failed", problem=error or "no answer")


def _count_call(counts: AnnotationCounts, reply: Reply) -> None:
    counts.called += 1
    counts.prompt_tokens += reply.prompt_tokens or 0
    counts.completion_tokens += reply.completion_tokens or 0
    if reply.cost_usd is None:
        if reply.status != "error":
            counts.cost_usd = None
    elif counts.cost_usd is not None:
        counts.cost_usd += reply.cost_usd


def _write_labels(
    store: Store,
    annotator: str,
    fingerprint: str,
    partition_key: str,
    rows: list[tuple[Request, Annotation, bool]],
    run_id: str | None,
) -> None:
    frame = pl.DataFrame(
        {
            "record_id": [request.record_id for request, _, _ in rows],
            "content_hash": [request.content_hash for request, _, _ in rows],
            "request_key": [request.key for request, _, _ in rows],
            "state": [a.state for _, a, _ in rows],
            "label": pl.Series([a.label for _, a, _ in rows], dtype=pl.String),
            "confidence": pl.Series([a.confidence for _, a, _ in rows], dtype=pl.Float64),
            "scores": pl.Series(
                [json.dumps(dict(a.scores)) if a.scores else None for _, a, _ in rows], dtype=pl.String
            ),
            "problem": pl.Series([a.problem for _, a, _ in rows], dtype=pl.String),
            "reused": [reused for _, _, reused in rows],
        },
    ).with_columns(
        pl.lit(partition_key).alias("partition_key"),
        pl.lit(annotator).alias("annotator"),
        pl.lit(fingerprint).alias("fingerprint"),
        pl.lit(datetime.now(UTC)).alias("labelled_at"),
        pl.lit(run_id, dtype=pl.String).alias("run_id"),
    )
    with store.transaction() as con:
        store.upsert(con, "llm_labels", frame)


def _settle(store: Store, annotator: str, partition_key: str, records: pl.DataFrame) -> None:
    """Leave the rows of the selection alone in the partition: no others, no earlier annotator, moved ones taken in."""
    with store.transaction() as con:
        con.register("kept", records.select("record_id").to_arrow())
        con.execute(
            """
            UPDATE llm_labels SET partition_key = $partition
            WHERE annotator = $annotator AND partition_key <> $partition
                  AND record_id IN (SELECT record_id FROM kept)
            """,
            {"partition": partition_key, "annotator": annotator},
        )
        con.execute(
            """
            DELETE FROM llm_labels
            WHERE partition_key = ? AND (annotator <> ? OR record_id NOT IN (SELECT record_id FROM kept))
            """,
            [partition_key, annotator],
        )
        con.unregister("kept")


def _states(store: Store, annotator: str, partition_key: str) -> Counter[str]:
    rows = store.query(
        "SELECT state, count(*) AS n FROM llm_labels WHERE partition_key = ? AND annotator = ? GROUP BY state",
        [partition_key, annotator],
    )
    return Counter(dict(rows.iter_rows()))
