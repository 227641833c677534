"""Student beside teacher, for any kind of task, out of frames alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from annotation_pipelines.distillation.evaluation.beside import (
    against_teacher,
    beside_teacher,
    reliability_bins,
    student_rows,
    teacher_rows,
    teacher_slice_rows,
)
from annotation_pipelines.distillation.evaluation.rows import frame
from annotation_pipelines.project import Declaration, Project
from annotation_pipelines.tasks.base import Task, canonical_json

TASKS: dict[str, dict[str, Any]] = {
    "entities": {"entities": {"types": {"place": "a place", "name": "a name"}}},
    "preference": {"preference": {"first": "one", "second": "other"}},
    "multilabel": {"multilabel": {"labels": {"a": "a", "b": "b"}}},
    "relations": {"relations": {"types": {"Cause-Effect": "{head} causes {tail}"}, "none": "Other"}},
}


def task_of(kind: str) -> Task:
    source: dict[str, Any] = {"csv": "r.csv", "gold": "tag"}
    if kind == "preference":
        source["parts"] = {"one": "one", "other": "other"}
    annotator = {"openai": {"base_url": "http://localhost:1", "model": "m"}}
    declared = {"source": source, "task": TASKS[kind], "annotators": [annotator]}
    return Project("p", Path("p"), Declaration.model_validate(declared)).task


def spans(*found: tuple[int, int, str]) -> str:
    return canonical_json([{"start": a, "end": b, "text": "x" * (b - a), "type": t} for a, b, t in found])


RIGHT_AND_WRONG = {
    "entities": (spans((0, 2, "place"), (3, 5, "name")), spans((0, 2, "name"))),
    "preference": ("A", "B"),
    "multilabel": ('["a","b"]', '["b"]'),
    "relations": ("Cause-Effect(e1,e2)", "Cause-Effect(e2,e1)"),
}


@pytest.mark.parametrize("kind", TASKS)
def test_a_student_that_is_always_right_stands_above_a_teacher_that_is_not(kind: str) -> None:
    task = task_of(kind)
    right, wrong = RIGHT_AND_WRONG[kind]
    ids = [f"r{i}" for i in range(40)]
    student = pl.DataFrame(
        {
            "record_id": ids,
            "content": ["word " * (i + 1) for i in range(40)],
            "label": [right] * 40,
            "origin": ["source"] * 40,
            "partition_key": [None] * 40,
            "answer": [right] * 40,
            "confidence": [0.75] * 40,
        },
        schema_overrides={"partition_key": pl.String},
    )
    teacher = pl.DataFrame(
        {
            "record_id": ids,
            "role": ["evaluation"] * 40,
            "content": student["content"],
            "label": [right] * 40,
            "given": [right if i % 2 else wrong for i in range(39)] + [None],
            "teacher_confidence": [0.5 if i % 2 else 0.9 for i in range(39)] + [None],
        }
    )
    both = beside_teacher(student, teacher)
    gain = against_teacher(both, task, seed=0)
    whole = {m.metric: m.value for m in task.measure([right] * 40, teacher["given"].to_list()) if not m.label}
    assert gain is not None and gain.records == 40
    assert gain.value == pytest.approx(1 - (whole[task.headline] or 0.0))
    assert gain.lower > 0
    rows = frame(student_rows("v", both, task, seed=0) + teacher_rows(teacher, "evaluation", task, seed=0))
    slices = rows.filter((pl.col("metric") == task.headline) & pl.col("slice").str.starts_with("teacher: "))
    assert dict(slices.select("slice", "records").iter_rows()) == {"teacher: right": 19, "teacher: wrong": 20}
    assert (slices["value"] == 1).all()
    of_teacher = frame(teacher_slice_rows(both, task, seed=0)).filter(pl.col("slice") == "teacher: wrong")
    assert (of_teacher["value"] < 1).all()
    bins = reliability_bins(rows, "v")
    assert bins.rows() == [("confidence: 0.7 to 0.8", 40, pytest.approx(0.75), 1.0)]
    assert rows.filter((pl.col("metric") == "ece") & (pl.col("model_version") == "v"))["value"][0] == pytest.approx(
        0.25
    )
    keys = ["model_version", "split", "slice", "metric", "label"]
    assert rows.select(keys).is_unique().all()


def test_gold_that_the_teacher_was_not_asked_about_does_not_count_against_it() -> None:
    task = task_of("preference")
    student = pl.DataFrame({"record_id": ["a", "b"], "label": ["A", "B"], "answer": ["A", "A"]})
    teacher = pl.DataFrame(
        {"record_id": ["a"], "role": ["evaluation"], "given": ["A"], "teacher_confidence": [json.loads("1.0")]}
    )
    both = beside_teacher(student, teacher)
    assert both["asked"].to_list() == [True, False]
    gain = against_teacher(both, task, seed=0)
    assert gain is not None and (gain.records, gain.value) == (1, 0)
    assert np.isfinite(gain.least)
