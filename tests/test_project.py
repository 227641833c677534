"""The declaration: what it accepts, and how it refuses the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from annotation_pipelines.declaration_file import load_project
from annotation_pipelines.errors import DeclarationError
from annotation_pipelines.project import Declaration, OpenAIAnnotator
from annotation_pipelines.workspace import Workspace

MINIMAL: dict[str, Any] = {
    "source": {"csv": "records.csv"},
    "task": {"classification": {"labels": ["a", "b"]}},
}

TWO = "annotators:\n  - embedded\n  - openai: {model: m}\n"
ONE = "annotators:\n  - openai:\n      model: m\n"
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
        (
            SHOP + "distillation: {student: fine_tuned, fine_tuning: {objective: contrastive}, "
            "robust: {reweight: true}}",
            "reweight is done by cross-entropy only",
        ),
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


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ("annotators: []", r"5 annotators: .*at least 1"),
        (
            ONE + "  - openai: {model: m}",
            r"5 declaration: annotators: two are called the same \(openai:m, openai:m\): give each a name",
        ),
        (ONE + "      api_key: sk-1", r"8 annotators.0.openai.api_key: unknown key; .*api_key_env"),
        (ONE + "      mode: fast", r"8 annotators.0.openai.mode: .*'live', 'batch' or 'auto', found 'fast'"),
        (ONE + "      samples: 5", r"8 annotators.0.openai: samples: .*set temperature"),
        (ONE + "      confidence: votes", r"8 annotators.0.openai: confidence: votes needs samples"),
        (ONE + "      api: responses\n      mode: batch", r"8 annotators.0.openai: api: responses .*use api: chat"),
        (ONE + "      price: {input: 1}", r"8 annotators.0.openai.price.output: required"),
        (ONE + "      price: {input: -1, output: 1}", r"8 annotators.0.openai.price.input: .*found -1"),
        (ONE + "      price: {input: 1, output: .inf}", r"8 annotators.0.openai.price.output: .*finite.*found inf"),
        (ONE + "      limits: {rpm: 5}", r"8 annotators.0.openai.limits.rpm: unknown key; .*requests_per_minute"),
        (ONE + "      limits: {tokens_per_minute: 0}", r"8 annotators.0.openai.limits.tokens_per_minute: .*found 0"),
        (ONE + "      batch:\n        late: 5", r"9 annotators.0.openai.batch.late: unknown key; .*late_after_hours"),
        (ONE + "      batch: {max_megabytes: 0}", r"8 annotators.0.openai.batch.max_megabytes: .*found 0"),
        (TWO + "panel: {combine: vote}", r"8 panel.combine: .*'jury' or 'cascade', found 'vote'"),
        (TWO + "panel: {min_confidence: 2}", r"8 panel.min_confidence: .*found 2"),
        (
            TWO + "panel:\n  weights: {embeded: 2}",
            r"9 declaration: panel: weights: expected names of annotators \(embedded, openai:m\), found embeded",
        ),
        (TWO + "panel: {weights: {embedded: 0}}", r"8 panel.weights.embedded: .*greater than 0, found 0"),
        (ONE + "panel: {}", r"8 declaration: panel: needs several annotators, found one \(openai:m\)"),
        ("budget:\n  per_run_usd: 1\n  per_week_usd: 1", r"7 budget.per_week_usd: unknown key; .*per_day_usd"),
        ("budget: {per_day_usd: -1}", r"5 budget.per_day_usd: .*found -1"),
        ("budget: {per_day_usd: .nan}", r"5 budget.per_day_usd: .*found nan"),
        ("budget: {per_run_tokens: 1.5}", r"5 budget.per_run_tokens: .*found 1.5"),
        ("privacy: {redact: [emails]}", r"5 privacy.redact.0: .*'email'.*found 'emails'"),
        ("privacy:\n  redact: [person]", r"6 privacy: redact: person needs spacy_model"),
        ("injection: {canaries: true}", r"5 injection.canaries: unknown key; allowed here: aliases, canary"),
        ('injection: {aliases: "yes"}', r"5 injection.aliases: .*found 'yes'"),
        ("demonstrations: {choose: best}", r"5 demonstrations.choose: .*found 'best'"),
        ("prompt: 5", r"5 prompt: expected text, found 5"),
    ],
)
def test_what_is_wrong_with_the_annotators_and_around_them_is_named_with_its_line(
    tmp_path: Path, attributes: str, message: str
) -> None:
    with pytest.raises(DeclarationError, match=f"^shop: defs.yaml:{message}") as caught:
        load_project(write(tmp_path, SHOP + attributes))
    assert "\n" not in str(caught.value)


def test_everything_about_annotators_has_a_default() -> None:
    declaration = Declaration.model_validate({**MINIMAL, "annotators": [{"openai": {"model": "m"}}]})
    openai = declaration.annotators[0].openai
    assert openai
    assert (openai.mode, openai.api, openai.price, openai.repairs, openai.max_tokens) == ("live", "chat", None, 1, None)
    assert (openai.confidence_from, openai.answer_tokens) == ("stated", 256)
    assert declaration.budget.model_dump(exclude_none=True) == {}
    assert (declaration.privacy.redact, declaration.injection.canary, declaration.injection.aliases) == (
        [],
        False,
        False,
    )
    assert declaration.panel is None


@pytest.mark.parametrize(
    ("settings", "confidence", "tokens"),
    [
        ({"samples": 3, "temperature": 0.7}, "votes", 256),
        ({"samples": 3, "temperature": None, "confidence": "stated"}, "stated", 256),
        ({"rationale": True}, "stated", 1024),
        ({"rationale": True, "max_tokens": 99, "confidence": "logprobs"}, "logprobs", 99),
    ],
)
def test_confidence_and_the_length_of_answers_follow_the_technique(
    settings: dict[str, Any], confidence: str, tokens: int
) -> None:
    openai = OpenAIAnnotator(model="m", **settings)
    assert (openai.confidence_from, openai.answer_tokens) == (confidence, tokens)


def test_annotators_are_called_by_their_name_or_by_what_they_are(tmp_path: Path) -> None:
    project = load_project(write(tmp_path, SHOP + TWO + "  - openai: {model: m}\n    name: second\n"))
    assert [annotator.called for annotator in project.declaration.annotators] == ["embedded", "openai:m", "second"]
