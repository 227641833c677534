"""Run a list of expectations on a frame with Great Expectations.

The only module that starts it. Its import takes seconds and comes inside the functions; its context is made once a
process and holds one pandas data source, through which every partition goes. Nothing leaves the machine.
"""

from __future__ import annotations

import json
import logging
import math
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from typing import Any

import polars as pl

from annotation_pipelines.errors import DeclarationError
from annotation_pipelines.quality.expectations import Expectation

MAX_EXAMPLES = 10
_ASSET = "llm_labels"
_LABELLED_ROWS = {"row_condition": 'state == "labelled"', "condition_parser": "pandas"}

# Great Expectations keeps the batch of a data source in shared state: one validation at a time in a process.
_turn = threading.Lock()


@dataclass(frozen=True)
class Outcome:
    """What Great Expectations found for one expectation, in plain Python values.

    Attributes:
        passed: Whether it was met.
        element_count: Rows looked at, nulls included; None where it does not count rows.
        missing_count: Nulls among them, which meet everything but expectations about nulls.
        unexpected_count: Rows that did not meet it; None likewise.
        unexpected_values: Some values that did not meet it, without repetition.
        observed: What was observed, where it is one value.
        examples: The ids of up to ten records that did not meet it.
        problem: Why it could not be evaluated, if so.
    """

    passed: bool
    element_count: int | None = None
    missing_count: int | None = None
    unexpected_count: int | None = None
    unexpected_values: tuple[str, ...] = ()
    observed: Any = None
    examples: tuple[str, ...] = ()
    problem: str | None = None

    def in_words(self) -> str:
        """What was observed, in a sentence."""
        if self.problem:
            return f"could not be evaluated: {self.problem}"
        if self.element_count is None or self.unexpected_count is None:
            return "nothing to look at" if self.observed is None else _in_words(self.observed)
        looked_at = self.element_count - (self.missing_count or 0)
        if not looked_at and not self.unexpected_count:
            return "nothing to look at"
        if not self.unexpected_count:
            return f"all {looked_at} meet it"
        values = ", ".join(repr(value) for value in self.unexpected_values)
        return f"{self.unexpected_count} of {looked_at} do not meet it" + (f": {values}" if values else "")


@dataclass(frozen=True)
class SuiteRun:
    """The outcome of every expectation, in their order, and the whole result as Great Expectations writes it."""

    outcomes: tuple[Outcome, ...]
    document: dict[str, Any]


def run_suite(
    frame: pl.DataFrame,
    expectations: Sequence[Expectation],
    *,
    parameters: Mapping[str, Any],
    project_name: str,
    partition_key: str,
    run_time: datetime,
) -> SuiteRun:
    """Validate a frame that has the column record_id.

    On a frame without rows every expectation about a column is met: there is nothing that could violate it.

    Raises:
        DeclarationError: Great Expectations refuses an expectation or its arguments.
    """
    with _turn:
        batch_definition = _batch_definition()
        suite = _suite(expectations, project_name)
        batch = batch_definition.get_batch(batch_parameters={"dataframe": frame.to_pandas()})
        result = batch.validate(
            suite,
            expectation_parameters=dict(parameters),
            # The index of an unexpected row is its position. Asking for index columns instead is 20 times slower.
            result_format={"result_format": "SUMMARY", "partial_unexpected_count": MAX_EXAMPLES},
        )
    document: dict[str, Any] = plain(result.to_json_dict())
    by_name = {_check_name(entry): entry for entry in document["results"]}
    entries = [by_name[expectation.check_name] for expectation in expectations]
    for entry in entries:
        _name_records(entry, frame)
    if frame.is_empty():
        for expectation, entry in zip(expectations, entries, strict=True):
            if not expectation.type.startswith("expect_table_"):
                entry.update(success=True, exception_info={})
    document["results"] = entries
    document["success"] = all(entry["success"] for entry in entries)
    document["statistics"] = _statistics(entries)
    document["meta"]["batch_spec"] = {"data_asset_name": _ASSET}
    document["meta"]["run_id"] = {"run_name": partition_key, "run_time": run_time.isoformat()}
    return SuiteRun(tuple(_outcome(entry) for entry in entries), document)


def forbid_network() -> None:
    """Switch off the usage statistics of Great Expectations; to be called before it is imported."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"


def plain(value: Any) -> Any:
    """A JSON-like value with Python scalars only: numpy scalars unpacked, NaN and infinity as None or text."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(inner) for inner in value]
    if hasattr(value, "item") and not isinstance(value, str | bytes):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    if isinstance(value, datetime | date):
        return value.isoformat()
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


@cache
def _batch_definition() -> Any:
    forbid_network()
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    import great_expectations as gx

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False, "metric_calculations": False}
    asset = context.data_sources.add_pandas("partitions").add_dataframe_asset(_ASSET)
    return asset.add_batch_definition_whole_dataframe("partition")


def _suite(expectations: Iterable[Expectation], project_name: str) -> Any:
    import great_expectations as gx
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    # A suite that belongs to no context is never stored, so thousands of partitions leave nothing behind.
    suite = gx.ExpectationSuite(name=project_name)
    for expectation in expectations:
        rows = _LABELLED_ROWS if expectation.on == "labelled" else {}
        configuration = ExpectationConfiguration(
            type=expectation.type,
            kwargs={**expectation.kwargs, **rows},
            meta={"check_name": expectation.check_name},
            description=expectation.description,
            severity="critical" if expectation.blocking else "warning",
        )
        try:
            suite.add_expectation(configuration.to_domain_obj())
        except Exception as error:
            # Pydantic's and Great Expectations' own errors both mean the arguments; the first line says which.
            raise DeclarationError(
                f"{expectation.type} cannot be used: {_in_one_line(error)}",
                where=f"{project_name}: quality.expectations",
                todo="See https://greatexpectations.io/expectations for its arguments",
            ) from None
    return suite


def _name_records(entry: Mapping[str, Any], frame: pl.DataFrame) -> None:
    """Put the record's id in the place of the position of every unexpected row."""
    rows = (entry.get("result") or {}).get("partial_unexpected_index_list")
    if rows:
        ids = frame["record_id"]
        rows[:] = [{"record_id": ids[row]} for row in rows[:MAX_EXAMPLES] if isinstance(row, int)]


def _check_name(entry: Mapping[str, Any]) -> str:
    return str(entry["expectation_config"]["meta"]["check_name"])


def _outcome(entry: Mapping[str, Any]) -> Outcome:
    result = entry.get("result") or {}
    rows = result.get("partial_unexpected_index_list") or []
    values = result.get("partial_unexpected_list") or []
    return Outcome(
        passed=bool(entry["success"]),
        element_count=result.get("element_count"),
        missing_count=result.get("missing_count"),
        unexpected_count=result.get("unexpected_count"),
        unexpected_values=tuple(dict.fromkeys(_short(value) for value in values if value is not None))[:3],
        observed=result.get("observed_value"),
        examples=tuple(dict.fromkeys(str(row["record_id"]) for row in rows if row["record_id"] is not None)),
        problem=_exception(entry.get("exception_info") or {}),
    )


def _exception(info: Mapping[str, Any]) -> str | None:
    """The message of the first exception; one is kept for every metric that failed, or one for the expectation."""
    for part in [info, *(value for value in info.values() if isinstance(value, Mapping))]:
        if part.get("raised_exception"):
            return _short(" ".join(str(part.get("exception_message") or "an exception").split()), 200)
    return None


def _statistics(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    met = sum(bool(entry["success"]) for entry in entries)
    return {
        "evaluated_expectations": len(entries),
        "successful_expectations": met,
        "unsuccessful_expectations": len(entries) - met,
        "success_percent": 100 * met / len(entries) if entries else None,
    }


def _in_one_line(error: Exception) -> str:
    problems = getattr(error, "errors", None)
    if callable(problems):
        return "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in problems())
    return str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__


def _in_words(observed: Any) -> str:
    if isinstance(observed, float):
        return f"{observed:.6g}"
    return observed if isinstance(observed, str) else json.dumps(observed, ensure_ascii=False)


def _short(value: object, length: int = 60) -> str:
    text = str(value)
    return text if len(text) <= length else text[: length - 1] + "…"
