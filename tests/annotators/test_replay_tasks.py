"""Recorded answers of every kind of task: labels with a structure, records with several parts, views, reasons."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from annotation_pipelines.annotators.prompts import Prompts
from annotation_pipelines.annotators.replay import Recording, chat_reply
from annotation_pipelines.content import Content
from annotation_pipelines.project import Injection, RecordColumns
from annotation_pipelines.tasks.base import Annotation, Task
from annotation_pipelines.tasks.registry import Task as Declared
from annotation_pipelines.tasks.registry import make_task

PAIR = RecordColumns(id="id", parts={"question": "{q}", "response_a": "{a}", "response_b": "{b}"})
STORM = "The <e1>storm</e1> caused <e2>damage</e2>."


def task(**declared: Any) -> Task:
    return make_task(Declared.model_validate(declared))


def asked(
    recording: Recording, task: Task, content: Content, *, rationale: bool = False, canary: bool = False, view: int = 0
) -> Annotation:
    """What an annotator makes of the reply to a request about a content in a view."""
    prompts = Prompts(task, "", confidence=True, rationale=rationale, injection=Injection(canary=canary))
    shown = task.present(content, view)
    body = {
        "model": "m",
        "messages": [prompts.system, prompts.record(shown.stored)],
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": prompts.schema}},
    }
    status, reply = chat_reply(recording, "m", json.dumps(body))
    assert status == 200, reply
    said = reply["choices"][0]["message"]["content"]
    # A server that is held to the schema would have answered so.
    assert list(json.loads(said)) == [name for name in prompts.schema["properties"] if name in json.loads(said)]
    return task.seen(prompts.read(said, shown.stored), view)


@pytest.mark.parametrize(
    ("declared", "text", "label", "canonical"),
    [
        ({"classification": {"labels": ["a", "b"]}}, "one", "a", "a"),
        ({"multilabel": {"labels": ["a", "b", "c"]}}, "one", "b|a", '["a","b"]'),
        ({"rating": {"scale": ["low", "high"]}}, "one", "high", "high"),
        ({"relations": {"types": ["Cause-Effect"]}}, STORM, "cause effect(e2,e1)", "Cause-Effect(e2,e1)"),
        (
            {"relations": {"types": ["works for"], "pairs": "found"}},
            "Emma, Emma: Acme",
            '[{"type": "works for", "head": {"text": "Emma", "occurrence": 2}, "tail": "Acme"}]',
            '[{"head":{"end":10,"start":6,"text":"Emma"},"tail":{"end":16,"start":12,"text":"Acme"},'
            '"type":"works for"}]',
        ),
    ],
)
def test_a_recorded_label_is_answered_as_its_task_writes_it(
    tmp_path: Path, declared: dict[str, Any], text: str, label: str, canonical: str
) -> None:
    made = task(**declared)
    file = tmp_path / "recorded.jsonl"
    row = {"text": text, "gpt_label": label, "gpt_confidence": 0.7, "gpt_rationale": " It says so. "}
    file.write_text(json.dumps(row) + "\n", encoding="utf-8")
    recording = Recording.load(file, task=made)
    for canary in (False, True):
        annotation = asked(recording, made, Content.of_text(text), rationale=True, canary=canary)
        assert (annotation.label, annotation.confidence) == (canonical, 0.7)
        assert annotation.rationale == "It says so."
    assert asked(recording, made, Content.of_text(text)).rationale is None


def test_lists_and_structs_of_a_file_are_labels_with_a_structure(tmp_path: Path) -> None:
    made = task(multilabel={"labels": ["a", "b"]})
    pl.DataFrame({"text": ["x"], "label": [["b", "a"]], "why": ["so"]}).write_parquet(tmp_path / "recorded.parquet")
    recording = Recording.load(tmp_path / "recorded.parquet", task=made, rationale_column="why")
    annotation = asked(recording, made, Content.of_text("x"), rationale=True)
    assert (annotation.label, annotation.rationale) == ('["a","b"]', "so")


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    rows = [
        {"id": 1, "q": "Who?", "a": "Emma", "b": "I do not\nknow <b>", "label": "A", "confidence": 0.9},
        {"id": 2, "q": "record", "a": "", "b": " both ", "label": "tie", "confidence": 0.6},
        {"id": 3, "q": "", "a": "", "b": "", "label": "B", "confidence": 0.6},
    ]
    pl.DataFrame(rows).write_csv(tmp_path / "pairs.csv")
    return tmp_path / "pairs.csv"


def test_records_with_several_parts_are_answered_in_both_orders(pairs: Path) -> None:
    made = task(preference={})
    recording = Recording.load(pairs, task=made, source=PAIR)
    assert recording.rows == 2
    for canary in (False, True):
        for parts, label in (
            ({"question": "Who?", "response_a": "Emma", "response_b": "I do not\nknow <b>"}, "A"),
            ({"question": "record", "response_a": "", "response_b": "both"}, "tie"),
        ):
            content = Content.of_parts(parts)
            views = [asked(recording, made, content, canary=canary, view=view) for view in range(made.views)]
            assert [annotation.label for annotation in views] == [label] * 2
            assert made.resolve(views).label == label


def test_a_pair_that_was_recorded_in_the_other_order_too_is_answered_as_recorded(tmp_path: Path) -> None:
    rows = [{"q": "Who?", "a": a, "b": b, "label": "A"} for a, b in (("Emma", "Paul"), ("Paul", "Emma"))]
    pl.DataFrame(rows).write_csv(tmp_path / "pairs.csv")
    made = task(preference={})
    recording = Recording.load(tmp_path / "pairs.csv", task=made, source=PAIR)
    content = Content.of_parts({"question": "Who?", "response_a": "Emma", "response_b": "Paul"})
    assert [asked(recording, made, content, view=view).label for view in (0, 1)] == ["A", "B"]


def test_what_is_no_label_of_the_task_is_answered_as_it_was(tmp_path: Path) -> None:
    made = task(relations={"types": ["Cause-Effect"]})
    rows = [(STORM, "Topic"), ("<e1>a</e1> <e2>b</e2>", '{"label": "Other", "confidence": 3}'), ("no marks", "Other")]
    pl.DataFrame(rows, schema=["text", "label"], orient="row").write_csv(tmp_path / "recorded.csv")
    recording = Recording.load(tmp_path / "recorded.csv", task=made)
    assert "'Topic' is not in the set" in (asked(recording, made, Content.of_text(STORM)).problem or "")
    assert asked(recording, made, Content.of_text(rows[1][0])).label == "Other"
    assert "does not mark its pair" in (asked(recording, made, Content.of_text("no marks")).problem or "")


def test_a_recording_of_another_task_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "recorded.csv").write_text("text,label\none,a\n", encoding="utf-8")
    prompts = Prompts(
        task(multilabel={"labels": ["a", "b"]}), "", confidence=True, rationale=False, injection=Injection()
    )
    body = {
        "model": "m",
        "messages": [prompts.system, prompts.record("one")],
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": prompts.schema}},
    }
    status, reply = chat_reply(Recording.load(tmp_path / "recorded.csv"), "m", json.dumps(body))
    assert (status, reply["error"]["code"]) == (400, "labels_not_recorded")
    assert "project" in reply["error"]["message"]
