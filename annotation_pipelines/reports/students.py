"""Students in tables and pictures: beside their teacher, slice by slice, with fewer labels, and how they behave.

Pure functions over rows of model_evaluation, model_checks and models.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from annotation_pipelines.reports.drawing import ACCENT, NEUTRAL, WARM, canvas, fit, headline, look, no_data
from annotation_pipelines.reports.partition_axis import quiet_axis

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Row = dict[str, Any]
TEACHER = "teacher"


def main_row(evaluation: pl.DataFrame, version: str | None, metric: str) -> Row | None:
    """A model's main metric on held-out gold; None where it was not measured.

    Args:
        evaluation: Rows of model_evaluation over all of a split.
    """
    found = evaluation.filter(
        (pl.col("model_version") == (version or ""))
        & (pl.col("split") == "evaluation")
        & (pl.col("metric") == metric)
        & (pl.col("label") == "")
        & pl.col("value").is_not_null()
    )
    return found.row(0, named=True) if len(found) else None


def slice_rows(rows: pl.DataFrame, student: str | None, metric: str) -> list[Row]:
    """A student beside its teacher on every slice of held-out gold, the order that of their names.

    Args:
        rows: Rows of model_evaluation with a slice.
        metric: The task's main one.

    Returns:
        slice, records, and the rows student, teacher and difference, None where it was not measured.
    """
    table: dict[str, Row] = {}
    kept = rows.filter(
        (pl.col("split") == "evaluation")
        & pl.col("model_version").is_in([student or "", TEACHER])
        & pl.col("metric").is_in([metric, f"{metric}_less_teacher"])
        & ~pl.col("slice").str.contains("^(labels|confidence): ")
        & (pl.col("slice") != "")
    )
    for row in kept.sort("slice").iter_rows(named=True):
        entry = table.setdefault(
            row["slice"],
            {"slice": row["slice"], "records": 0, "student": None, "teacher": None, "difference": None},
        )
        who = "teacher" if row["model_version"] == TEACHER else "student" if row["metric"] == metric else "difference"
        entry[who] = row
        entry["records"] = max(entry["records"], row["records"])
    return [row for row in table.values() if row["student"] is not None]


@look()
def slices_plot(rows: list[Row], metric: str, *, title: str = "Student and teacher, slice by slice") -> Figure:
    """The main metric of both on every slice, with 95% intervals.

    Args:
        rows: As `slice_rows` gives.
    """
    if not rows:
        return no_data(f"{title}: no slice is measured yet")
    figure = canvas(1.1 + 0.34 * len(rows))
    axes = figure.add_subplot()
    for place, row in enumerate(rows):
        for who, colour, shift in (("teacher", WARM, -0.14), ("student", ACCENT, 0.14)):
            one = row[who]
            if one is None or one["value"] is None:
                continue
            axes.hlines(place + shift, one["lower"], one["upper"], color=colour, alpha=0.35, linewidth=5)
            axes.scatter(one["value"], place + shift, color=colour, s=26, zorder=3, linewidth=0)
    axes.scatter([], [], color=ACCENT, s=26, label="student")
    axes.scatter([], [], color=WARM, s=26, label="teacher")
    figure.legend(loc="outside right upper")
    names = [f"{fit(row['slice'], 34)}  ({row['records']:,})" for row in rows]
    axes.set_yticks(range(len(rows)), names)
    axes.set_ylim(len(rows) - 0.5, -0.6)
    axes.set_xlim(0, 1.02)
    axes.grid(axis="x", color=NEUTRAL, alpha=0.3, linewidth=0.8)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_xlabel(metric.replace("_", " "))
    headline(figure, title)
    return figure


@look()
def labels_plot(curve: pl.DataFrame, metric: str, *, teacher: float | None = None) -> Figure:
    """The student with fewer labels, its 95% intervals, and the teacher as a line.

    Args:
        curve: labels, value, lower, upper; fewest labels first, the student itself last.
    """
    if curve.is_empty():
        return no_data("Learning curve: nothing is measured yet")
    name = metric.replace("_", " ")
    labels, value, lower, upper = (curve[c].cast(pl.Float64).to_numpy() for c in ("labels", "value", "lower", "upper"))
    figure = canvas(3.3)
    axes = figure.add_subplot()
    axes.vlines(labels, lower, upper, color=ACCENT, alpha=0.35, linewidth=5)
    axes.plot(labels, value, color=ACCENT, marker="o", markersize=4, linewidth=1.6)
    if teacher is not None:
        axes.axhline(teacher, color=WARM, linewidth=1.2)
        axes.text(labels[0], teacher, " the teacher", color=WARM, va="bottom", fontsize=8.5)
    if len(labels) > 1:
        axes.set_xscale("log", base=2)
    axes.set_xticks(labels, [f"{int(n):,}" for n in labels])
    axes.minorticks_off()
    quiet_axis(axes)
    axes.set_ylim(0, 1.02)
    axes.set_ylabel(name)
    axes.set_xlabel("labels that the student learned from")
    headline(figure, f"Learning curve: {name} {value[-1]:.3f} with {int(labels[-1]):,} labels")
    return figure


def curve_to(curve: pl.DataFrame, labels: int, whole: Row | None) -> pl.DataFrame:
    """A learning curve with the student itself as its last point.

    Args:
        curve: labels, value, lower, upper, records, of its smaller siblings.
        labels: How many the student learned from.
        whole: Its row of the main metric.
    """
    columns = ["labels", "value", "lower", "upper", "records"]
    if whole is None or whole["value"] is None:
        return curve.select(columns)
    last = pl.DataFrame([{"labels": labels, **{name: whole[name] for name in columns[1:]}}], schema=curve.schema)
    return pl.concat([curve.select(columns), last.select(columns)])
