"""What the quality report shows, read from the tables in short transactions and counted by DuckDB.

Nothing here is per record but the few examples that the page prints: a million records come out as counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from annotation_pipelines.content import readable
from annotation_pipelines.project import Project
from annotation_pipelines.quality.agreement import TeacherAccuracy, teacher_accuracy
from annotation_pipelines.quality.validity import named_counts
from annotation_pipelines.store.database import Store
from annotation_pipelines.store.schema import HELD_OUT
from annotation_pipelines.tasks.base import Task

EXAMPLES = 20
"""Disagreements shown."""
TEXT = 300
"""Characters of a record's text shown."""
REFRESHES = 20
"""Refreshes shown."""

# The annotation that counts is the latest of a record. It is held against gold only where the content is the
# same, and only against gold that the teacher was not shown and the student not trained on.
_VIEWS = f"""
CREATE TEMP VIEW live AS SELECT * FROM records WHERE deleted_at IS NULL;
CREATE TEMP VIEW teacher AS
    SELECT * FROM llm_labels
    QUALIFY row_number() OVER (PARTITION BY record_id ORDER BY labelled_at DESC, annotator) = 1;
CREATE TEMP VIEW measuring_gold AS SELECT * FROM human_labels WHERE role IN ('evaluation', 'monitor');
CREATE TEMP VIEW kept_apart AS SELECT content_hash FROM human_labels WHERE role = 'evaluation';
CREATE TEMP VIEW labelled AS
    SELECT t.* FROM teacher t JOIN live USING (record_id, content_hash)
    WHERE t.state = 'labelled' AND t.partition_key <> '{HELD_OUT}';
CREATE TEMP VIEW stopped AS
    SELECT DISTINCT partition_key FROM validation_results WHERE blocking AND NOT success;
"""

_ACCOUNTING = f"""
SELECT 'records' AS stage, CASE WHEN deleted_at IS NULL THEN 'live' ELSE 'deleted at the source' END AS state,
       count(*) AS records
FROM records GROUP BY ALL
UNION ALL
SELECT 'human_labels', role, count(*) FROM human_labels GROUP BY ALL
UNION ALL
SELECT 'selected_records',
       CASE WHEN s.record_id IS NULL AND h.role = 'evaluation' THEN 'evaluation'
            WHEN s.record_id IS NULL THEN 'not selected yet'
            WHEN s.content_hash <> r.content_hash THEN 'changed since'
            ELSE s.state END, count(*)
FROM live r LEFT JOIN selected_records s USING (record_id) LEFT JOIN human_labels h USING (record_id)
GROUP BY ALL
UNION ALL
SELECT 'llm_labels',
       CASE WHEN t.record_id IS NULL THEN 'not annotated'
            WHEN t.content_hash <> r.content_hash THEN 'changed since'
            ELSE t.state END, count(*)
FROM live r JOIN selected_records s USING (record_id, content_hash) LEFT JOIN teacher t USING (record_id)
WHERE s.state = 'selected' GROUP BY ALL
UNION ALL
SELECT '{HELD_OUT}',
       CASE WHEN t.record_id IS NULL THEN 'not annotated'
            WHEN t.content_hash <> h.content_hash THEN 'changed since'
            ELSE t.state END, count(*)
FROM human_labels h LEFT JOIN teacher t USING (record_id) WHERE h.role = 'evaluation' GROUP BY ALL
UNION ALL
SELECT 'trusted_labels',
       CASE WHEN t.content_hash = r.content_hash THEN t.origin
            WHEN t.record_id IS NOT NULL THEN 'changed since'
            WHEN h.role = 'evaluation' OR r.content_hash IN (SELECT content_hash FROM kept_apart) THEN 'evaluation'
            WHEN h.role IN ('demonstration', 'training') THEN 'not published yet'
            WHEN l.state = 'labelled' AND r.partition_key IN (FROM stopped) THEN 'stopped by a check'
            WHEN l.state = 'labelled' AND l.confidence < $min_confidence THEN 'below min_confidence'
            WHEN l.state = 'labelled' THEN 'not published yet'
            WHEN l.state IS NOT NULL THEN l.state
            WHEN coalesce(s.state, 'waiting') = 'waiting' THEN 'waiting'
            ELSE 'not annotated' END, count(*)
FROM live r LEFT JOIN trusted_labels t USING (record_id) LEFT JOIN selected_records s USING (record_id)
     LEFT JOIN teacher l ON l.record_id = r.record_id AND l.content_hash = r.content_hash
     LEFT JOIN human_labels h ON h.record_id = r.record_id
GROUP BY ALL
UNION ALL
SELECT 'synthetic_records', CASE WHEN state = 'dropped' THEN reason ELSE state END, count(*)
FROM synthetic_records GROUP BY ALL
UNION ALL
SELECT 'predictions',
       CASE WHEN p.record_id IS NULL THEN 'not predicted yet'
            WHEN p.content_hash <> r.content_hash THEN 'changed since'
            WHEN p.model_version NOT IN (SELECT version FROM models WHERE status = 'champion')
            THEN 'predicted by an earlier model'
            ELSE 'predicted' END, count(*)
FROM live r LEFT JOIN predictions p USING (record_id) GROUP BY ALL
"""

_TOTALS = f"""
SELECT 'records' AS stage, (SELECT count(*) FROM records) AS records
UNION ALL SELECT 'human_labels', (SELECT count(*) FROM human_labels)
UNION ALL SELECT 'selected_records', (SELECT count(*) FROM live)
UNION ALL SELECT 'llm_labels', (
    SELECT count(*) FROM selected_records s WHERE state = 'selected'
    AND EXISTS (FROM live r WHERE r.record_id = s.record_id AND r.content_hash = s.content_hash))
UNION ALL SELECT '{HELD_OUT}', (SELECT count(*) FROM human_labels WHERE role = 'evaluation')
UNION ALL SELECT 'trusted_labels', (SELECT count(*) FROM live)
UNION ALL SELECT 'synthetic_records', (SELECT count(*) FROM synthetic_records)
UNION ALL SELECT 'predictions', (SELECT count(*) FROM live)
"""

_CALLS = """
SELECT count(*) AS calls, count(*) FILTER (status = 'error') AS errors,
       count(*) FILTER (cost_usd IS NULL AND status <> 'error') AS unpriced, sum(cost_usd) AS cost_usd,
       sum(prompt_tokens)::BIGINT AS prompt_tokens, sum(completion_tokens)::BIGINT AS completion_tokens,
       (SELECT count(*) FROM llm_labels WHERE reused) AS reused
FROM llm_calls
"""

_COST = f"""
SELECT coalesce(t.partition_key, r.partition_key, y.partition_key, '{HELD_OUT}') AS partition_key, count(*) AS calls,
       CASE WHEN count(*) FILTER (c.cost_usd IS NULL AND c.status <> 'error') = 0
            THEN coalesce(sum(c.cost_usd), 0) END AS cost_usd
FROM llm_calls c LEFT JOIN teacher t USING (record_id) LEFT JOIN records r USING (record_id)
     LEFT JOIN synthetic_records y ON y.synthetic_id = c.record_id
GROUP BY ALL ORDER BY partition_key
"""

_LABELS = "SELECT label, count(*) AS records FROM labelled GROUP BY ALL ORDER BY records DESC, label"

_PREDICTED = """
SELECT p.label, count(*) AS records FROM predictions p JOIN live USING (record_id, content_hash)
GROUP BY ALL ORDER BY records DESC, p.label
"""

_LABELS_OVER_PARTITIONS = """
SELECT partition_key, label, count(*) AS records FROM labelled GROUP BY ALL ORDER BY partition_key, label
"""

_STUDENT_CONFUSION = """
SELECT g.label AS gold, p.label, count(*) AS records
FROM predictions p JOIN measuring_gold g USING (record_id, content_hash) GROUP BY ALL
"""

_VALIDATIONS = """
SELECT partition_key, check_name, expectation, success, blocking, element_count, unexpected_count,
       left(observed, 200) AS observed
FROM validation_results ORDER BY partition_key, check_name
"""

_MODELS = """
SELECT version, status, student, encoder, silver, gold, trained_at, promoted_at, decision, decided_at
FROM models ORDER BY trained_at DESC, version
"""

_EVALUATION = """
SELECT model_version, split, metric, label, value, lower, upper, records FROM model_evaluation
WHERE slice = '' ORDER BY ALL
"""

_SLICES = """
SELECT model_version, split, slice, metric, label, value, lower, upper, records FROM model_evaluation
WHERE slice <> '' ORDER BY ALL
"""

_MODEL_CHECKS = """
SELECT model_version, check_name, passed, observed, records, checked_at FROM model_checks
ORDER BY model_version, passed, check_name
"""

_TEACHER_ERRORS = f"""
SELECT t.record_id, t.partition_key, g.content, g.label AS gold, t.label AS teacher,
       t.confidence
FROM teacher t JOIN measuring_gold g USING (record_id, content_hash)
WHERE t.state = 'labelled' AND t.label <> g.label
ORDER BY t.confidence DESC NULLS LAST, t.record_id LIMIT {EXAMPLES}
"""

_STUDENT_DIFFERS = f"""
SELECT p.record_id, t.partition_key, r.content, t.label AS teacher,
       p.label AS student, t.confidence, p.confidence AS student_confidence
FROM labelled t JOIN predictions p USING (record_id, content_hash) JOIN live r USING (record_id)
WHERE t.label <> p.label
ORDER BY coalesce(t.confidence, 0) + p.confidence DESC, p.record_id LIMIT {EXAMPLES}
"""

_REJECTED = """
SELECT reason, count(*) AS rows, max(seen_at) AS seen_at,
       list(left(record_id, 60) ORDER BY record_id)[1:5] AS examples
FROM rejected_records GROUP BY ALL ORDER BY rows DESC, reason
"""

_REFRESHES = f"""
SELECT refresh_id, max(planned_at) AS planned_at, count(*) AS partitions, sum(new)::BIGINT AS new,
       sum(changed)::BIGINT AS changed, sum(deleted)::BIGINT AS deleted, sum(stale)::BIGINT AS stale
FROM refresh_plans GROUP BY ALL ORDER BY planned_at DESC LIMIT {REFRESHES}
"""

_STAGES = """
SELECT stage, count(*) AS partitions, max(finished_at) AS finished_at FROM stage_runs GROUP BY ALL
"""


@dataclass(frozen=True)
class ReportData:
    """The frames of the quality report.

    Attributes:
        accounting: stage, state, records: where every record ended, stage by stage.
        totals: stage, records: what the states of a stage must sum to, counted apart.
        calls: One row: calls, errors, unpriced, cost_usd (of those with a price), tokens, reused.
        cost: partition_key, calls, cost_usd (null where a price is unknown).
        labels: label, records: the teacher's current labels of live records.
        predicted: label, records: the student's.
        labels_over_partitions: partition_key, label, records.
        student_confusion: gold, label, records; gold on records of the pool only.
        validations: Every expectation of every partition.
        models: The registry, newest first.
        evaluation: The rows of model_evaluation about all of a split.
        slices: Those about parts of it: slices, bins of confidence, the learning curve.
        model_checks: How the models behave; checks that fail first.
        teacher_errors: record_id, partition_key, content, gold, teacher, confidence; the surest first.
        student_differs: The same for teacher and student; both surest first.
        rejected: reason, rows, seen_at, examples (ids).
        refreshes: refresh_id, planned_at, partitions, new, changed, deleted, stale; newest first.
        stages: stage, partitions, finished_at.
        teacher: The teacher against gold, as everywhere else in this package.
    """

    accounting: pl.DataFrame
    totals: pl.DataFrame
    calls: pl.DataFrame
    cost: pl.DataFrame
    labels: pl.DataFrame
    predicted: pl.DataFrame
    labels_over_partitions: pl.DataFrame
    student_confusion: pl.DataFrame
    validations: pl.DataFrame
    models: pl.DataFrame
    evaluation: pl.DataFrame
    slices: pl.DataFrame
    model_checks: pl.DataFrame
    teacher_errors: pl.DataFrame
    student_differs: pl.DataFrame
    rejected: pl.DataFrame
    refreshes: pl.DataFrame
    stages: pl.DataFrame
    teacher: TeacherAccuracy


def read_report_data(store: Store, project: Project) -> ReportData:
    """Everything the report shows, in two short transactions: the tables, and the teacher against gold."""
    given = {"min_confidence": project.declaration.quality.min_confidence}
    teacher = teacher_accuracy(store)
    with store.transaction() as con:
        con.execute(_VIEWS)
        return ReportData(
            accounting=store.frame(con, _ACCOUNTING, given),
            totals=store.frame(con, _TOTALS),
            calls=store.frame(con, _CALLS),
            cost=store.frame(con, _COST),
            labels=named_counts(project.task, store.frame(con, _LABELS)),
            predicted=store.frame(con, _PREDICTED),
            labels_over_partitions=named_counts(project.task, store.frame(con, _LABELS_OVER_PARTITIONS)),
            student_confusion=store.frame(con, _STUDENT_CONFUSION),
            validations=store.frame(con, _VALIDATIONS),
            models=store.frame(con, _MODELS),
            evaluation=store.frame(con, _EVALUATION),
            slices=store.frame(con, _SLICES),
            model_checks=store.frame(con, _MODEL_CHECKS),
            teacher_errors=_in_words(store.frame(con, _TEACHER_ERRORS), project.task),
            student_differs=_in_words(store.frame(con, _STUDENT_DIFFERS), project.task),
            rejected=store.frame(con, _REJECTED),
            refreshes=store.frame(con, _REFRESHES),
            stages=store.frame(con, _STAGES),
            teacher=teacher,
        )


def _in_words(frame: pl.DataFrame, task: Task) -> pl.DataFrame:
    """The same with contents and labels as people read them."""
    words = {"content": readable, "gold": task.shown, "teacher": task.shown, "student": task.shown}
    return frame.with_columns(
        pl.Series(name, [say(text) for text in frame[name]], pl.String)
        for name, say in words.items()
        if name in frame.columns
    )
