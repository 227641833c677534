"""The kind of task that docs/adding-a-task.md adds works as it stands there."""

from __future__ import annotations

import json
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from annotation_pipelines.content import Content
from annotation_pipelines.tasks.base import Annotation, Task, Vote
from tests.annotators.label_scene import KEY, Scene
from tests.mock_endpoint import MockEndpoint, completion

PAGE = Path(__file__).parents[2] / "docs" / "adding-a-task.md"
TEXT = Content.of_text("The Baltic herring moves north as the sea warms.")


@pytest.fixture(scope="module")
def module() -> Iterator[types.ModuleType]:
    [source] = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    made = types.ModuleType("keyphrases")
    sys.modules["keyphrases"] = made
    exec(compile(source, str(PAGE), "exec"), made.__dict__)
    yield made
    del sys.modules["keyphrases"]


@pytest.fixture
def task(module: types.ModuleType) -> Task:
    made = module.Keyphrases.model_validate({"most": 2}).make()
    assert isinstance(made, Task)
    return made


def test_an_answer_is_read_looked_up_and_stored_in_one_form(task: Task) -> None:
    annotation = task.parse('{"phrases": ["the sea", "Baltic Herring", "the sea"], "confidence": 0.7}', TEXT)
    assert (annotation.state, annotation.label, annotation.confidence) == (
        "labelled",
        '["baltic herring","the sea"]',
        0.7,
    )
    assert task.parse('{"phrases": ["cod"]}', TEXT).problem == "the record does not have the phrase 'cod'"
    assert task.parse('{"phrases": ["the", "sea", "as"]}', TEXT).state == "invalid"
    assert task.parse('{"phrases": {"a": NaN}}', TEXT).state == "invalid"


def test_annotators_agree_by_half(task: Task) -> None:
    votes = [Vote(Annotation("labelled", json.dumps(said))) for said in (["a", "b"], ["a"], ["c"])]
    assert task.combine(votes).label == '["a"]'


def test_it_is_measured_against_gold(task: Task) -> None:
    metrics = {metric.metric: metric.value for metric in task.measure(['["a","b"]', '["c"]'], ['["a"]', None])}
    assert metrics == pytest.approx({"micro_f1": 0.5, "precision": 1.0, "recall": 1 / 3})


def test_it_goes_through_the_engine_with_repairs(task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    answers = iter(['{"phrases": ["cod"], "confidence": 1}', '{"phrases": ["herring"], "confidence": 0.6}'])
    with MockEndpoint(lambda call: completion(next(answers))) as mock:
        scene = Scene(tmp_path, mock.url)
        counts = scene.label({"r1": TEXT.text}, scene.annotator(task=task))
        assert (counts.called, counts.repairs) == (2, 1)
        assert scene.rows("label, confidence") == [('["herring"]', 0.6)]
        assert "does not have the phrase" in json.dumps(mock.calls[1].body)
