"""Recorded answers under the defences against injection, repairs and several samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from annotation_pipelines.annotators.prompts import Prompts
from annotation_pipelines.annotators.replay import Recording, chat_reply
from annotation_pipelines.project import Classification, Injection
from annotation_pipelines.tasks.classification import ClassificationTask

TASK = ClassificationTask(Classification(labels={"a": "the first", "b": "the second"}))


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    file = tmp_path / "recorded.csv"
    file.write_text("text,label,confidence\none <b>,a,0.5\ntwo,b,0.9\n", encoding="utf-8")
    return file


def asking(injection: Injection) -> Prompts:
    return Prompts(TASK, "", confidence=True, rationale=False, injection=injection)


def body(prompts: Prompts, *messages: Any, **fields: Any) -> str:
    return json.dumps(
        {
            "model": "m",
            "messages": [prompts.system, *messages],
            "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": prompts.schema}},
            **fields,
        }
    )


@pytest.mark.parametrize("injection", [Injection(canary=c, aliases=a) for c in (False, True) for a in (False, True)])
def test_a_recorded_answer_is_read_back_under_every_defence(recorded: Path, injection: Injection) -> None:
    recording = Recording.load(recorded, task=TASK)
    prompts = asking(injection)
    for content, label, confidence in (("one <b>", "a", 0.5), ("two", "b", 0.9)):
        status, reply = chat_reply(recording, "m", body(prompts, prompts.record(content)))
        assert status == 200
        answer = reply["choices"][0]["message"]["content"]
        assert list(json.loads(answer)) == list(prompts.schema["properties"])
        annotation = prompts.read(answer, content)
        assert (annotation.label, annotation.confidence) == (label, confidence)


def test_codes_that_the_recording_does_not_know_are_refused_with_what_to_do(recorded: Path) -> None:
    prompts = asking(Injection(aliases=True))
    status, reply = chat_reply(Recording.load(recorded), "m", body(prompts, prompts.record("two")))
    assert (status, reply["error"]["code"]) == (400, "labels_not_recorded")
    assert "aliases" in reply["error"]["message"]


def test_a_recorded_label_outside_the_set_is_answered_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "recorded.csv"
    file.write_text("text,label\none,a\ntwo,strange\n", encoding="utf-8")
    prompts = asking(Injection())
    _, reply = chat_reply(Recording.load(file), "m", body(prompts, prompts.record("two")))
    assert prompts.read(reply["choices"][0]["message"]["content"], "two").state == "invalid"


def test_a_repair_is_about_the_record_before_it(recorded: Path) -> None:
    prompts = asking(Injection(canary=True))
    repair = prompts.repair('{"label": "two"}', "the label 'two' is not in the set")
    _, reply = chat_reply(Recording.load(recorded), "m", body(prompts, prompts.record("one <b>"), *repair))
    assert prompts.read(reply["choices"][0]["message"]["content"], "one <b>").label == "a"


def test_several_samples_are_all_the_same_and_all_counted(recorded: Path) -> None:
    prompts = asking(Injection())
    recording = Recording.load(recorded)
    once = chat_reply(recording, "m", body(prompts, prompts.record("two")))[1]
    thrice = chat_reply(recording, "m", body(prompts, prompts.record("two"), n=3))[1]
    assert [choice["index"] for choice in thrice["choices"]] == [0, 1, 2]
    assert len({choice["message"]["content"] for choice in thrice["choices"]}) == 1
    assert thrice["usage"]["completion_tokens"] == 3 * once["usage"]["completion_tokens"]
    assert chat_reply(recording, "m", body(prompts, prompts.record("two"), n="many"))[0] == 400
