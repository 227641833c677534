"""The quality report: one self-contained HTML page over all partitions of a project.

The page calls nobody: styles are inline, plots are SVG in `data:` URLs, there is no script, and a content security
policy forbids the rest. Every text of a record, a label or a model passes through Jinja2's escaping.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import polars as pl
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from annotation_pipelines.project import Project
from annotation_pipelines.quality import agreement
from annotation_pipelines.reports import plots, sections, students
from annotation_pipelines.reports.data import TEXT, ReportData, read_report_data
from annotation_pipelines.store.database import Store
from annotation_pipelines.store.schema import HELD_OUT

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REPORT_FILE = "reports/quality_report.html"
"""Where the page lies, below a project's storage."""


def write_quality_report(
    store: Store, project: Project, now: datetime | None = None, run_id: str | None = None
) -> Path:
    """Write the page in the place of the one before; a reader sees the old one or the new one, never a half.

    Args:
        now: The time of writing, with a time zone.
        run_id: The Dagster run that writes it.

    Raises:
        StoreError: The store cannot be read.
    """
    data = read_report_data(store, project)
    page = render(data, project, database=store.path, now=now or datetime.now(UTC), run_id=run_id)
    path = store.home / REPORT_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(
        "w", encoding="utf-8", dir=path.parent, prefix=".quality_report.", suffix=".html", delete=False
    ) as file:
        try:
            file.write(page)
            file.close()
            Path(file.name).chmod(0o644)
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
    return path


def render(data: ReportData, project: Project, *, database: Path, now: datetime, run_id: str | None = None) -> str:
    """The page as text; the same data and time give the same page."""
    stages = sections.stage_counts(data, student=project.task.student)
    champion = sections.champion_of(data.models)
    split, f1 = sections.f1_by_label(data.evaluation, champion)
    docs = database.parent / "data_docs" / "index.html"
    return (
        environment(project.declaration.partitions.timezone)
        .get_template("quality_report.html.j2")
        .render(
            project=project.name,
            description=project.declaration.description,
            annotator=_annotator(project),
            database=database,
            now=now,
            run_id=run_id,
            data_docs="../data_docs/index.html" if docs.exists() else None,
            stages=stages,
            headline=sections.metric_of(data.evaluation, "teacher", project.task.headline),
            live=sections.count_of(stages, "raw_records", "live"),
            selected=sections.count_of(stages, "selected_records", "selected"),
            labelled=sections.count_of(stages, "llm_labels", "labelled"),
            gold=sections.count_of(stages, "trusted_labels", "gold"),
            silver=sections.count_of(stages, "trusted_labels", "silver")
            + sections.count_of(stages, "synthetic_records", "kept"),
            human=next(stage for stage in stages if stage.asset == "human_labels"),
            calls=data.calls.row(0, named=True),
            held_out_cost=next(data.cost.filter(pl.col("partition_key") == HELD_OUT).iter_rows(named=True), None),
            teacher=data.teacher,
            student=sections.metric_of(data.evaluation, champion, project.task.headline),
            champion=champion,
            figures=figures(data, project),
            grid=sections.check_grid(data.validations),
            f1_split=split,
            f1=f1,
            task=project.task,
            metrics=sections.overall_metrics(data.evaluation, champion, project.task.headline),
            models=sections.model_rows(data, project.task.headline),
            slices=students.slice_rows(data.slices, champion, project.task.headline),
            behaviour=data.model_checks.filter(pl.col("model_version") == (champion or "")).to_dicts(),
            teacher_errors=data.teacher_errors.to_dicts(),
            student_differs=data.student_differs.to_dicts(),
            rejected=data.rejected.to_dicts(),
            refreshes=data.refreshes.to_dicts(),
        )
    )


def figures(data: ReportData, project: Project) -> dict[str, Figure | None]:
    """The plots by name; None where there is nothing to draw."""
    task = project.task
    names = list(task.labels)
    pairs = data.teacher.pairs
    bins = agreement.calibration(pairs["confidence"], pairs["gold"] == pairs["label"]).bins
    cost = data.cost.filter(pl.col("partition_key") != HELD_OUT)
    over_time = data.teacher.partitions.filter((pl.col("partition_key") != HELD_OUT) & (pl.col("records") > 0))

    def drawn(there: bool, draw: Callable[[], Figure]) -> Figure | None:
        return draw() if there else None

    def labels(counts: pl.DataFrame, title: str) -> Figure | None:
        counted = {**dict.fromkeys(names, 0), **dict(counts.iter_rows())}
        return drawn(len(counts) > 0, lambda: plots.label_distribution(counted, title=title))

    return {
        "labels": labels(data.labels, "Labels of the teacher"),
        "predicted": labels(data.predicted, "Labels of the student"),
        "labels_over_partitions": drawn(
            data.labels_over_partitions["partition_key"].n_unique() > 1,
            lambda: plots.distribution_over_partitions(
                data.labels_over_partitions, title="Labels of the teacher over partitions"
            ),
        ),
        "accuracy_over_partitions": drawn(len(over_time) > 1, lambda: plots.accuracy_over_partitions(over_time)),
        "cost_over_partitions": drawn(len(cost) > 1, lambda: plots.cost_over_partitions(cost)),
        "teacher_confusion": drawn(
            len(pairs) > 0 and task.exclusive,
            lambda: plots.confusion_matrix(agreement.confusion(pairs["gold"], pairs["label"], names), names),
        ),
        "student_confusion": drawn(
            len(data.student_confusion) > 0 and task.exclusive,
            lambda: plots.confusion_matrix(data.student_confusion, names, title="Student against gold of the pool"),
        ),
        **_student_figures(data, task.headline),
        "calibration": drawn(bins["n"].sum() > 0 and task.exclusive, lambda: plots.calibration(bins)),
    }


def _student_figures(data: ReportData, headline: str) -> dict[str, Figure | None]:
    """The champion's reliability diagram and learning curve."""
    from annotation_pipelines.distillation.evaluation.beside import reliability_bins
    from annotation_pipelines.distillation.evaluation.learning_curve import points

    champion = next((row for row in data.models.iter_rows(named=True) if row["status"] == "champion"), None)
    if champion is None:
        return {"student_calibration": None, "learning_curve": None}
    bins = reliability_bins(data.slices, champion["version"])
    curve = points(data.slices, champion["version"], headline)
    whole = students.main_row(data.evaluation, champion["version"], headline)
    teacher = students.main_row(data.evaluation, students.TEACHER, headline)
    return {
        "student_calibration": plots.calibration(bins, title="Calibration of the student") if len(bins) else None,
        "learning_curve": students.labels_plot(
            students.curve_to(curve, champion["silver"] + champion["gold"], whole),
            headline,
            teacher=teacher["value"] if teacher else None,
        )
        if len(curve)
        else None,
    }


def environment(timezone: str = "UTC") -> Environment:
    """The templates beside this file, with the filters that put numbers and times into words."""
    env = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    zone = ZoneInfo(timezone)

    def moment(time: datetime | None) -> str:
        return time.astimezone(zone).strftime("%Y-%m-%d %H:%M %Z") if time else "never"

    env.filters.update(
        number=lambda value: f"{value:,}",
        percent=lambda value, digits=1: "unknown" if value is None else f"{value:.{digits}%}",
        score=lambda value: "" if value is None else f"{value:.3f}",
        money=money,
        moment=moment,
        short=short,
        data_url=_data_url,
    )
    return env


def money(usd: float | None) -> str:
    """US dollars; an unknown amount stays unknown, and a small one is not rounded to nothing."""
    if usd is None:
        return "unknown"
    return f"${usd:,.2f}" if usd >= 1 or not usd else f"${usd:.4f}"


def short(text: str, most: int = TEXT) -> str:
    """A text cut to its first characters."""
    return text if len(text) <= most else text[:most].rstrip() + "…"


def _data_url(figure: Figure) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(plots.svg(figure).encode()).decode()}"


def _annotator(project: Project) -> str:
    annotators = project.declaration.annotators
    return ", ".join(each.openai.model if each.openai else "embedded annotator" for each in annotators)
