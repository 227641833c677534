"""Validate the labels of a partition and keep the results.

One short transaction reads the partition, Great Expectations judges it outside any connection, and another transaction
replaces the partition's rows in validation_results.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import polars as pl

from annotation_pipelines.project import Project
from annotation_pipelines.quality.data_docs import CheckLine, build_data_docs, data_docs_index, keep_result
from annotation_pipelines.quality.expectations import (
    ATTRIBUTE_PREFIX,
    LABEL_DISTRIBUTION,
    SELECTED_COUNT,
    SHARE_LABELLED,
    Expectation,
    expectations_for,
)
from annotation_pipelines.quality.label_shift import LabelShift, label_shift
from annotation_pipelines.quality.rationales import rationale_problems
from annotation_pipelines.quality.suite import Outcome, run_suite
from annotation_pipelines.quality.validity import label_problems, named_counts
from annotation_pipelines.store.database import Store
from annotation_pipelines.store.schema import HELD_OUT
from annotation_pipelines.tasks.base import Task

# Rows are the selected records of the partition and the annotations of the annotator, matched by record: a selected
# record without an annotation and an annotation of a record that was not selected both stay in sight.
_FRAME = """
WITH labels AS (
    SELECT * FROM llm_labels WHERE partition_key = $partition_key AND annotator = $annotator
), chosen AS (
    SELECT * FROM selected_records WHERE partition_key = $partition_key AND state = 'selected'
)
SELECT
    coalesce(labels.record_id, chosen.record_id) AS record_id,
    coalesce(labels.content_hash, chosen.content_hash) AS content_hash,
    records.content AS text,
    labels.state,
    CASE WHEN labels.record_id IS NULL THEN 'missing' ELSE labels.state END AS outcome,
    labels.label,
    CASE WHEN isnan(labels.confidence) THEN NULL ELSE labels.confidence END AS confidence,
    labels.problem,
    labels.rationale,
    labels.reused,
    labels.annotator,
    chosen.strategy,
    chosen.score,
    records.event_time,
    records.gold,
    CASE
        WHEN records.record_id IS NULL THEN 'absent'
        WHEN records.deleted_at IS NOT NULL THEN 'deleted'
        WHEN records.content_hash <> coalesce(labels.content_hash, chosen.content_hash) THEN 'changed'
        ELSE 'current'
    END AS upstream,
    CASE
        WHEN labels.record_id IS NULL THEN 'missing'
        WHEN chosen.record_id IS NULL THEN 'not_selected'
        ELSE 'once'
    END AS accounted_for
    {attributes}
FROM labels
FULL JOIN chosen ON labels.record_id = chosen.record_id
LEFT JOIN records ON records.record_id = coalesce(labels.record_id, chosen.record_id)
ORDER BY 1
"""
_EARLIER_LABELS = """
SELECT label, count(*) AS records FROM llm_labels
WHERE annotator = $annotator AND state = 'labelled' AND label IS NOT NULL
    AND partition_key < $partition_key AND partition_key <> $held_out AND $partition_key <> $held_out
GROUP BY label
"""


@dataclass(frozen=True)
class Partition:
    """What is validated: the frame with the columns of `expectations.COLUMNS`, and what it is compared with."""

    frame: pl.DataFrame
    selected: int
    shift: LabelShift


@dataclass(frozen=True)
class ExpectationResult:
    """Whether one expectation was met.

    Attributes:
        expectation: The expectation of Great Expectations.
        column: The column it looks at, if it is one.
        success: Whether it was met.
        blocking: Whether a failure keeps the partition from trusted_labels.
        description: What it says, in a sentence.
        element_count: Rows looked at; None where it does not count rows.
        unexpected_count: Rows that did not meet it; None likewise.
        observed: What was observed, in words.
        examples: The ids of up to ten records that did not meet it.
    """

    check_name: str
    expectation: str
    column: str | None
    success: bool
    blocking: bool
    description: str
    element_count: int | None
    unexpected_count: int | None
    observed: str
    examples: tuple[str, ...]


@dataclass(frozen=True)
class ValidationReport:
    """The results of a partition, in the order of the expectations.

    Attributes:
        selected: Its selected records.
        labelled: Those of its records that are labelled.
        shift: Its label distribution against that of earlier partitions.
        data_docs: The index of the Data Docs, which have a page for the partition.
    """

    partition_key: str
    annotator: str
    selected: int
    labelled: int
    shift: LabelShift
    results: tuple[ExpectationResult, ...]
    validated_at: datetime
    data_docs: Path

    @property
    def passed(self) -> bool:
        """Whether every expectation was met."""
        return all(result.success for result in self.results)

    @property
    def failed(self) -> tuple[ExpectationResult, ...]:
        """The expectations that were not met."""
        return tuple(result for result in self.results if not result.success)

    @property
    def blocked(self) -> bool:
        """Whether a blocking expectation was not met: the partition must not reach trusted_labels."""
        return any(result.blocking for result in self.failed)


def validate(
    store: Store,
    project: Project,
    partition_key: str,
    annotator_name: str,
    run_id: str | None = None,
    now: datetime | None = None,
) -> ValidationReport:
    """Judge the labels of a partition, and put the results in the place of its earlier ones.

    A partition without selected records meets everything.

    Raises:
        DeclarationError: A declared expectation cannot be used.
        StoreError: The store cannot be read or written.
    """
    expectations = expectations_for(project.declaration, project.name)
    now = now or datetime.now(UTC)
    with store.transaction() as con:
        partition = read_partition(con, project.task, partition_key, annotator_name, expectations)
    run = run_suite(
        partition.frame,
        expectations,
        parameters={SELECTED_COUNT: partition.selected},
        project_name=project.name,
        partition_key=partition_key,
        run_time=now,
    )
    report = ValidationReport(
        partition_key,
        annotator_name,
        partition.selected,
        int((partition.frame["state"] == "labelled").sum()),
        partition.shift,
        tuple(
            _result(expectation, outcome, partition.shift)
            for expectation, outcome in zip(expectations, run.outcomes, strict=True)
        ),
        now,
        data_docs_index(store.home),
    )
    with store.transaction() as con:
        store.replace(con, "validation_results", _rows(report, run_id), partition_key=partition_key)
        store.record_stage(con, "validation_results", partition_key, _facts(report), run_id)
    keep_result(store.home, partition_key, run.document, [_line(result) for result in report.results])
    build_data_docs(store)
    return report


def read_partition(
    con: duckdb.DuckDBPyConnection,
    task: Task,
    partition_key: str,
    annotator_name: str,
    expectations: Sequence[Expectation],
) -> Partition:
    """Read what is validated; columns of the source are read where an expectation names them."""
    named = dict.fromkeys(column for e in expectations for column in e.columns if column.startswith(ATTRIBUTE_PREFIX))
    params: dict[str, str] = {"partition_key": partition_key, "annotator": annotator_name}
    attributes = ""
    for number, column in enumerate(named):
        params[f"path_{number}"] = f'$."{column.removeprefix(ATTRIBUTE_PREFIX)}"'
        quoted = column.replace('"', '""')
        attributes += f""", json_extract_string(records.attributes, $path_{number}) AS "{quoted}\""""
    frame = Store.frame(con, _FRAME.format(attributes=attributes), params)
    earlier = Store.frame(
        con,
        _EARLIER_LABELS,
        {"partition_key": partition_key, "annotator": annotator_name, "held_out": HELD_OUT},
    )
    labels = frame.filter(pl.col("state") == "labelled")["label"].drop_nulls().value_counts(name="records")
    here, before = named_counts(task, labels), named_counts(task, earlier)
    shift = label_shift(dict(here.iter_rows()), dict(before.iter_rows()))
    return Partition(
        frame.with_columns(
            label_problems(task, frame["label"], frame["text"]),
            rationale_problems(
                frame["rationale"], frame["text"], frame["label"], list(task.labels) if task.exclusive else []
            ),
            label_shift=pl.lit(shift.beyond_chance, pl.Float64),
        ),
        int((frame["accounted_for"] != "not_selected").sum()),
        shift,
    )


def _result(expectation: Expectation, outcome: Outcome, shift: LabelShift) -> ExpectationResult:
    observed = outcome.in_words()
    if outcome.problem is None and expectation.check_name == LABEL_DISTRIBUTION:
        observed = shift.in_words()
    elif outcome.problem is None and expectation.check_name == SHARE_LABELLED and outcome.element_count:
        labelled = outcome.element_count - (outcome.unexpected_count or 0)
        observed = f"{labelled} of {outcome.element_count} labelled ({labelled / outcome.element_count:.1%})"
    return ExpectationResult(
        check_name=expectation.check_name,
        expectation=expectation.type,
        column=expectation.column,
        success=outcome.passed,
        blocking=expectation.blocking,
        description=expectation.description,
        element_count=outcome.element_count,
        unexpected_count=outcome.unexpected_count,
        observed=observed,
        examples=outcome.examples,
    )


def _line(result: ExpectationResult) -> CheckLine:
    return CheckLine(
        result.check_name,
        result.description,
        result.success,
        result.blocking,
        result.observed,
        result.examples,
    )


def _rows(report: ValidationReport, run_id: str | None) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {
                "partition_key": report.partition_key,
                "check_name": result.check_name,
                "expectation": result.expectation,
                "column_name": result.column,
                "success": result.success,
                "blocking": result.blocking,
                "element_count": result.element_count,
                "unexpected_count": result.unexpected_count,
                "observed": result.observed,
                "examples": json.dumps(list(result.examples)),
                "validated_at": report.validated_at,
                "run_id": run_id,
            }
            for result in report.results
        ],
        infer_schema_length=None,
        schema_overrides={"column_name": pl.String, "run_id": pl.String},
    )


def _facts(report: ValidationReport) -> dict[str, int | float]:
    return {
        "selected": report.selected,
        "labelled": report.labelled,
        "expectations": len(report.results),
        "failed": len(report.failed),
        "blocking_failed": sum(result.blocking for result in report.failed),
        "label_shift": report.shift.beyond_chance,
    }
