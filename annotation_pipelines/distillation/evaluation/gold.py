"""What students and teacher are measured on: gold that no training step saw, and what each says of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from annotation_pipelines.distillation.leakage import fingerprint, similarity_to
from annotation_pipelines.distillation.prediction import ReadyModel
from annotation_pipelines.distillation.students.files import trained_on
from annotation_pipelines.project import Project
from annotation_pipelines.quality.validity import are_labels
from annotation_pipelines.store.database import Store
from annotation_pipelines.tasks.base import UNANSWERED

EVALUATION, MONITOR = "evaluation", "monitor"

_GOLD = """
SELECT h.record_id, h.content_hash, h.content, h.label, h.origin, r.partition_key
FROM human_labels h LEFT JOIN records r ON r.record_id = h.record_id AND r.content_hash = h.content_hash
     AND r.deleted_at IS NULL
WHERE h.role = 'evaluation' ORDER BY h.record_id
"""
# A record that the annotator looked at and gave no label counts as wrong: the student always gives one. A call that
# failed says nothing about the annotator.
_TEACHER = f"""
SELECT h.record_id, h.role, h.content, h.label, l.label AS given, l.confidence AS teacher_confidence
FROM human_labels h JOIN llm_labels l USING (record_id, content_hash)
WHERE h.role IN ('evaluation', 'monitor') AND l.annotator = $annotator AND l.state NOT IN {UNANSWERED}
ORDER BY h.record_id
"""
_TEXTS = """
SELECT content_hash, any_value(content) AS content
FROM (SELECT content_hash, content FROM records UNION ALL SELECT content_hash, content FROM human_labels)
GROUP BY content_hash
"""


def read_gold(store: Store, project: Project) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Gold for evaluation, and what the teacher says of gold.

    Returns:
        record_id, content_hash, content, label, origin, partition_key (null outside the stream); and record_id, role,
        content, label, given (null where the annotator gave none), teacher_confidence. Labels that the task has only.
    """
    from annotation_pipelines.annotators.factory import annotator_name

    task = project.task
    with store.transaction() as con:
        gold = store.frame(con, _GOLD)
        teacher = store.frame(con, _TEACHER, {"annotator": annotator_name(project)})
    gold, teacher = (rows.filter(are_labels(task, rows["label"], rows["content"])) for rows in (gold, teacher))
    return gold, teacher


def unseen(store: Store, gold: pl.DataFrame, folder: Path, card: dict[str, Any]) -> pl.DataFrame:
    """The gold that a model was not trained on: neither the record, nor the text, nor one that says nearly the same.

    Args:
        folder: The model's.
        card: Its card; it says which held-out texts training was kept apart from. Where these are the present ones,
            near-duplicates need no second look.

    Raises:
        StoreCorrupted: What the model was trained on cannot be read.
    """
    seen = trained_on(folder)
    if seen is None:
        return gold
    kept = gold
    for known in ("record_id", "content_hash"):
        kept = kept.join(seen, on=known, how="anti", maintain_order="left")
    if kept.is_empty() or card.get("held_out") == fingerprint(gold["content"]):
        return kept
    texts = store.query(_TEXTS).join(seen, on="content_hash", how="semi")
    return kept.filter(similarity_to(kept["content"].to_list(), texts["content"].to_list()).is_null())


def answers(model: ReadyModel, gold: pl.DataFrame) -> pl.DataFrame:
    """Gold with a model's answer and confidence."""
    predicted = model.predict(gold.select("content_hash", "content"))
    return gold.with_columns(
        answer=pl.Series(predicted.labels, dtype=pl.String),
        confidence=pl.Series(predicted.confidence, dtype=pl.Float64),
    )
