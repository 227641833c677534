"""Which labels students may learn from: gold where people labelled, silver where the annotator did.

Every live record of a partition meets one fate, and the fates add up to the records:

    evaluation         people hold it out: its record, or its very content, measures and never trains
    gold               people labelled it for training or as a demonstration
    silver             the annotator labelled it, with enough confidence
    below_confidence   the annotator labelled it, with less
    abstained, invalid, refused, failed    the annotator has no label for it
    waiting            it was not chosen for annotation
    not_annotated      it was chosen, and has no annotation of its present content
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import duckdb
import polars as pl

from annotation_pipelines.project import Project
from annotation_pipelines.quality.validity import are_labels
from annotation_pipelines.store.database import Store
from annotation_pipelines.tasks.base import STATES, Task

MIN_WEIGHT = 0.05
"""The least weight of a silver label: one that the annotator gave is never worth nothing."""

UNLABELLED = (*(state for state in STATES if state != "labelled"), "waiting", "not_annotated")
_TRUSTED = ("gold", "silver")

# A gold or silver label counts only for the content it was given for; evaluation keeps out a record whatever became of
# its content, and whatever else has the same content, since a copy would tell the student the answer.
_RECORDS = """
SELECT
    records.record_id, records.content_hash, records.content,
    records.record_id IN (SELECT record_id FROM human_labels WHERE role = 'evaluation')
        OR records.content_hash IN (SELECT content_hash FROM human_labels WHERE role = 'evaluation') AS held_out,
    people.label AS gold,
    labels.state, labels.label AS silver, labels.confidence,
    coalesce(chosen.state, 'waiting') = 'waiting' AS waiting
FROM records
LEFT JOIN human_labels AS people
    ON people.record_id = records.record_id AND people.content_hash = records.content_hash
    AND people.role IN ('demonstration', 'training')
LEFT JOIN llm_labels AS labels
    ON labels.record_id = records.record_id AND labels.content_hash = records.content_hash
    AND labels.annotator = $annotator
LEFT JOIN selected_records AS chosen ON chosen.record_id = records.record_id
WHERE records.partition_key = $partition_key AND records.deleted_at IS NULL
ORDER BY records.record_id
"""


@dataclass(frozen=True)
class TrustCounts:
    """What became of the live records of a partition.

    Attributes:
        unlabelled: Records without a label, by why: every entry of `UNLABELLED`.
    """

    records: int
    gold: int
    silver: int
    below_confidence: int
    evaluation: int
    unlabelled: dict[str, int]

    @property
    def trusted(self) -> int:
        """Labels that students may learn from."""
        return self.gold + self.silver

    def facts(self) -> dict[str, int]:
        """The counts by name, for the store and the UI."""
        return {
            "records": self.records,
            "gold": self.gold,
            "silver": self.silver,
            "below_confidence": self.below_confidence,
            "evaluation": self.evaluation,
            **self.unlabelled,
        }


def publish(
    store: Store,
    project: Project,
    partition_key: str,
    annotator_name: str,
    run_id: str | None = None,
    now: datetime | None = None,
) -> TrustCounts:
    """Put the trusted labels of a partition in the place of its earlier ones, in one transaction.

    Raises:
        StoreError: The store cannot be read or written.
    """
    now = now or datetime.now(UTC)
    with store.transaction() as con:
        decided = _decided(con, store, project, partition_key, annotator_name)
        counts = count(decided)
        store.replace(con, "trusted_labels", trusted(decided, partition_key, now), partition_key=partition_key)
        store.record_stage(con, "trusted_labels", partition_key, counts.facts(), run_id)
    return counts


def would_trust(store: Store, project: Project, partition_key: str, annotator_name: str) -> pl.DataFrame:
    """The rows that `publish` would write for a partition now; nothing is written."""
    with store.transaction() as con:
        decided = _decided(con, store, project, partition_key, annotator_name)
    return trusted(decided, partition_key, datetime.now(UTC))


def _decided(
    con: duckdb.DuckDBPyConnection, store: Store, project: Project, partition_key: str, annotator_name: str
) -> pl.DataFrame:
    params = {"partition_key": partition_key, "annotator": annotator_name}
    least = project.declaration.quality.min_confidence
    return decide(store.frame(con, _RECORDS, params), task=project.task, min_confidence=least)


def decide(records: pl.DataFrame, *, task: Task, min_confidence: float) -> pl.DataFrame:
    """Add the column `fate` to live records with content, held_out, gold, state, silver, confidence and waiting.

    What is no label of the task, as it is declared now, is no label. Without a confidence there is nothing to hold
    against a label.
    """
    confidence = pl.col("confidence").fill_nan(None)
    is_silver = (pl.col("state") == "labelled") & are_labels(task, records["silver"], records["content"])
    return records.with_columns(confidence=confidence).with_columns(
        fate=pl.when("held_out")
        .then(pl.lit("evaluation"))
        .when(are_labels(task, records["gold"], records["content"]))
        .then(pl.lit("gold"))
        .when(is_silver & (confidence < min_confidence))
        .then(pl.lit("below_confidence"))
        .when(is_silver)
        .then(pl.lit("silver"))
        .when(pl.col("state") == "labelled")
        .then(pl.lit("invalid"))
        .when(pl.col("state").is_not_null())
        .then(pl.col("state"))
        .when("waiting")
        .then(pl.lit("waiting"))
        .otherwise(pl.lit("not_annotated"))
    )


def count(decided: pl.DataFrame) -> TrustCounts:
    """Count the fates; they add up to the records."""
    fates: dict[str, int] = dict(decided["fate"].value_counts().iter_rows())
    counts = TrustCounts(
        records=decided.height,
        gold=fates.get("gold", 0),
        silver=fates.get("silver", 0),
        below_confidence=fates.get("below_confidence", 0),
        evaluation=fates.get("evaluation", 0),
        unlabelled={reason: fates.get(reason, 0) for reason in UNLABELLED},
    )
    accounted = counts.trusted + counts.below_confidence + counts.evaluation + sum(counts.unlabelled.values())
    assert accounted == counts.records, f"{accounted} of {counts.records} records accounted for: {fates}"
    return counts


def trusted(decided: pl.DataFrame, partition_key: str, now: datetime) -> pl.DataFrame:
    """The rows of trusted_labels: gold weighs 1, silver its confidence, or 1 where it has none."""
    gold = pl.col("fate") == "gold"
    weight = pl.col("confidence").clip(MIN_WEIGHT, 1.0).fill_null(1.0)
    return decided.filter(pl.col("fate").is_in(_TRUSTED)).select(
        "record_id",
        "content_hash",
        partition_key=pl.lit(partition_key),
        label=pl.when(gold).then("gold").otherwise("silver"),
        origin="fate",
        weight=pl.when(gold).then(1.0).otherwise(weight),
        confidence=pl.when(~gold).then("confidence"),
        trusted_at=pl.lit(now),
    )
