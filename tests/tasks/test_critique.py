"""Feedback in words: asked for, read back, and never taken where it is empty."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from annotation_pipelines.content import Content
from annotation_pipelines.tasks.base import STATES, Annotation, Invalid, Vote
from annotation_pipelines.tasks.critique import Critique, CritiqueTask

PARTS = Content.of_parts({"instruction": "Name a colour", "response": "Tuesday"})
SCORED = {"score": {"from": 1, "to": 10}}


def task(**settings: Any) -> CritiqueTask:
    return Critique.model_validate(settings).make()


def reply(**fields: Any) -> str:
    return json.dumps({"critique": "That is a day.", "revision": "Blue", **fields})


def test_the_fields_are_those_that_are_declared() -> None:
    assert task().schema(confidence=True)["required"] == ["critique", "revision", "confidence"]
    assert list(task(**SCORED, revise=False).fields()) == ["critique", "score"]
    assert task(**SCORED).fields()["score"]["type"] == "integer"


def test_the_instructions_say_what_is_criticised_and_by_what() -> None:
    words = task(of=["response"], criteria={"truth": "is it right"}, **SCORED).instructions()
    assert '"response"' in words
    assert '"truth": is it right' in words
    assert "from 1 (worst) to 10 (best)" in words
    assert "anew" not in task(revise=False).instructions()


def test_an_answer_is_read_without_blanks_around_its_texts() -> None:
    annotation = task(**SCORED).parse(reply(critique=" That is a day.\n", score=2.0, confidence=0.8), PARTS)
    assert annotation.label == '{"critique":"That is a day.","revision":"Blue","score":2}'
    assert annotation.confidence == 0.8


@pytest.mark.parametrize(
    ("settings", "fields", "reason"),
    [
        ({}, {"critique": ""}, "the critique is empty"),
        ({}, {"critique": " \n"}, "the critique is empty"),
        ({}, {"critique": None}, "the critique is None: expected text"),
        ({}, {"critique": ["bad"]}, "expected text"),
        ({}, {"revision": ""}, "the revision is empty"),
        ({}, {"revision": 3}, "the revision is 3"),
        ({}, {"critique": "\ud800"}, "half of a character"),
        (SCORED, {}, "no score"),
        (SCORED, {"score": 11}, "the score 11 is off the scale"),
        (SCORED, {"score": 2.5}, "the score 2.5 lies between two steps"),
        (SCORED, {"score": "good"}, "the score 'good' is no number"),
    ],
)
def test_what_is_no_critique_is_invalid_and_says_why(
    settings: dict[str, Any], fields: dict[str, Any], reason: str
) -> None:
    annotation = task(**settings).parse(reply(**fields), PARTS)
    assert annotation.state == "invalid"
    assert annotation.problem
    assert reason in annotation.problem
    annotation.problem.encode()


def test_a_revision_that_changes_nothing_is_kept_and_can_be_told() -> None:
    made = task()
    unchanged = made.parse(reply(revision="  Tuesday "), PARTS)
    assert unchanged.state == "labelled"
    assert made.unrevised(unchanged.label or "", PARTS)
    assert not made.unrevised(made.parse(reply(), PARTS).label or "", PARTS)
    assert task(of=["instruction"]).unrevised(made.parse(reply(revision="Name a  colour"), PARTS).label or "", PARTS)
    plain = task(revise=False)
    assert not plain.unrevised(plain.parse(reply(), PARTS).label or "", PARTS)


def test_gold_is_read_and_shown_back() -> None:
    made = task(**SCORED)
    label = made.canonical('{"score": "3", "revision": "Blue", "critique": "No colour."}', PARTS)
    assert made.value(made.written(label, PARTS), PARTS) == label
    assert list(made.written(label, PARTS)) == list(made.fields())
    assert made.shown(label) == "3: No colour."
    assert made.named(label) == ["3"]
    for wrong in ("No colour.", "[1]", '{"critique": "x"}', '{"critique": "x", "revision": "y", "score": 3, "z": 1}'):
        with pytest.raises(Invalid):
            made.canonical(wrong, PARTS)


def test_of_several_the_surest_is_taken() -> None:
    made = task(revise=False)
    votes = [
        Vote(Annotation("labelled", f'{{"critique":"{name}"}}', confidence), weight)
        for name, confidence, weight in (("a", None, 9), ("b", 0.5, 1), ("c", 0.5, 2), ("d", 0.2, 1))
    ]
    assert made.shown(made.combine(votes).label or "") == "c"
    assert made.combine([Vote(Annotation("abstained"), 3), votes[1]]).state == "abstained"


def test_scores_are_measured_and_texts_are_not() -> None:
    made = task(**SCORED)
    gold = [made.canonical(reply(score=score), PARTS) for score in (2, 8)]
    given_labels = [made.canonical(reply(critique="Other words", score=4), PARTS), None]
    found = {m.metric: m for m in made.measure(gold, given_labels)}
    assert next(iter(found)) == made.headline == "judge_score"
    assert (found["judge_score"].value, found["judge_score"].records) == (4, 1)
    assert found["mae"].value == (2 + 7) / 2
    assert task().measure(["{}"], ["{}"]) == []
    assert made.measure(gold, [None, None])[0].value is None


def test_parts_and_scales_that_are_not_there_are_refused() -> None:
    task(of=["response"]).check(["instruction", "response"])
    with pytest.raises(Invalid, match="no answer among the parts"):
        task(of=["answer"]).check(["instruction", "response"])
    for score in ({"from": 3, "to": 3}, {"from": 0.5, "to": 3}, {"from": 1}, {"to": 4, "from": True}):
        with pytest.raises(ValidationError):
            task(score=score)
    with pytest.raises(ValidationError, match="of"):
        task(of=[])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["critique", "revision", "score", "x"]), inner),
    max_leaves=8,
)


@given(json_values, json_values, json_values)
def test_no_json_makes_the_parser_fail(critique: object, revision: object, score: object) -> None:
    made = task(**SCORED)
    for value in (critique, {"critique": critique, "revision": revision, "score": score}):
        annotation = made.parse(json.dumps(value), PARTS)
        assert annotation.state in STATES
        assert (annotation.label is None) == (annotation.problem is not None)
        (annotation.problem or "").encode()
        assert annotation.label is None or made.problem(annotation.label, PARTS) is None


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.integers(1, 10))
def test_every_text_comes_back(text: str, score: int) -> None:
    annotation = task(**SCORED).parse(reply(critique=f"x{text}", score=score), PARTS)
    assert json.loads(annotation.label or "")["critique"] == f"x{text}".strip()


@given(st.text(st.characters(), max_size=80))
def test_no_text_makes_the_parser_or_gold_fail(text: str) -> None:
    assert task().parse(text, PARTS).state in STATES
    try:
        task().canonical(text, PARTS)
    except Invalid as problem:
        str(problem).encode()
