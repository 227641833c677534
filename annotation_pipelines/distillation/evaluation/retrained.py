"""What takes further training: a new student's learning curve, and the student that gold alone would give."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Sequence

import polars as pl

from annotation_pipelines.distillation.embedding import Embedder
from annotation_pipelines.distillation.evaluation import learning_curve
from annotation_pipelines.distillation.evaluation.beside import gain, headline
from annotation_pipelines.distillation.evaluation.cost import CONSTANT, GOLD_ALONE
from annotation_pipelines.distillation.evaluation.gold import EVALUATION
from annotation_pipelines.distillation.evaluation.rows import EvaluationRow, difference_row, rows
from annotation_pipelines.distillation.registry import Model, ModelRegistry
from annotation_pipelines.distillation.students.base import Examples
from annotation_pipelines.distillation.students.files import read_card
from annotation_pipelines.distillation.students.registry import student_class
from annotation_pipelines.distillation.training import data_fingerprint, read_examples
from annotation_pipelines.errors import TrainingError
from annotation_pipelines.project import Project
from annotation_pipelines.store.database import Store
from annotation_pipelines.tasks.metrics.bootstrap import Difference, Metric

BASELINES = (GOLD_ALONE, CONSTANT)
"""What is known of them stands in model_evaluation in the place of a version."""
CHEAP = 60
"""Seconds: a student that took longer to train is not trained again to be evaluated; all of it takes about as long."""
GAIN = "_gain_over_"
"""Stands in the name of a metric that says what a model gained over one of them."""


def retrained_rows(
    store: Store, project: Project, embedder: Embedder, model: Model, answers: pl.DataFrame
) -> list[EvaluationRow]:
    """The learning curve of a new model, and what it gained over having no annotator.

    Nothing is trained where training the model took more than CHEAP seconds, or where the labels are not those any more
    that it was trained on; a constant answer needs no training.

    Args:
        answers: content_hash, content, label (gold) and answer: what the model was measured on.
    """
    task, config = project.task, project.declaration.distillation
    if answers.is_empty():
        return []
    found = read_examples(store, project).examples
    kind = student_class(task, config.student)
    folder = ModelRegistry(store).folder(model.version)
    cheap = read_card(folder).get("seconds", CHEAP + 1) <= CHEAP and model.data_fingerprint == data_fingerprint(found)
    truth, said = answers["label"].to_list(), answers["answer"].to_list()

    def labels(examples: Examples) -> list[str]:
        student = kind(task, config).fit(examples, embedder)
        return student.predict(answers.select("content_hash", "content"), embedder).labels

    def fit(examples: Examples) -> Metric | None:
        return headline(task, truth, labels(examples), seed=config.seed)

    curve = learning_curve.learning_curve(found, fit) if cheap else []
    result = [
        row
        for size, metric in curve
        for row in rows(model.version, EVALUATION, [metric], f"{learning_curve.SLICE}{size}")
    ]
    baseline, without = CONSTANT, _constant(found, len(truth))
    gold = Examples(found.rows.filter(pl.col("origin") == "gold"), found.audit)
    if cheap and gold.rows.height:
        # Gold of one class trains nothing.
        with contextlib.suppress(TrainingError):
            baseline, without = GOLD_ALONE, labels(gold)
    metric = headline(task, truth, without, seed=config.seed) if without else None
    if metric is None:
        return result
    result += rows(baseline, EVALUATION, [metric])
    if (gained := gain(task, truth, said, without, seed=config.seed)) is not None:
        result.append(difference_row(model.version, EVALUATION, _less(task.headline, baseline), gained))
    return result


def baseline_gain(metrics: pl.DataFrame, version: str, metric: str) -> tuple[str | None, Difference | None]:
    """Against which baseline a model was held, and what it gained, out of rows of model_evaluation."""
    own = metrics.filter((pl.col("model_version") == version) & (pl.col("slice") == ""))
    for baseline in BASELINES:
        for row in own.filter(pl.col("metric") == _less(metric, baseline)).iter_rows(named=True):
            return baseline, Difference(row["value"], row["lower"], row["upper"], row["records"])
    return None, None


def _less(metric: str, baseline: str) -> str:
    return f"{metric}{GAIN}{baseline.replace(' ', '_')}"


def _constant(examples: Examples, n: int) -> Sequence[str]:
    """The most frequent training label, n times; the first by name of several."""
    counts = Counter(examples.labels)
    if not counts:
        return []
    most = min(counts, key=lambda label: (-counts[label], label))
    return [most] * n
