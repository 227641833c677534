"""A student's figures beside its teacher's: overall, class by class, slice by slice, with paired intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from annotation_pipelines.distillation.evaluation import calibration
from annotation_pipelines.distillation.evaluation.gold import EVALUATION
from annotation_pipelines.distillation.evaluation.rows import EvaluationRow, difference_row, rows
from annotation_pipelines.distillation.evaluation.slices import slices
from annotation_pipelines.tasks.base import Task
from annotation_pipelines.tasks.metrics.bootstrap import Difference, Metric, paired

TEACHER = "teacher"
RIGHT = "exactly_right"
"""The share of labels that are those of gold, in a bin of the reliability table."""
STATED = "mean_confidence"
_BIN = "confidence: {:.1f} to {:.1f}"


def headline(task: Task, truth: Sequence[str], given: Sequence[str | None], *, seed: int) -> Metric | None:
    """The task's main metric, of labels against gold; None without records."""
    metrics = task.measure(truth, given, seed=seed)
    found = [metric for metric in metrics if metric.metric == task.headline and not metric.label]
    return found[0] if found else None


def gain(
    task: Task, truth: Sequence[str], first: Sequence[str | None], second: Sequence[str | None], *, seed: int
) -> Difference | None:
    """The main metric of one less that of another on the same gold, by a paired bootstrap; None where undefined."""
    one, other = (headline(task, truth, given, seed=seed) for given in (first, second))
    return None if one is None or other is None else paired(one, other, seed=seed)


def less_teacher(metric: str) -> str:
    """What the difference of student and teacher is called in model_evaluation."""
    return f"{metric}_less_teacher"


def beside_teacher(student: pl.DataFrame, teacher: pl.DataFrame) -> pl.DataFrame:
    """A student's answers with the teacher's on the same gold: given, teacher_confidence, and asked.

    Args:
        student: As `evaluation.gold.answers` gives.
        teacher: As `evaluation.gold.read_gold` gives.
    """
    said = teacher.filter(pl.col("role") == EVALUATION).select(
        "record_id", "given", "teacher_confidence", asked=pl.lit(True)
    )
    return student.join(said, on="record_id", how="left", maintain_order="left").with_columns(
        pl.col("asked").fill_null(value=False)
    )


def against_teacher(both: pl.DataFrame, task: Task, *, seed: int) -> Difference | None:
    """The student's main metric less the teacher's, on the gold that the teacher was asked about."""
    asked = both.filter(pl.col("asked"))
    truth, answer, given = (asked[name].to_list() for name in ("label", "answer", "given"))
    return gain(task, truth, answer, given, seed=seed)


def student_rows(version: str, both: pl.DataFrame, task: Task, *, seed: int) -> list[EvaluationRow]:
    """Every figure of a student: its metrics, its calibration, its slices and its distance from the teacher."""
    truth, answer = both["label"].to_list(), both["answer"].to_list()
    found = rows(version, EVALUATION, task.measure(truth, answer, seed=seed))
    found += _calibration_rows(version, both["label"], both["answer"], both["confidence"], seed=seed)
    overall = against_teacher(both, task, seed=seed)
    if overall is not None:
        found.append(difference_row(version, EVALUATION, less_teacher(task.headline), overall))
    for name, mask in slices(both).items():
        part = both.filter(pl.Series(mask))
        metric, apart = _compared(part, task, seed)
        found += rows(version, EVALUATION, [metric] if metric else [], name)
        if apart is not None:
            found.append(difference_row(version, EVALUATION, less_teacher(task.headline), apart, name))
    return found


def teacher_rows(teacher: pl.DataFrame, split: str, task: Task, *, seed: int) -> list[EvaluationRow]:
    """The teacher's metrics on a split, and its calibration where it states how sure it is."""
    part = teacher.filter(pl.col("role") == split)
    found = rows(TEACHER, split, task.measure(part["label"].to_list(), part["given"].to_list(), seed=seed))
    # Where there is no student, answers are often free texts: none is the very one of gold.
    if split == EVALUATION and task.student:
        sure = part.drop_nulls(["given", "teacher_confidence"])
        found += _calibration_rows(TEACHER, sure["label"], sure["given"], sure["teacher_confidence"], seed=seed)
    return found


def teacher_slice_rows(both: pl.DataFrame, task: Task, *, seed: int) -> list[EvaluationRow]:
    """The teacher's main metric on the same slices, where it was asked."""
    found: list[EvaluationRow] = []
    for name, mask in slices(both).items():
        part = both.filter(pl.Series(mask) & pl.col("asked"))
        metric = headline(task, part["label"].to_list(), part["given"].to_list(), seed=seed)
        found += rows(TEACHER, EVALUATION, [metric] if metric else [], name)
    return found


def _compared(part: pl.DataFrame, task: Task, seed: int) -> tuple[Metric | None, Difference | None]:
    """The student's main metric on a slice, and what it is above the teacher's where that was asked."""
    metric = headline(task, part["label"].to_list(), part["answer"].to_list(), seed=seed)
    if not part["asked"].all():
        return metric, against_teacher(part, task, seed=seed)
    of_teacher = headline(task, part["label"].to_list(), part["given"].to_list(), seed=seed)
    return metric, None if metric is None or of_teacher is None else paired(metric, of_teacher, seed=seed)


def _calibration_rows(
    model: str, truth: pl.Series, given: pl.Series, confidence: pl.Series, *, seed: int
) -> list[EvaluationRow]:
    right = (truth == given).to_list()
    sure = confidence.to_numpy().astype(np.float64)
    found = rows(model, EVALUATION, calibration.measure(right, sure, seed=seed))
    for lower, upper, n, stated, share in calibration.reliability(right, sure).iter_rows():
        name = _BIN.format(lower, upper)
        found.append(EvaluationRow(model, EVALUATION, name, STATED, "", stated, None, None, n))
        found.append(EvaluationRow(model, EVALUATION, name, RIGHT, "", share, None, None, n))
    return found


def reliability_bins(metrics: pl.DataFrame, model: str) -> pl.DataFrame:
    """The reliability table of a model out of rows of model_evaluation: n, mean_confidence, accuracy."""
    part = metrics.filter((pl.col("model_version") == model) & pl.col("slice").str.starts_with("confidence: "))
    return (
        part.group_by("slice")
        .agg(
            n=pl.col("records").max(),
            mean_confidence=pl.col("value").filter(pl.col("metric") == STATED).first(),
            accuracy=pl.col("value").filter(pl.col("metric") == RIGHT).first(),
        )
        .sort("slice")
    )
