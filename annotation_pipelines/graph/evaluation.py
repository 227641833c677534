"""What model_evaluation shows in the UI: tables and pictures of student and teacher, and the checks as asset checks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
import polars as pl

from annotation_pipelines.distillation.behaviour_bounds import DESCRIPTIONS
from annotation_pipelines.graph.stage import Metadata, StageBuilder, sample

if TYPE_CHECKING:
    from annotation_pipelines.distillation.evaluate import Evaluation

STAGE = "model_evaluation"
NOT_WORSE = "student_not_worse_than_teacher"


def evaluation_check_specs(builder: StageBuilder) -> list[dg.AssetCheckSpec]:
    """The checks of model_evaluation where there is a student."""
    described = {
        NOT_WORSE: "The student is not worse than the teacher on held-out gold (paired bootstrap).",
        **DESCRIPTIONS,
    }
    return [dg.AssetCheckSpec(name, asset=builder.key(STAGE), description=words) for name, words in described.items()]


def evaluation_checks(builder: StageBuilder, evaluation: Evaluation) -> list[dg.AssetCheckResult]:
    """How they ended; those of behaviour that were not made, for want of a model, pass and say so."""

    def outcome(name: str, passed: bool, words: str, metadata: Metadata | None = None) -> dg.AssetCheckResult:
        return dg.AssetCheckResult(
            check_name=name,
            asset_key=builder.key(STAGE),
            passed=passed,
            severity=dg.AssetCheckSeverity.WARN,
            description=words,
            metadata=metadata or {},
        )

    made = {check.name: check for check in evaluation.checks}
    results = [outcome(NOT_WORSE, evaluation.student_holds, evaluation.verdict)]
    for name in DESCRIPTIONS:
        check = made.get(name)
        results.append(
            outcome(name, True, "not asked of this kind of task" if made else "there is no student yet")
            if check is None
            else outcome(name, check.passed, check.observed, {"texts": check.records, "vital": check.vital})
        )
    return results


def shown_evaluation(evaluation: Evaluation) -> Metadata:
    """Tables and pictures of an evaluation."""
    from annotation_pipelines.reports import plots, students

    headline, version = evaluation.headline, evaluation.version
    rows = students.slice_rows(evaluation.metrics, version, headline)
    overall = evaluation.metrics.filter(pl.col("slice") == "").drop("slice")
    shown: Metadata = {"metrics": sample(overall, rows=200)}
    if rows:
        flat = [
            {
                "slice": row["slice"],
                "records": row["records"],
                **{who: _words(row[who]) for who in ("student", "teacher", "difference")},
            }
            for row in rows
        ]
        shown["slices"] = sample(pl.DataFrame(flat, infer_schema_length=None), rows=100)
        shown["slices_plot"] = _picture(plots.png(students.slices_plot(rows, headline)), "slices")
    if len(evaluation.reliability):
        figure = plots.calibration(evaluation.reliability, title="Calibration of the student")
        shown["reliability"] = _picture(plots.png(figure), "reliability diagram")
    if len(evaluation.curve):
        curve = evaluation.curve
        own = overall.filter(
            (pl.col("model_version") == version) & (pl.col("metric") == headline) & (pl.col("label") == "")
        )
        whole = students.curve_to(curve, evaluation.labels, own.row(0, named=True) if len(own) else None)
        figure = students.labels_plot(whole, headline, teacher=evaluation.value(students.TEACHER, headline))
        shown["learning_curve"] = _picture(plots.png(figure), "learning curve")
    if evaluation.checks:
        made = [
            {
                "check": c.name,
                "passed": c.passed,
                "observed": c.observed,
                "texts": c.records,
                "asks": DESCRIPTIONS[c.name],
            }
            for c in evaluation.checks
        ]
        shown["behaviour"] = sample(pl.DataFrame(made), rows=len(made), width=300)
    return shown


def _words(row: dict[str, float | None] | None) -> str | None:
    if row is None or row["value"] is None:
        return None
    return (
        f"{row['value']:.3f} ({row['lower']:.3f} to {row['upper']:.3f})"
        if row["lower"] is not None
        else str(row["value"])
    )


def _picture(png: bytes, alt: str) -> dg.MetadataValue:
    from annotation_pipelines.reports import plots

    return dg.MetadataValue.md(plots.markdown_image(png, alt))
