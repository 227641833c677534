"""Rows of model_evaluation, without their time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import polars as pl

from annotation_pipelines.tasks.metrics.bootstrap import Difference, Metric

SCHEMA = pl.Schema(
    {
        "model_version": pl.String(),
        "split": pl.String(),
        "slice": pl.String(),
        "metric": pl.String(),
        "label": pl.String(),
        "value": pl.Float64(),
        "lower": pl.Float64(),
        "upper": pl.Float64(),
        "records": pl.Int64(),
    }
)


@dataclass(frozen=True)
class EvaluationRow:
    """One figure of one model; the columns are those of model_evaluation."""

    model_version: str
    split: str
    slice: str
    metric: str
    label: str
    value: float | None
    lower: float | None
    upper: float | None
    records: int


def rows(model: str, split: str, metrics: Iterable[Metric], slice_name: str = "") -> list[EvaluationRow]:
    """Metrics as rows."""
    return [
        EvaluationRow(model, split, slice_name, m.metric, m.label, m.value, m.lower, m.upper, m.records)
        for m in metrics
    ]


def difference_row(model: str, split: str, metric: str, gain: Difference, slice_name: str = "") -> EvaluationRow:
    """A difference as a row."""
    return EvaluationRow(model, split, slice_name, metric, "", gain.value, gain.lower, gain.upper, gain.records)


def frame(found: Sequence[EvaluationRow]) -> pl.DataFrame:
    """Rows as a frame of SCHEMA."""
    return pl.DataFrame([tuple(vars(row).values()) for row in found], schema=SCHEMA, orient="row")
