"""The card of a model, `card.md` in its folder: what it is, what it learned from, how good it is, what it is not.

Rendered from the tables and card.json alone (after Mitchell et al. 2019, "Model cards for model reporting", arXiv
1810.03993); written anew at training, evaluation and every decision.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import polars as pl

from annotation_pipelines.distillation.evaluation import learning_curve
from annotation_pipelines.distillation.evaluation.beside import RIGHT, STATED, TEACHER, less_teacher
from annotation_pipelines.distillation.registry import Model, ModelRegistry
from annotation_pipelines.distillation.students.files import read_card
from annotation_pipelines.errors import StoreCorrupted
from annotation_pipelines.project import Project
from annotation_pipelines.store.database import Store

FILE = "card.md"

_ROWS = """
SELECT model_version, split, slice, metric, label, value, lower, upper, records FROM model_evaluation
WHERE model_version IN ($version, 'teacher') ORDER BY ALL
"""
_CHECKS = """
SELECT check_name, passed, observed, records FROM model_checks WHERE model_version = ? ORDER BY check_name
"""


def write_card(store: Store, project: Project, version: str) -> None:
    """Write a model's card.md anew; a model whose folder is gone or damaged keeps what it has.

    Raises:
        StoreError: There is no such model.
    """
    registry = ModelRegistry(store)
    model, folder = registry.get(version), registry.folder(version)
    try:
        card = read_card(folder)
    except StoreCorrupted:
        return
    text = render(project, model, card, store.query(_ROWS, {"version": version}), store.query(_CHECKS, [version]))
    temporary = folder / f".{FILE}.{os.getpid()}"
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(folder / FILE)


def render(project: Project, model: Model, card: dict[str, Any], metrics: pl.DataFrame, checks: pl.DataFrame) -> str:
    """The card as Markdown.

    Args:
        card: card.json.
        metrics: Rows of model_evaluation of the model and of its teacher.
        checks: Its rows of model_checks.
    """
    task = project.task
    parts = [
        f"# {project.name} {model.version}",
        project.declaration.description,
        f"A {model.student.replace('_', ' ')} student for task: {task.kind}, on the encoder `{model.encoder}`, "
        f"distilled from the labels of {_annotators(project)} and of people. Status: **{model.status}**.",
        "## Training",
        _table(
            ("", ""),
            [
                ("trained", f"{model.trained_at:%Y-%m-%d %H:%M} UTC"),
                ("silver labels (the annotator's)", f"{model.silver:,}"),
                ("gold labels (people's)", f"{model.gold:,}"),
                *((f"label {label}", f"{count:,}") for label, count in card.get("labels", {}).items()),
                ("data fingerprint", f"`{model.data_fingerprint or 'unknown'}`"),
                ("champion then", f"`{model.parent}`" if model.parent else "none"),
                *((name.replace("_", " "), _figure(value)) for name, value in card.get("figures", {}).items()),
            ],
        ),
        "Settings: " + f"`{model.config}`" if model.config else "",
        "## Evaluation",
        *_evaluation(metrics, model.version, task.headline),
        "## Checks",
        _table(
            ("check", "", "observed"),
            [
                (str(name).replace("_", " "), "passed" if passed else "**failed**", observed)
                for name, passed, observed, _ in checks.iter_rows()
            ],
        )
        if len(checks)
        else "Not checked yet.",
        "## Decisions",
        "\n".join(f"- {line}" for line in model.history) or "None yet.",
        "## Limits",
        "\n".join(f"- {line}" for line in _limits(project, model, metrics)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _evaluation(metrics: pl.DataFrame, version: str, headline: str) -> list[str]:
    own = metrics.filter((pl.col("model_version") == version) & (pl.col("split") == "evaluation"))
    teacher = metrics.filter((pl.col("model_version") == TEACHER) & (pl.col("split") == "evaluation"))
    if own.is_empty():
        return ["Not measured yet, or on no gold that it was not trained on."]
    beside = {(s, m, n): row for s, m, n, *row in teacher.select("slice", "metric", "label", *_VALUES).iter_rows()}

    def lines(part: pl.DataFrame, column: str) -> list[tuple[str, ...]]:
        return [
            (
                str(row[column]).replace("_", " "),
                f"{row['records']:,}",
                _interval([row[name] for name in _VALUES]),
                _interval(beside.get((row["slice"], row["metric"], row["label"]))),
            )
            for row in part.iter_rows(named=True)
        ]

    overall = own.filter((pl.col("slice") == "") & (pl.col("label") == ""))
    classes = own.filter((pl.col("slice") == "") & (pl.col("label") != "") & (pl.col("metric") == "f1"))
    sliced = own.filter(
        (pl.col("slice") != "")
        & (pl.col("metric") == headline)
        & ~pl.col("slice").str.starts_with(learning_curve.SLICE)
    )
    curve = learning_curve.points(metrics, version, headline)
    bins = own.filter(pl.col("metric").is_in([STATED, RIGHT]))
    head = ("gold records", "this model", "teacher")
    found = [
        "On gold that no training step saw, with 95% bootstrap intervals.",
        _table(("metric", *head), lines(overall, "metric")),
    ]
    if len(classes):
        found += ["F1 of each label:", _table(("label", *head), lines(classes, "label"))]
    if len(sliced):
        found += [f"{headline.replace('_', ' ')} of slices:", _table(("slice", *head), lines(sliced, "slice"))]
    if len(bins):
        wide = bins.pivot("metric", index=["slice", "records"], values="value").sort("slice")
        found += [
            "Confidence against the share of answers that are right:",
            _table(
                ("stated", "records", "mean", "right"),
                [
                    (name.removeprefix("confidence: "), f"{n:,}", _figure(stated), _figure(right))
                    for name, n, stated, right in wide.select("slice", "records", STATED, RIGHT).iter_rows()
                ],
            ),
        ]
    if len(curve):
        found += [
            f"{headline.replace('_', ' ')} with fewer labels:",
            _table(
                ("labels", headline.replace("_", " ")),
                [(f"{n:,}", _interval(row)) for n, *row in curve.select("labels", *_VALUES).iter_rows()],
            ),
        ]
    return found


_VALUES = ("value", "lower", "upper")


def _limits(project: Project, model: Model, metrics: pl.DataFrame) -> Iterable[str]:
    yield (
        f"Silver labels are those of {_annotators(project)}: the model learned its mistakes with them, and may share "
        "its biases."
    )
    own = metrics.filter((pl.col("model_version") == model.version) & (pl.col("slice") == "") & (pl.col("label") == ""))
    gap = own.filter(pl.col("metric") == less_teacher(project.task.headline))
    if len(own):
        most = max(own["records"].to_list())
        yield f"It is measured on {most:,} records of this project; on other texts nothing is known."
    else:
        yield "It is not measured on gold: nothing is known of how good it is."
    if len(gap) and gap["upper"][0] is not None and gap["upper"][0] < 0:
        yield "It is worse than its teacher, beyond chance."
    yield (
        f"The licence of the encoder `{model.encoder}`, and of what it was trained on, is not known to this card: look "
        "it up before passing the model on. The same holds for the terms under which the annotator's answers may be "
        "used."
    )
    yield "Personal data: training.parquet holds ids, hashes and labels, and labels of spans quote their texts."


def _annotators(project: Project) -> str:
    return ", ".join(f"`{annotator.called}`" for annotator in project.declaration.annotators)


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    cells = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in cells)


def _interval(row: Sequence[float | None] | None) -> str:
    if row is None or row[0] is None:
        return "–"
    value, lower, upper = row
    return f"{value:.3f}" if lower is None or upper is None else f"{value:.3f} ({lower:.3f} to {upper:.3f})"


def _figure(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
