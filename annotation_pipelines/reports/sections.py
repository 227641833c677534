"""The tables of the quality report, as the template prints them: pure functions over the frames of `ReportData`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

from annotation_pipelines.reports.data import ReportData
from annotation_pipelines.store.schema import HELD_OUT

LATEST_PARTITIONS = 60
"""Partitions whose checks are shown even if all passed."""

Row = dict[str, Any]

_STAGES = (
    ("records", "raw_records", "every record the source ever gave"),
    ("human_labels", "human_labels", "labels that people gave, by what each is used for"),
    ("selected_records", "selected_records", "live records: which are to be annotated"),
    ("llm_labels", "llm_labels", "selected records: how the annotator answered"),
    (HELD_OUT, "model_evaluation", "gold kept for evaluation: how the annotator answered"),
    ("trusted_labels", "trusted_labels", "live records: whose label a student may learn from"),
    ("synthetic_records", "synthetic_records", "what was generated: what was kept, and why the rest was dropped"),
    ("predictions", "predictions", "live records: which the champion has read"),
)
_TONES = {
    "live": "strong",
    "selected": "strong",
    "labelled": "strong",
    "silver": "strong",
    "predicted": "strong",
    "kept": "strong",
    "evaluation": "strong",
    "gold": "second",
    "demonstration": "second",
    "training": "third",
    "monitor": "third",
    "abstained": "third",
    "invalid": "bad",
    "refused": "bad",
    "failed": "bad",
    "stopped by a check": "bad",
}


@dataclass(frozen=True)
class StageCount:
    """Where the records of a stage ended.

    Attributes:
        asset: The asset that decides it.
        meaning: Which records are counted.
        states: state, records, share and tone, the most wanted first.
        total: The records of the stage, counted apart from the states.
        counted: The sum of the states.
    """

    asset: str
    meaning: str
    states: list[Row]
    total: int
    counted: int
    finished_at: datetime | None


def stage_counts(data: ReportData, *, student: bool = True) -> list[StageCount]:
    """The accounting, stage by stage, in the order of the graph. Held-out and synthetic records only where there are
    some; synthetic records come in the place of trusted labels.
    """
    totals = dict(data.totals.iter_rows())
    finished = {stage: at for stage, _, at in data.stages.iter_rows()}
    stages = []
    for stage, asset, meaning in _STAGES if student else _STAGES[:-1]:
        if stage in (HELD_OUT, "synthetic_records") and not totals[stage]:
            continue
        if stage == "trusted_labels" and totals["synthetic_records"]:
            continue
        counts = data.accounting.filter(pl.col("stage") == stage).select("state", "records")
        tones = list(dict.fromkeys(_TONES.values()))
        states: list[Row] = sorted(
            (
                {"state": s, "records": n, "share": n / max(totals[stage], 1), "tone": _TONES.get(s, "quiet")}
                for s, n in counts.iter_rows()
            ),
            key=lambda row: (
                tones.index(row["tone"]) if row["tone"] in tones else len(tones),
                -row["records"],
                row["state"],
            ),
        )
        counted = sum(row["records"] for row in states)
        stages.append(StageCount(asset, meaning, states, totals[stage], counted, finished.get(asset)))
    return stages


def count_of(stages: list[StageCount], asset: str, *states: str) -> int:
    """The records of an asset's stage in some states; of all states without any."""
    return sum(
        row["records"]
        for stage in stages
        if stage.asset == asset
        for row in stage.states
        if not states or row["state"] in states
    )


@dataclass(frozen=True)
class CheckGrid:
    """Partitions by checks.

    Attributes:
        checks: The names of the checks, the columns.
        rows: partition, and a cell a check: success, blocking, unexpected and title, or None where it did not run.
        hidden: Partitions not shown, all of whose checks passed.
        failing: Results that are failures, over all partitions.
        results: All results.
    """

    checks: list[str]
    rows: list[tuple[str, list[Row | None]]]
    hidden: int
    failing: int
    results: int


def check_grid(validations: pl.DataFrame) -> CheckGrid:
    """The latest partitions, and every one with a failure; newest first."""
    partitions = validations.group_by("partition_key").agg((~pl.col("success")).any().alias("failing"))
    partitions = partitions.sort("partition_key", descending=True).with_row_index("place")
    shown = partitions.filter((pl.col("place") < LATEST_PARTITIONS) | pl.col("failing"))
    checks = validations["check_name"].unique().sort().to_list()
    cells: dict[str, dict[str, Row]] = {key: {} for key in shown["partition_key"]}
    for row in validations.filter(pl.col("partition_key").is_in(list(cells))).iter_rows(named=True):
        cells[row["partition_key"]][row["check_name"]] = {
            "success": row["success"],
            "blocking": row["blocking"],
            "unexpected": row["unexpected_count"],
            "title": _check_title(row),
        }
    return CheckGrid(
        checks=checks,
        rows=[(key, [found.get(check) for check in checks]) for key, found in cells.items()],
        hidden=len(partitions) - len(shown),
        failing=int((~validations["success"]).sum()),
        results=len(validations),
    )


def _check_title(row: Row) -> str:
    words = [f"{row['check_name']}, {row['partition_key']}: {'met' if row['success'] else 'not met'}"]
    if row["element_count"] is not None:
        words.append(f"{row['unexpected_count'] or 0} of {row['element_count']} rows")
    if not row["success"]:
        words.append("stops the partition" if row["blocking"] else "a warning")
        words += [row["observed"]] if row["observed"] else []
    return "; ".join(words)


def champion_of(models: pl.DataFrame) -> str | None:
    """The version whose predictions are in use."""
    champions = models.filter(pl.col("status") == "champion")["version"]
    return str(champions[0]) if len(champions) else None


def metric_of(evaluation: pl.DataFrame, model: str | None, metric: str) -> Row | None:
    """A model's overall metric: on held-out gold where there is some, on gold of the pool otherwise."""
    for split in ("evaluation", "monitor"):
        found = evaluation.filter(
            (pl.col("model_version") == (model or ""))
            & (pl.col("split") == split)
            & (pl.col("metric") == metric)
            & (pl.col("label") == "")
            & pl.col("value").is_not_null()
        )
        if len(found):
            return found.row(0, named=True)
    return None


def f1_by_label(evaluation: pl.DataFrame, champion: str | None) -> tuple[str, list[Row]]:
    """F1 of every label, teacher beside student, on the same split; most gold first.

    Returns:
        The split, and rows of label, records, teacher, student.
    """
    rows = evaluation.filter(pl.col("metric") == "f1")
    for split in ("evaluation", "monitor"):
        chosen = rows.filter(
            (pl.col("split") == split) & pl.col("model_version").is_in(["teacher", champion or "teacher"])
        )
        if len(chosen):
            break
    else:
        return "", []
    table: dict[str, Row] = {}
    for row in chosen.iter_rows(named=True):
        entry = table.setdefault(row["label"], {"label": row["label"], "records": 0, "teacher": None, "student": None})
        entry["teacher" if row["model_version"] == "teacher" else "student"] = row["value"]
        entry["records"] = max(entry["records"], row["records"])
    return split, sorted(table.values(), key=lambda row: (-row["records"], row["label"]))


def overall_metrics(evaluation: pl.DataFrame, champion: str | None, headline: str) -> list[Row]:
    """Every metric over all labels: metric, split, records, and the teacher's and student's rows of model_evaluation.

    Held-out gold comes first, and of its metrics the headline.
    """
    table: dict[tuple[str, str], Row] = {}
    for row in evaluation.filter(pl.col("label") == "").iter_rows(named=True):
        who = {"teacher": "teacher", champion: "student"}.get(row["model_version"])
        if who is None or row["value"] is None:
            continue
        key = (row["split"], row["metric"])
        entry = table.setdefault(
            key,
            {
                "metric": row["metric"].replace("_", " "),
                "split": row["split"],
                "records": 0,
                "teacher": None,
                "student": None,
            },
        )
        entry[who] = row
        entry["records"] = max(entry["records"], row["records"])
    return [table[key] for key in sorted(table, key=lambda key: (key[0], key[1] != headline, key[1]))]


def model_rows(data: ReportData, headline: str) -> list[Row]:
    """The registry with each model's main metric, its checks, and what was decided about it."""
    failed = data.model_checks.filter(~pl.col("passed"))
    checked = set(data.model_checks["model_version"])
    return [
        {
            **model,
            "headline": metric_of(data.evaluation, model["version"], headline),
            "failed": failed.filter(pl.col("model_version") == model["version"])["check_name"].to_list()
            if model["version"] in checked
            else None,
            "history": (model["decision"] or "").splitlines(),
        }
        for model in data.models.iter_rows(named=True)
    ]
