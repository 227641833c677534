"""What must hold for the labels of a partition: a list of expectations as plain data.

The list follows from the declaration alone, so that the names of the asset checks are known when the code location
loads. Great Expectations is not imported here; `validation` turns the list into its suite and runs it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from annotation_pipelines.errors import DeclarationError
from annotation_pipelines.project import Declaration
from annotation_pipelines.quality.catalogue import did_you_mean, offered, problem_with
from annotation_pipelines.tasks.base import STATES
from annotation_pipelines.tasks.registry import make_task

SELECTED_COUNT = "selected_records"
"""The suite parameter that stands for how many records of the partition were selected."""

SHARE_LABELLED = "share_labelled"
LABEL_DISTRIBUTION = "label_distribution_stable"
RATIONALES_PLAUSIBLE = 0.9
"""The least share of rationales that nothing speaks against."""
ROW_COUNT = "one_row_per_selected_record"

COLUMNS: dict[str, str] = {
    "record_id": "the record's id in the source",
    "content_hash": "hash of the content that was annotated",
    "text": "the content",
    "state": "how the record ended: " + ", ".join(STATES),
    "outcome": "the state, or missing where a selected record has no annotation",
    "label": "the label, where labelled",
    "label_problem": "what is wrong with the label, under the task as it is declared; missing where nothing is",
    "rationale": "the annotator's reasons, where it gives them",
    "rationale_problem": "what speaks against the rationale; missing where nothing does",
    "confidence": "0 to 1, where the annotator gives one",
    "problem": "why there is no label",
    "reused": "whether the reply was found in the ledger",
    "annotator": "who annotated",
    "strategy": "the acquisition function that chose the record",
    "score": "its score",
    "event_time": "when the record happened",
    "gold": "the label that people gave, where the source has one",
    "upstream": "current, or changed, deleted, absent: what became of the record",
    "accounted_for": "once, or missing (selected, not annotated), not_selected (annotated, not selected)",
    "label_shift": "how far the labels of the partition are from those of earlier ones, beyond chance",
}
"""The columns of the frame that is validated, one row a selected or annotated record; `attributes.NAME` are further
columns of the source, as text."""

ATTRIBUTE_PREFIX = "attributes."

On = Literal["selected", "labelled"]
_COLUMN_ARGUMENTS = ("column", "column_A", "column_B", "column_list", "column_set")
_LABELLED_ONLY = frozenset({"label", "confidence"})


@dataclass(frozen=True)
class Expectation:
    """One thing that must hold.

    Attributes:
        check_name: Name of the asset check, unique in a project, made of letters, digits and underscores.
        type: The expectation of Great Expectations.
        kwargs: Its arguments; {"$PARAMETER": SELECTED_COUNT} is filled in at run time.
        on: Whether it looks at every row or at the labelled ones.
        blocking: Whether a failure keeps the partition from trusted_labels.
        description: What it says, in a sentence.
    """

    check_name: str
    type: str
    kwargs: Mapping[str, Any] = field(hash=False)
    on: On
    blocking: bool
    description: str

    @property
    def column(self) -> str | None:
        """The column it looks at, if it is one."""
        return next(iter(self.columns)) if len(self.columns) == 1 else None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that its arguments name."""
        named: list[str] = []
        for argument in _COLUMN_ARGUMENTS:
            value = self.kwargs.get(argument)
            named += [value] if isinstance(value, str) else value if isinstance(value, list) else []
        return tuple(dict.fromkeys(map(str, named)))


def expectations_for(declaration: Declaration, project_name: str = "project") -> tuple[Expectation, ...]:
    """What must hold for the labels of every partition: the generated expectations, then the declared ones.

    Raises:
        DeclarationError: A declared expectation does not exist, cannot take its arguments, or names no column.
    """
    return (*generated(declaration), *declared(declaration, project_name))


def check_names(declaration: Declaration, project_name: str = "project") -> list[str]:
    """The names of the asset checks, in order; they change only with the declaration.

    Raises:
        DeclarationError: As in `expectations_for`.
    """
    return [expectation.check_name for expectation in expectations_for(declaration, project_name)]


def generated(declaration: Declaration) -> tuple[Expectation, ...]:
    """The expectations that every project has. Structural ones block where the declaration says so."""
    quality = declaration.quality
    task = make_task(declaration.task)
    labels = list(task.labels)

    def structural(check_name: str, type: str, description: str, on: On = "selected", **kwargs: Any) -> Expectation:
        return Expectation(check_name, type, kwargs, on, quality.blocking, description)

    def warning(check_name: str, type: str, description: str, **kwargs: Any) -> Expectation:
        return Expectation(check_name, type, kwargs, "selected", False, description)

    in_set, not_null = "expect_column_values_to_be_in_set", "expect_column_values_to_not_be_null"
    return (
        structural(
            ROW_COUNT,
            "expect_table_row_count_to_equal",
            "There are as many rows as selected records.",
            value={"$PARAMETER": SELECTED_COUNT},
        ),
        structural(
            "selected_records_accounted_for",
            in_set,
            "Every selected record was annotated, and no other.",
            column="accounted_for",
            value_set=["once"],
        ),
        structural(
            "record_id_unique",
            "expect_column_values_to_be_unique",
            "No record has two rows.",
            column="record_id",
        ),
        structural("record_id_present", not_null, "Every row names its record.", column="record_id"),
        structural("content_hash_present", not_null, "Every row names its content.", column="content_hash"),
        structural(
            "record_upstream",
            in_set,
            "Every record is in the source, with the content that was annotated.",
            column="upstream",
            value_set=["current"],
        ),
        structural(
            "text_not_empty",
            "expect_column_values_to_match_regex",
            "The text is not blank.",
            column="text",
            regex=r"\S",
        ),
        structural("state_present", not_null, "Every selected record ended in a state.", column="state"),
        structural(
            "state_known", in_set, f"The state is one of {_one_of(STATES)}.", column="state", value_set=[*STATES]
        ),
        structural("label_present", not_null, "What is labelled has a label.", on="labelled", column="label"),
        structural(
            "label_in_set",
            in_set,
            f"The label is one of {_one_of(labels)}.",
            on="labelled",
            column="label",
            value_set=labels,
        )
        if task.exclusive
        else structural(
            "label_valid",
            "expect_column_values_to_be_null",
            f"The label is what the task allows ({task.kind}).",
            on="labelled",
            column="label_problem",
        ),
        structural(
            "confidence_in_range",
            "expect_column_values_to_be_between",
            "The confidence, where given, lies between 0 and 1.",
            column="confidence",
            min_value=0.0,
            max_value=1.0,
        ),
        warning(
            SHARE_LABELLED,
            in_set,
            f"At least {100 * quality.min_labelled:.4g}% of the selected records are labelled.",
            column="outcome",
            value_set=["labelled"],
            mostly=quality.min_labelled,
        ),
        *(
            [
                warning(
                    "rationale_plausible",
                    "expect_column_values_to_be_null",
                    "Rationales quote what the record says, argue for their own label, and are no copies.",
                    column="rationale_problem",
                    mostly=RATIONALES_PLAUSIBLE,
                )
            ]
            if any(annotator.openai and annotator.openai.rationale for annotator in declaration.annotators)
            else []
        ),
        warning(
            LABEL_DISTRIBUTION,
            "expect_column_max_to_be_between",
            "The labels are distributed as in earlier partitions: the total variation distance, less what chance "
            f"explains, is at most {quality.max_label_shift:.4g}.",
            column="label_shift",
            max_value=quality.max_label_shift,
        ),
    )


def declared(declaration: Declaration, project_name: str = "project") -> tuple[Expectation, ...]:
    """The expectations of `quality.expectations`. One that looks only at label or confidence looks at labelled rows.

    Raises:
        DeclarationError: One does not exist, cannot take its arguments, or names no column.
    """
    found: list[Expectation] = []
    taken: set[str] = set()
    for entry in declaration.quality.expectations:
        type = next(key for key in entry if key != "blocking")
        kwargs = dict(entry[type])
        where = f"{project_name}: quality.expectations"
        if problem := problem_with(type, kwargs):
            raise DeclarationError(problem, where=where)
        description = str(kwargs.pop("description", ""))
        draft = Expectation("", type, kwargs, "selected", bool(entry.get("blocking", False)), description)
        _refuse_unknown_columns(draft, where)
        name = _free_name("_".join([type, *draft.columns]), taken)
        taken.add(name)
        found.append(
            Expectation(
                check_name=name,
                type=type,
                kwargs=kwargs,
                on=_rows_of(draft),
                blocking=draft.blocking,
                description=description or _in_words(type, kwargs),
            )
        )
    return tuple(found)


def _rows_of(expectation: Expectation) -> On:
    entry = offered().get(expectation.type)
    can_filter = entry is not None and entry.filters_rows and "row_condition" not in expectation.kwargs
    return (
        "labelled" if can_filter and expectation.columns and set(expectation.columns) <= _LABELLED_ONLY else "selected"
    )


def _refuse_unknown_columns(expectation: Expectation, where: str) -> None:
    # Expectations about the table itself may name columns that are not there; one about values may not.
    if expectation.type == "expect_column_to_exist" or expectation.type.startswith("expect_table_"):
        return
    for column in expectation.columns:
        if column not in COLUMNS and not column.startswith(ATTRIBUTE_PREFIX):
            raise DeclarationError(
                f"{expectation.type} names the column {column!r}{did_you_mean(column, list(COLUMNS))}",
                where=where,
                todo=f"Columns: {', '.join(COLUMNS)}, and {ATTRIBUTE_PREFIX}NAME for those of the source",
            )


def _free_name(wanted: str, taken: set[str]) -> str:
    base = re.sub(r"[^A-Za-z0-9_]+", "_", wanted).strip("_")
    name, number = base, 2
    while name in taken:
        name, number = f"{base}_{number}", number + 1
    return name


def _in_words(type: str, kwargs: Mapping[str, Any]) -> str:
    given = ", ".join(f"{name}: {value}" for name, value in kwargs.items())
    return f"{type.replace('_', ' ').capitalize()}{f' ({given})' if given else ''}."


def _one_of(names: tuple[str, ...] | list[str], most: int = 12) -> str:
    further = len(names) - most
    return ", ".join(names[:most]) + (f" and {further} more" if further > 0 else "")
