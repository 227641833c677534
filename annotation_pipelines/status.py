"""The state of a project in a few figures, read from its store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from annotation_pipelines.project import Project
from annotation_pipelines.quality.agreement import teacher_accuracy
from annotation_pipelines.store.database import Store


@dataclass(frozen=True)
class Status:
    """Figures of a project; None where there is nothing to measure yet.

    Attributes:
        headline: The task's main metric.
        teacher_headline: The annotator's, on held-out gold where there is some, else on gold of the pool.
        student_headline: The champion's, on held-out gold.
        teacher_accuracy: The share of gold records on which the annotator says exactly what people say.
        unlabelled: How many selected records ended in each state other than labelled.
        cost_usd: What all calls ever made cost; None where a price is unknown.
    """

    records: int
    labelled: int
    unlabelled: dict[str, int]
    trusted: int
    human: int
    calls: int
    cost_usd: float | None
    headline: str
    teacher_headline: float | None
    teacher_headline_records: int
    teacher_accuracy: float | None
    teacher_records: int
    student_headline: float | None
    student_records: int
    champion: str | None
    predictions: int
    failing_expectations: int
    database: Path
    report: Path


def project_status(project: Project, store: Store) -> Status:
    """Read the figures in one short transaction."""
    with store.transaction() as con:

        def one(sql: str) -> tuple[object, ...]:
            return con.execute(sql).fetchone() or ()

        records = one("SELECT count(*) FROM records WHERE deleted_at IS NULL")[0]
        labelled = one("SELECT count(*) FROM llm_labels WHERE state = 'labelled' AND partition_key <> 'held_out'")[0]
        unlabelled = con.execute(
            "SELECT state, count(*) FROM llm_labels WHERE state <> 'labelled' AND partition_key <> 'held_out' "
            "GROUP BY state ORDER BY state"
        ).fetchall()
        trusted = one("SELECT count(*) FROM trusted_labels")[0]
        human = one("SELECT count(*) FROM human_labels")[0]
        calls, priced, cost = one(
            "SELECT count(*), count(cost_usd), sum(cost_usd) FROM llm_calls "
            "WHERE status <> 'error' AND coalesce(http_status, 200) < 400"
        )
        student = one(
            "SELECT value, records, version FROM models LEFT JOIN model_evaluation ON model_version = version "
            f"AND metric = '{project.task.headline}' AND split = 'evaluation' AND slice = '' AND label = '' "
            "WHERE status = 'champion'"
        ) or (None, None, None)
        headline = one(
            "SELECT value, records FROM model_evaluation WHERE model_version = 'teacher' AND label = '' AND metric = "
            f"'{project.task.headline}' AND slice = '' AND value IS NOT NULL ORDER BY split = 'evaluation' DESC LIMIT 1"
        ) or (None, 0)
        predictions = one("SELECT count(*) FROM predictions")[0]
        failing = one("SELECT count(*) FROM validation_results WHERE NOT success")[0]
    teacher = teacher_accuracy(store, None)
    return Status(
        records=int(str(records)),
        labelled=int(str(labelled)),
        unlabelled={str(state): int(count) for state, count in unlabelled},
        trusted=int(str(trusted)),
        human=int(str(human)),
        calls=int(str(calls)),
        cost_usd=float(str(cost or 0)) if priced == calls else None,
        headline=project.task.headline,
        teacher_headline=None if headline[0] is None else float(str(headline[0])),
        teacher_headline_records=int(str(headline[1])),
        teacher_accuracy=teacher.value if teacher.records else None,
        teacher_records=teacher.records,
        student_headline=None if student[0] is None else float(str(student[0])),
        student_records=int(str(student[1] or 0)),
        champion=None if student[2] is None else str(student[2]),
        predictions=int(str(predictions)),
        failing_expectations=int(str(failing)),
        database=store.path,
        report=store.home / "reports" / "quality_report.html",
    )
