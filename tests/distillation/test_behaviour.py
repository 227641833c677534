"""Behavioural checks: each fails for a model with just that fault, and all pass for one without."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
import pytest

from annotation_pipelines.distillation.behaviour import Behaviour, Check
from annotation_pipelines.distillation.behaviour_bounds import (
    BATCH,
    BLANKS,
    CALIBRATED,
    CASE,
    CONFIDENCE,
    DESCRIPTIONS,
    EXPECTED,
    ODD,
    ONE_LABEL,
    PUNCTUATION,
    RELOAD,
    UNICODE,
    VALID,
    VITAL,
)
from annotation_pipelines.distillation.embedding import Progress, Uncached
from annotation_pipelines.distillation.encoder import Encoder
from annotation_pipelines.distillation.prediction import ReadyModel
from annotation_pipelines.distillation.students.base import Examples, Predicted, Student, TextVectors
from annotation_pipelines.project import Declaration, Expected, Project
from annotation_pipelines.tasks.base import canonical_json
from tests.distillation.stars import star_project

WORDS = ("Moon", "Sun", "Star", "The moon over Málaga.", "a star fell", "Sunrise at sea.")
TEXTS = [f"{WORDS[i % len(WORDS)]} {i}{'.' if i % 2 else ''}" for i in range(30)]


class ByRule(Student):
    """A student that knows its labels by a rule, or by one with a fault."""

    kind = "by_rule"
    own_encoder = True
    rule: Callable[[str, int], tuple[str, float]]

    def fit(self, examples: Examples, vectors: TextVectors, progress: Progress | None = None) -> Self:
        return self

    def predict(self, rows: pl.DataFrame, vectors: TextVectors, progress: Progress | None = None) -> Predicted:
        said = [self.rule(text, rows.height) for text in rows["content"]]
        return Predicted([label for label, _ in said], np.array([sure for _, sure in said], dtype=np.float64), [])

    def save(self, folder: Path) -> dict[str, Any]:
        return {}

    def load(self, folder: Path, facts: Mapping[str, Any]) -> Self:
        return self

    def figures(self) -> dict[str, float | int | str | None]:
        return {}


def by_word(text: str, batch: int = 0) -> tuple[str, float]:
    found = [name for name in ("moon", "sun") if name in text.casefold()]
    return (found[0] if found else "star"), 0.9


def model(rule: Callable[[str, int], tuple[str, float]], project: Project) -> ReadyModel:
    student = ByRule(project.task, project.declaration.distillation)
    student.rule = rule
    return ReadyModel("v", student, Uncached(Encoder()))


def checks(
    tmp_path: Path,
    rule: Callable[[str, int], tuple[str, float]],
    *,
    again: Callable[[str, int], tuple[str, float]] | None = None,
    learned: tuple[str, ...] = ("moon", "sun", "star"),
    expected: tuple[Expected, ...] = (),
    **gold: Any,
) -> dict[str, Check]:
    project = star_project(tmp_path)
    behaviour = Behaviour(project.task, TEXTS, expected)
    found = behaviour.check(model(rule, project), model(again or rule, project), learned, **gold)
    return {check.name: check for check in found}


def test_a_model_without_a_fault_passes_all_checks(tmp_path: Path) -> None:
    right = [True] * 54 + [False] * 6
    found = checks(
        tmp_path,
        by_word,
        expected=(Expected(text="moonlight", label="moon"),),
        right=right,
        confidence=np.full(60, 0.9),
    )
    assert set(found) == set(DESCRIPTIONS)
    assert [check for check in found.values() if not check.passed] == []
    assert found[CASE].records == len(TEXTS)
    assert found[UNICODE].records == 5
    assert found[EXPECTED].observed == "1 of 1 do"


FAULTS: dict[str, Callable[[str, int], tuple[str, float]]] = {
    CASE: lambda text, _: ("moon" if "Moon" in text else "sun", 0.9),
    BLANKS: lambda text, _: ("sun" if text != text.strip() else "moon" if "o" in text else "star", 0.9),
    UNICODE: lambda text, _: ("sun" if "\u0301" in text else "moon" if "o" in text else "star", 0.9),
    PUNCTUATION: lambda text, _: ("sun" if text.endswith(".") else "moon", 0.9),
    BATCH: lambda text, batch: (by_word(text)[0], 0.5 if batch == 1 else 0.9),
    CONFIDENCE: lambda text, _: (by_word(text)[0], float("nan") if "Málaga" in text else 0.9),
    VALID: lambda text, _: ("comet" if "fell" in text.casefold() else by_word(text)[0], 0.9),
    ODD: lambda text, _: (by_word(text)[0] if text.strip() else str(1 / 0), 0.9),
    ONE_LABEL: lambda text, _: ("moon", 0.9),
    EXPECTED: lambda text, _: by_word(text.replace("moonlight", "")),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_by_its_check(tmp_path: Path, name: str) -> None:
    found = checks(tmp_path, FAULTS[name], expected=(Expected(text="moonlight", label="moon"),))
    assert not found[name].passed
    assert found[name].vital == (name in VITAL)
    others = {check.name for check in found.values() if not check.passed} - {name}
    # Lower case makes no more capitals: some traits touch a second check.
    assert len(others) <= 1, others


def test_a_model_that_is_another_one_after_reading_it_again_is_found(tmp_path: Path) -> None:
    found = checks(tmp_path, by_word, again=lambda text, _: (by_word(text)[0], 0.9001))
    assert not found[RELOAD].passed
    assert found[RELOAD].observed == "0 labels change; confidence moves by 1.0e-04 at most"


def test_confidence_that_is_far_from_the_share_of_right_answers_is_found(tmp_path: Path) -> None:
    sure = np.full(60, 0.95)
    found = checks(tmp_path, by_word, right=[True] * 30 + [False] * 30, confidence=sure)
    assert not found[CALIBRATED].passed
    few = checks(tmp_path, by_word, right=[False] * 20, confidence=sure[:20])
    assert few[CALIBRATED].passed and "too few gold records" in few[CALIBRATED].observed


def test_one_label_may_take_everything_where_it_does_in_training(tmp_path: Path) -> None:
    assert checks(tmp_path, FAULTS[ONE_LABEL], learned=("moon",) * 9 + ("sun",))[ONE_LABEL].passed


def test_a_label_that_is_expected_and_does_not_exist_is_told(tmp_path: Path) -> None:
    found = checks(tmp_path, by_word, expected=(Expected(text="a comet", label="comet"),))
    assert not found[EXPECTED].passed
    assert "'comet' is no label of the task" in found[EXPECTED].observed


def test_of_spans_their_types_are_compared_and_case_is_not_asked_for(tmp_path: Path) -> None:
    project = Project(
        "names",
        tmp_path,
        Declaration.model_validate(
            {"source": {"csv": "r.csv", "gold": "tag"}, "task": {"entities": {"types": {"place": "a place"}}}}
        ),
    )

    def places(text: str, _: int) -> tuple[str, float]:
        at = text.find("sea")
        found = [] if at < 0 else [{"start": at, "end": at + 3, "text": text[at : at + 3], "type": "place"}]
        return canonical_json(found), 0.9

    found = Behaviour(project.task, TEXTS).check(model(places, project), model(places, project), [])
    assert CASE not in {check.name for check in found}
    assert [check for check in found if not check.passed] == []
    assert "'nothing' is given for 83% of texts" in next(c.observed for c in found if c.name == ONE_LABEL)
