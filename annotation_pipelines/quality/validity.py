"""Which labels mean something under the task as it is declared now."""

from __future__ import annotations

from collections import Counter

import polars as pl

from annotation_pipelines.content import Content
from annotation_pipelines.tasks.base import Task

_NOTHING = Content.of_text("")


def label_problems(task: Task, labels: pl.Series, contents: pl.Series) -> pl.Series:
    """What is wrong with each label, in words; null where nothing is, or there is no label.

    Args:
        labels: n labels, as they are stored.
        contents: The contents that they are about, as they are stored; null counts as empty.
    """
    if not task.reads_content:
        known = {label: task.problem(label, _NOTHING) for label in labels.drop_nulls().unique()}
        problems = [None if label is None else known[label] for label in labels]
    else:
        problems = [
            None if label is None else task.problem(label, Content.read(content or ""))
            for label, content in zip(labels, contents, strict=True)
        ]
    return pl.Series("label_problem", problems, pl.String)


def are_labels(task: Task, labels: pl.Series, contents: pl.Series) -> pl.Series:
    """Whether each is a label of the task; false where there is none."""
    return (labels.is_not_null() & label_problems(task, labels, contents).is_null()).alias("is_label")


def named_counts(task: Task, counts: pl.DataFrame) -> pl.DataFrame:
    """How often each label, or type, is named, out of how often each value was given.

    Args:
        counts: label and records, and columns to keep apart.

    Returns:
        The same columns; a value that names several labels counts for each.
    """
    if task.exclusive:
        return counts
    apart = [name for name in counts.columns if name not in ("label", "records")]
    found: Counter[tuple[object, ...]] = Counter()
    for *others, label, records in counts.select(*apart, "label", "records").iter_rows():
        for name in task.named(label) if label is not None else ():
            found[*others, name] += records
    rows = [(*key, number) for key, number in found.items()]
    schema = {**{name: counts.schema[name] for name in apart}, "label": pl.String(), "records": pl.Int64()}
    return pl.DataFrame(rows, schema=schema, orient="row").select(counts.columns)
