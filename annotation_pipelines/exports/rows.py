"""Which annotations an export is made of."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import polars as pl

from annotation_pipelines.annotators.factory import annotator_name
from annotation_pipelines.content import Content, readable
from annotation_pipelines.project import Project
from annotation_pipelines.quality.validity import are_labels
from annotation_pipelines.store.database import Store

CHANGED = "the record changed, or is gone, since the label was trusted"
SUPERSEDED = "held out for evaluation since the label was trusted: the gold label is there in its place"
BELOW = "confidence below min_confidence"
NOT_A_LABEL = "no label of the task as it is declared now"

# The annotator's reasons speak for its own label: where people gave another, they are not those of the label.
_TRUSTED = """
SELECT
    trusted.record_id, records.content, trusted.label, trusted.weight, trusted.confidence, trusted.partition_key,
    CASE WHEN coalesce(records.synthetic, false) THEN 'synthetic' ELSE trusted.origin END AS origin,
    coalesce(records.synthetic, false) AS synthetic,
    false AS held_out, records.first_seen,
    CASE WHEN trusted.origin = 'silver' THEN labels.annotator END AS annotator,
    CASE WHEN labels.label = trusted.label THEN labels.rationale END AS rationale,
    CASE WHEN trusted.origin = 'silver' THEN labels.fingerprint END AS fingerprint,
    records.content IS NULL OR records.deleted_at IS NOT NULL AS changed,
    trusted.record_id IN (SELECT record_id FROM human_labels WHERE role = 'evaluation') AS superseded
FROM trusted_labels AS trusted
LEFT JOIN records ON records.record_id = trusted.record_id AND records.content_hash = trusted.content_hash
LEFT JOIN llm_labels AS labels
    ON labels.record_id = trusted.record_id AND labels.content_hash = trusted.content_hash
    AND labels.annotator = $annotator AND labels.state = 'labelled'
UNION ALL BY NAME
SELECT
    record_id, content, label, 1.0 AS weight, NULL AS confidence, 'held_out' AS partition_key, 'gold' AS origin,
    false AS synthetic, true AS held_out, NULL AS first_seen, NULL AS annotator, NULL AS rationale,
    NULL AS fingerprint, false AS changed, false AS superseded
FROM human_labels WHERE role = 'evaluation'
ORDER BY record_id
"""

_GENERATED = """
SELECT
    synthetic_id AS record_id, content, value AS label, 1.0 AS weight, judge_score AS confidence, partition_key,
    'synthetic' AS origin, true AS synthetic, false AS held_out, generated_at AS first_seen, annotator,
    NULL AS rationale, NULL AS fingerprint, false AS changed, false AS superseded
FROM synthetic_records WHERE state = 'kept'
ORDER BY record_id
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One annotated record.

    Attributes:
        origin: gold (people), silver (the annotator), or synthetic (a model wrote the record itself).
        confidence: The annotator's, 0 to 1; of a generated record the judge's score.
        rationale: The annotator's reasons for this label, where it gave some.
    """

    record_id: str
    content: Content
    label: str
    origin: str
    weight: float
    confidence: float | None
    annotator: str | None
    rationale: str | None
    partition_key: str

    @property
    def text(self) -> str:
        """The content as one text."""
        return self.content.text


def annotated_records(
    store: Store, project: Project, *, min_confidence: float = 0.0
) -> tuple[pl.DataFrame, Counter[str]]:
    """The trusted labels with their records, and the gold that is held out for evaluation.

    Of a generation task these are the synthetic records that passed the checks, each with what was generated as label.

    Returns:
        A frame in the order of the ids: record_id, content, text, label, weight, confidence, partition_key, origin,
        synthetic, held_out, first_seen, annotator, rationale, fingerprint; and how many were left out, by why.

    Raises:
        StoreError: The store cannot be read.
    """
    generated = project.task.kind == "generation"
    if generated:
        frame = store.query(_GENERATED)
        frame = frame.with_columns(
            pl.col("label").map_elements(lambda value: f'{{"generated":[{value}]}}', return_dtype=pl.String)
        )
        valid = pl.Series("valid", [True] * frame.height, dtype=pl.Boolean)
    else:
        frame = store.query(_TRUSTED, {"annotator": annotator_name(project)})
        valid = are_labels(project.task, frame["label"], frame["content"])
    below = (pl.col("origin") == "silver") & (pl.col("confidence") < min_confidence)
    why = (
        pl.when("superseded")
        .then(pl.lit(SUPERSEDED))
        .when("changed")
        .then(pl.lit(CHANGED))
        .when(~valid)
        .then(pl.lit(NOT_A_LABEL))
        .when(below)
        .then(pl.lit(BELOW))
    )
    frame = frame.with_columns(why=why)
    left_out = Counter(frame["why"].drop_nulls().to_list())
    kept = frame.filter(pl.col("why").is_null()).drop("why", "changed", "superseded")
    text = pl.Series("text", [readable(content) for content in kept["content"]], dtype=pl.String)
    return kept.with_columns(text), left_out


def row_of(named: dict[str, object]) -> Row:
    """A row of the frame, as an object."""
    values = {name: named[name] for name in Row.__slots__ if name != "content"}
    return Row(content=Content.read(str(named["content"])), **values)  # type: ignore[arg-type]
