"""The declaration: what it accepts, and how it refuses the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from annotation_pipelines.declaration_file import load_project
from annotation_pipelines.errors import DeclarationError
from annotation_pipelines.project import Declaration
from annotation_pipelines.workspace import Workspace

MINIMAL: dict[str, Any] = {
    "source": {"csv": "records.csv"},
    "task": {"classification": {"labels": ["a", "b"]}},
}

SHOP = "source: {csv: a.csv}\ntask: {classification: {labels: [a, b]}}\n"


def write(folder: Path, attributes: str) -> Path:
    file = folder / "shop" / "defs.yaml"
    file.parent.mkdir(exist_ok=True)
    indented = "".join(f"  {line}\n" for line in attributes.splitlines())
    file.write_text(f"type: annotation_pipelines.AnnotationProject\nattributes:\n{indented}")
    return file


def test_source_and_task_are_enough() -> None:
    declaration = Declaration.model_validate(MINIMAL)
    assert declaration.partitions.every == "none"
    assert declaration.annotators[0].embedded is not None
    assert declaration.task.classification.labels == {"a": "a", "b": "b"}


def test_the_projects_of_this_workspace_load() -> None:
    workspace = Workspace(Path(__file__).parents[1])
    assert workspace.project_names() == ["climate_stance", "ml_projects"]
    for name in workspace.project_names():
        assert workspace.project(name).guideline


def test_braces_in_texts_are_kept_as_they_are(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        'source: {csv: a.csv, text: "{title}: {{ x }} ..."}\n'
        'task: {classification: {labels: {a: "...", b: "{{ env.HOME }}"}}}\n'
        'guideline: "Decide {{ carefully }}."',
    )
    project = load_project(file)
    assert project.declaration.source.text == "{title}: {{ x }} ..."
    assert project.declaration.task.classification.labels == {"a": "...", "b": "{{ env.HOME }}"}
    assert project.guideline == "Decide {{ carefully }}."


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        (
            "source: {csv: a.csv, colour: red}\ntask: {classification: {labels: [a, b]}}",
            r"defs.yaml:3 source.colour: unknown key; allowed here: .*csv",
        ),
        (
            "source: {csv: a.csv}\ntask:\n  classification:\n    labels: [yes, no]",
            r"defs.yaml:6 task.classification.labels: .*True.*quotes",
        ),
        ("source: {csv: a.csv}\ntask: {classification: {labels: [1, 2]}}", r"found 1 \(int\).*quotes"),
        ("source: {csv: a.csv}\ntask: {classification: {labels: [a]}}", "two labels or more"),
        ("source: {csv: a.csv}\ntask: {classification: {labels: [a, a]}}", "listed twice"),
        ("source: {csv: a.csv}\ntask: {classification: {labels: {a: x, abstain: y}}}", "reserved"),
        (
            "source: {csv: a.csv, jsonl: b}\ntask: {classification: {labels: [a, b]}}",
            "exactly one of .*found csv and jsonl",
        ),
        ("source: {id: x}\ntask: {classification: {labels: [a, b]}}", "exactly one of .*found none"),
        ("task: {classification: {labels: [a, b]}}", "source: required, but not there"),
        (SHOP + "partitions: {every: week}", "needs start"),
        (SHOP + "partitions: {every: day, start: 2026-01-01}", "needs source: time"),
        (SHOP + "partitions: {timezone: Mars/Base}", "IANA time zone"),
        (SHOP + "selection: {strategy: random}", "needs per_partition"),
        (SHOP + "selection: {strategy: best}", "selection.strategy: .*found 'best'"),
        (SHOP + "annotators: [{openai: {model: m}, embedded: {}}]", "exactly one of embedded, openai"),
        (SHOP + "demonstrations: {pool: 5}", "needs source: gold"),
        (SHOP + "schedule: nightly", "five fields.*'nightly'"),
        (SHOP + "quality: {expectations: [{column: x}]}", "expect_column_values_to_not_be_null"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, attributes: str, message: str) -> None:
    with pytest.raises(DeclarationError, match=message) as caught:
        load_project(write(tmp_path, attributes))
    assert "\n" not in str(caught.value)


def test_several_problems_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match=r"source.a: unknown key.*source.b: unknown key"):
        load_project(write(tmp_path, "source: {csv: x, a: 1, b: 2}\ntask: {classification: {labels: [a, b]}}"))


def test_a_file_that_is_not_yaml_is_named_with_its_line(tmp_path: Path) -> None:
    file = write(tmp_path, "")
    file.write_text("type: x\nattributes: {a: [}\n")
    with pytest.raises(DeclarationError, match=r"defs.yaml:2: not valid YAML"):
        load_project(file)


def test_a_missing_guideline_file_says_what_to_do(tmp_path: Path) -> None:
    file = write(tmp_path, yaml.safe_dump({**MINIMAL, "guideline": "rules.md"}))
    with pytest.raises(DeclarationError, match=r"rules.md: the guideline cannot be read.*beside defs.yaml"):
        _ = load_project(file).guideline


def test_a_schedule_may_be_a_bare_cron_line() -> None:
    declaration = Declaration.model_validate({**MINIMAL, "schedule": "0 2 * * *"})
    assert declaration.schedule is not None
    assert (declaration.schedule.cron, declaration.schedule.enabled) == ("0 2 * * *", False)
