"""How good the student is with fewer labels: what the next labels would still bring.

A student that is trained in seconds is trained again on nested subsets, each twice as large as the one before: together
they take about as long as it did. Where rounds of selection were run, selection_rounds has a curve of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import polars as pl

from annotation_pipelines.distillation.students.base import Examples
from annotation_pipelines.errors import TrainingError
from annotation_pipelines.project import digest
from annotation_pipelines.tasks.metrics.bootstrap import Metric

SLICE = "labels: "
"""Rows of model_evaluation whose slice begins so are points of the curve; the number of labels follows."""
SMALLEST = 40
LARGEST = 20_000
"""No subset beyond it is trained again: the curve bends earlier, and it would take minutes."""
POINTS = 4

Fit = Callable[[Examples], Metric | None]
"""Train on examples and measure on gold."""


def sizes(n: int) -> list[int]:
    """The numbers of labels of the subsets of n, growing: halves of n, halves of those, and so on."""
    found: list[int] = []
    size = n // 2
    while size >= SMALLEST and len(found) < POINTS:
        if size <= LARGEST:
            found.append(size)
        size //= 2
    return found[::-1]


def learning_curve(examples: Examples, fit: Fit) -> list[tuple[int, Metric]]:
    """The main metric of students of nested subsets of the examples; those that cannot be trained are left out.

    Which rows come first is decided by their texts and labels alone, so that more labels change few subsets.
    """
    rows = examples.rows
    keys = [digest([text, label]) for text, label in rows.select("content_hash", "label").iter_rows()]
    order = np.argsort(np.array(keys), kind="stable")
    found = []
    for size in sizes(rows.height):
        chosen = np.sort(order[:size])
        try:
            metric = fit(Examples(rows[chosen], examples.audit))
        except TrainingError as error:
            logging.getLogger(__name__).info("no student of %d labels: %s", size, error.problem)
            continue
        if metric is not None:
            found.append((size, metric))
    return found


def points(metrics: pl.DataFrame, model: str, headline: str) -> pl.DataFrame:
    """The curve of a model out of rows of model_evaluation: labels, value, lower, upper, records; fewest first."""
    part = metrics.filter(
        (pl.col("model_version") == model)
        & (pl.col("metric") == headline)
        & (pl.col("label") == "")
        & pl.col("slice").str.starts_with(SLICE)
    )
    return (
        part.select(
            pl.col("slice").str.strip_prefix(SLICE).cast(pl.Int64).alias("labels"), "value", "lower", "upper", "records"
        )
        .drop_nulls("value")
        .sort("labels")
    )
