"""The review queue: what people should look at, the least certain first."""

from __future__ import annotations

import polars as pl

from annotation_pipelines.content import readable
from annotation_pipelines.project import Project
from annotation_pipelines.store.database import Store

# Records that people labelled are settled. A prediction counts for the content that it was made of.
_QUEUE = """
SELECT p.record_id AS id, r.content, p.label AS suggested, p.confidence, p.state,
       l.label AS teacher, l.confidence AS teacher_confidence
FROM predictions p
JOIN records r ON r.record_id = p.record_id AND r.content_hash = p.content_hash AND r.deleted_at IS NULL
LEFT JOIN llm_labels l ON l.record_id = p.record_id AND l.content_hash = p.content_hash
    AND l.annotator = $annotator AND l.state = 'labelled'
LEFT JOIN human_labels h ON h.record_id = p.record_id
WHERE h.record_id IS NULL AND r.gold IS NULL AND (p.state = 'abstained' OR l.label <> p.label)
ORDER BY p.confidence, p.record_id
"""


def review_queue(store: Store, project: Project) -> pl.DataFrame:
    """Records of which the student abstained, and those where student and teacher differ, without those with gold.

    Returns:
        id, label (empty: for people to fill in), annotator, labelled_at (likewise), text, suggested (the student's
        label), confidence (the student's), teacher (the teacher's label, where it gave one), why; the least certain
        first. With the lines that have a label it is a file as `human_labels` names one.
    """
    from annotation_pipelines.annotators.factory import annotator_name

    rows = store.query(_QUEUE, {"annotator": annotator_name(project)})
    given = pl.col("teacher_confidence")
    abstained = pl.format("the student is unsure: {}", pl.col("confidence").round(3))
    sure = pl.when(given.is_null()).then(pl.lit("")).otherwise(pl.format(" ({})", given.round(3)))
    differs = pl.format("the teacher says {}{}", "teacher", sure)
    return rows.select(
        "id",
        label=pl.lit(""),
        annotator=pl.lit(""),
        labelled_at=pl.lit(""),
        text=pl.col("content").map_elements(readable, return_dtype=pl.String),
        suggested="suggested",
        confidence="confidence",
        teacher="teacher",
        why=pl.concat_str(
            [
                pl.when(pl.col("state") == "abstained").then(abstained),
                pl.when(pl.col("teacher") != pl.col("suggested")).then(differs),
            ],
            separator="; ",
            ignore_nulls=True,
        ),
    )
