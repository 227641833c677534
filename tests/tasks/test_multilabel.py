"""What a multilabel task asks for, and what it makes of replies, of people's labels and of several votes."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from annotation_pipelines.content import Content
from annotation_pipelines.tasks.base import STATES, Annotation, Invalid, Vote
from annotation_pipelines.tasks.multilabel import Multilabel, MultilabelTask
from annotation_pipelines.tasks.registry import Task, make_task

LABELS = {"joy": "is happy", "anger": "is angry", "red, white; blue": "colours", "red": "a colour", "Fear": "is afraid"}
TEXT = Content.of_text("I am glad.")


def task(**changes: Any) -> MultilabelTask:
    return MultilabelTask(Multilabel.model_validate({"labels": LABELS, **changes}))


def read(reply: str, **changes: Any) -> Annotation:
    return task(**changes).parse(reply, TEXT)


def said(given: Any, **changes: Any) -> Annotation:
    return read(json.dumps({"labels": given}), **changes)


def test_the_declaration_makes_the_task() -> None:
    made = make_task(Task.model_validate({"multilabel": {"labels": LABELS}}))
    assert isinstance(made, MultilabelTask)
    assert dict(made.labels) == LABELS


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"min_labels": 6}, "min_labels: expected at most the 5 labels, found 6"),
        ({"min_labels": 3, "max_labels": 2}, "max_labels: expected 3 or more, found 2"),
        ({"max_labels": 0}, "max_labels"),
        ({"candidates": 5}, "candidates: expected from 2 to 4"),
        ({"candidates": 2, "min_labels": 3}, "candidates: expected from 3 to 4"),
        ({"labels": ["abstain", "joy"]}, "reserved"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        task(**changes)


def test_the_schema_is_strict_and_holds_the_labels() -> None:
    schema = task(abstain=True).schema(confidence=True)
    assert schema["required"] == ["labels", "confidence"] == list(schema["properties"])
    field = schema["properties"]["labels"]
    assert (field["type"], field["items"]["type"]) == ("array", "string")
    assert field["items"]["enum"] == [*LABELS, "abstain"]
    assert not {"minItems", "maxItems", "uniqueItems"} & field.keys()
    assert task().schema(confidence=False)["properties"]["labels"]["items"]["enum"] == list(LABELS)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "be it one, several or none"),
        ({"min_labels": 1}, "1 label at least"),
        ({"max_labels": 3}, "3 labels at most"),
        ({"min_labels": 1, "max_labels": 3}, "from 1 to 3 labels"),
        ({"min_labels": 2, "max_labels": 2}, "exactly 2 labels"),
    ],
)
def test_the_instructions_say_how_many_labels_there_may_be(changes: dict[str, Any], words: str) -> None:
    asked = task(**changes).instructions()
    assert words in asked
    assert ("empty list" in asked) == (not changes.get("min_labels"))
    assert all(json.dumps(name) in asked and text in asked for name, text in LABELS.items())
    assert "abstain" not in asked
    assert '["abstain"]' in task(abstain=True).instructions()


@pytest.mark.parametrize(
    ("given", "label"),
    [
        (["joy"], '["joy"]'),
        (["anger", "joy"], '["joy","anger"]'),
        (["joy", "joy", "Joy"], '["joy"]'),
        (["  JOY ", "FEAR"], '["joy","Fear"]'),
        ([], "[]"),
        ("", None),
        ("joy", '["joy"]'),
        ("anger, joy", '["joy","anger"]'),
        ("Anger; joy |fear", '["joy","anger","Fear"]'),
        ("joy, ", '["joy"]'),
        ('["joy", "red"]', '["joy","red"]'),
        ("red, white; blue", '["red, white; blue"]'),
        ("joy, red, white; blue, red", '["joy","red, white; blue","red"]'),
        ("red, joy", '["joy","red"]'),
        ("none", "[]"),
        ("None", "[]"),
        (["none"], "[]"),
        (["red, white; blue", "joy"], '["joy","red, white; blue"]'),
    ],
)
def test_lists_and_unambiguous_strings_are_read_in_the_order_of_the_declaration(given: Any, label: str | None) -> None:
    found = said(given)
    assert (found.state, found.label) == (("labelled", label) if label else ("invalid", None))


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (["joy", "sorrow"], "'sorrow'"),
        ("joy, sorrow", "'sorrow'"),
        ("joy and anger", "'joy and anger'"),
        ("joy,,anger", "''"),
        (["joy", "none"], "'none'"),
        ([["joy"]], r"\['joy'\]"),
        ([None], "None"),
        ([True], "True"),
        (None, "expected a list of labels, found None"),
        ({"joy": True}, "expected a list of labels"),
        (3, "expected a list of labels, found 3"),
        ("[joy", "not valid JSON"),
        ("\ud800", "ud800"),
    ],
)
def test_what_is_not_in_the_set_is_named(given: Any, problem: str) -> None:
    found = said(given)
    assert found.state == "invalid"
    assert found.problem

    assert re.search(problem, found.problem), found.problem


def test_an_answer_without_labels_is_invalid() -> None:
    assert "no labels" in (read('{"label": "joy"}').problem or "")
    assert read("I would say that this is a happy text.").state == "invalid"


@pytest.mark.parametrize(("reply", "label"), [('["joy"]', '["joy"]'), ("[]", "[]"), ("anger, joy", '["joy","anger"]')])
def test_a_reply_without_an_object_is_taken_where_it_is_labels_and_nothing_else(reply: str, label: str) -> None:
    assert read(reply).label == label


def test_too_few_and_too_many_labels_are_invalid() -> None:
    assert said([], min_labels=1).problem == "expected 1 label at least, found none"
    assert said("none", min_labels=1).state == "invalid"
    assert said(["joy", "red"], max_labels=1).problem == "expected 1 label at most, found 2"
    assert said(["joy", "joy"], max_labels=1).label == '["joy"]'


def test_abstaining_is_an_answer_where_it_is_allowed() -> None:
    assert said(["abstain"], abstain=True).state == "abstained"
    assert said("abstain", abstain=True).state == "abstained"
    assert said(["abstain"]).state == "invalid"
    assert "both" in (said(["abstain", "joy"], abstain=True).problem or "")


def test_a_label_called_none_is_a_label() -> None:
    labels = {"none": "nothing of it", "joy": "is happy"}
    assert said("none", labels=labels).label == '["none"]'
    assert said(["none"], labels=labels).label == '["none"]'
    assert task(labels=labels).canonical("none", TEXT) == '["none"]'


@pytest.mark.parametrize(
    ("given", "label"),
    [
        ('["anger", "joy"]', '["joy","anger"]'),
        ("anger|joy", '["joy","anger"]'),
        ("anger; joy", '["joy","anger"]'),
        ("anger,joy", '["joy","anger"]'),
        ("red, white; blue,joy", '["joy","red, white; blue"]'),
        ("[]", "[]"),
        ("none", "[]"),
    ],
)
def test_gold_is_a_list_or_text_with_separators(given: str, label: str) -> None:
    assert task().canonical(given, TEXT) == label
    assert task().problem(label, TEXT) is None


@pytest.mark.parametrize(
    "given", ["0", "0,1", "[0, 1]", "Joy", "", "  ", "joy,", '{"labels": ["joy"]}', "[", "[1e999]"]
)
def test_gold_is_not_guessed_at(given: str) -> None:
    if given == "joy,":  # a separator at the end says nothing else
        assert task().canonical(given, TEXT) == '["joy"]'
        return
    with pytest.raises(Invalid):
        task().canonical(given, TEXT)


def test_gold_keeps_to_the_numbers_of_labels_that_are_declared() -> None:
    with pytest.raises(Invalid, match="1 label at most, found 2"):
        task(max_labels=1).canonical("joy,anger", TEXT)


def test_a_stored_label_that_is_not_canonical_is_a_problem() -> None:
    assert task().problem('["anger","joy"]', TEXT) == "it is not in canonical form"
    assert "sorrow" in (task().problem('["sorrow"]', TEXT) or "")


def test_a_demonstration_is_an_answer_that_parses() -> None:
    shown = task().answer('["joy","red"]', TEXT, confidence=True)
    assert shown == {"labels": ["joy", "red"], "confidence": 1.0}
    assert read(json.dumps(shown)).label == '["joy","red"]'
    for wrong in ('["red","joy"]', "joy", "[1]", '["sorrow"]', '"joy"', "["):
        with pytest.raises(Invalid):
            task().written(wrong, TEXT)


def test_labels_are_named_and_shown() -> None:
    assert task().named('["joy","red"]') == ["joy", "red"]
    assert task().shown('["joy","red"]') == "joy, red"
    assert task().shown("[]") == "(none)"
    assert task().shown("broken") == "broken"


def vote(label: str | None, weight: float = 1.0, rationale: str | None = None) -> Vote:
    return Vote(Annotation("labelled" if label else "abstained", label, 0.9, rationale=rationale), weight)


def test_a_label_is_kept_with_at_least_half_of_the_weight() -> None:
    made = task().combine([vote('["joy","anger"]'), vote('["joy"]'), vote('["joy","red"]'), vote('["anger"]')])
    assert made.label == '["joy","anger"]'
    assert made.scores == {"joy": 0.75, "anger": 0.5, "red": 0.25}
    assert made.confidence == pytest.approx((0.75 + 0.5 + 0.75) / 3)
    assert task().combine([vote('["joy"]'), vote('["joy"]'), vote('["red"]', 3.0)]).label == '["red"]'
    assert task().combine([vote("[]"), vote("[]"), vote('["red"]')]).label == "[]"
    assert task().combine([vote("[]")]) == Annotation("labelled", "[]", 1.0)


def test_consensus_keeps_to_the_numbers_of_labels() -> None:
    three = [vote('["joy"]'), vote('["anger"]', 1.5), vote('["red"]')]
    assert task().combine(three).label == "[]"
    assert task(min_labels=1).combine(three).label == '["anger"]'
    both = [vote('["joy","anger"]'), vote('["joy","anger"]')]
    assert task(max_labels=1).combine(both).label == '["joy"]'


def test_abstentions_win_only_with_more_than_half() -> None:
    abstaining = task(abstain=True)
    assert abstaining.combine([vote(None), vote('["joy"]')]).label == '["joy"]'
    declined = abstaining.combine([vote(None), vote(None), vote('["joy"]')])
    assert (declined.state, declined.label, declined.confidence) == ("abstained", None, pytest.approx(2 / 3))


def test_the_rationale_is_one_for_what_was_decided() -> None:
    votes = [vote('["red"]', 1.0, "it is red"), vote('["joy"]', 3.0, "glad"), vote('["joy"]', 1.0, "also")]
    assert task().combine(votes).rationale == "glad"


_names = st.sampled_from([*LABELS, "none", "abstain", "sorrow", " joy ", "RED", "", ",", "\ud800", "a|b"])
_anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | _names,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5) | _names, inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=100, deadline=None)
@given(labels=_anything, extra=_anything, abstain=st.booleans(), least=st.integers(0, 2))
def test_any_json_ends_in_a_canonical_label_or_a_reason(labels: Any, extra: Any, abstain: bool, least: int) -> None:
    made = task(abstain=abstain, min_labels=least)
    found = made.parse(json.dumps({"labels": labels, "scores": extra, "confidence": extra}), TEXT)
    assert found.state in STATES
    if found.state == "labelled":
        assert found.label is not None
        assert made.problem(found.label, TEXT) is None
        assert len(made.named(found.label)) >= least
    else:
        assert found.problem


@settings(max_examples=100, deadline=None)
@given(reply=st.text(max_size=60) | st.lists(_names, max_size=5).map(", ".join), gold=st.text(max_size=40))
def test_any_text_ends_in_an_annotation_and_any_gold_in_a_label_or_a_reason(reply: str, gold: str) -> None:
    found = read(reply)
    assert found.state in ("labelled", "invalid")
    assert (found.label is None) == bool(found.problem)
    for text in (gold, reply):
        try:
            label = task().canonical(text, TEXT)
        except Invalid as problem:
            assert str(problem)
        else:
            assert task().canonical(label, TEXT) == label


@given(chosen=st.lists(st.sampled_from(list(LABELS)), max_size=6), sign=st.sampled_from([", ", ";", " | "]))
def test_labels_joined_by_any_separator_are_read_back(chosen: list[str], sign: str) -> None:
    expected = task().ordered(chosen)
    assert said(chosen).label == expected
    if chosen and "red" not in chosen:
        assert task().canonical(sign.join(chosen), TEXT) == expected


def test_a_string_of_a_hundred_thousand_pieces_is_read_in_one_pass() -> None:
    assert said("joy," * 100_000).label == '["joy"]'
    assert said("joy," * 100_000 + "sorrow").state == "invalid"
