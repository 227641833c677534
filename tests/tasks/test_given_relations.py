"""The relation of a marked pair: what is asked, and what is made of a reply."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from annotation_pipelines.content import Content
from annotation_pipelines.tasks.base import STATES, Annotation, Invalid, Vote
from annotation_pipelines.tasks.found_relations import FoundRelationsTask
from annotation_pipelines.tasks.given_relations import GivenRelationsTask
from annotation_pipelines.tasks.marked_pair import MarkedPair
from annotation_pipelines.tasks.relations import Relations

TYPES = {
    "Cause-Effect": "{head} is the cause of {tail}",
    "Component-Whole": "{head} is a part of {tail}",
    "Message-Topic": "",
}
STORM = Content.of_text("The <e1>storm</e1> caused much <e2>damage</e2>.")


def task(**changes: Any) -> GivenRelationsTask:
    made = Relations(**{"types": TYPES, **changes}).make()
    assert isinstance(made, GivenRelationsTask)
    return made


def label(reply: str, content: Content = STORM, **changes: Any) -> str | None:
    return task(**changes).parse(reply, content).label


def test_both_directions_of_every_type_and_the_null_class_are_labels() -> None:
    assert list(task().labels) == [
        *(f"{name}({way})" for name in TYPES for way in ("e1,e2", "e2,e1")),
        "Other",
    ]
    assert list(task(directed=False).labels) == [*TYPES, "Other"]
    assert list(task(none=None, directed=False).labels) == list(TYPES)


def test_each_direction_says_in_words_what_the_mentions_are() -> None:
    words = task().instructions()
    assert '- "Cause-Effect(e1,e2)": e1 is the cause of e2\n' in words
    assert '- "Cause-Effect(e2,e1)": e2 is the cause of e1\n' in words
    assert '- "Message-Topic(e2,e1)": Message Topic; e2 has the first role, e1 the second\n' in words
    assert "{head}" not in words + task(directed=False).instructions()


def test_the_null_class_may_be_described_among_the_types() -> None:
    made = task(types={**TYPES, "Other": "anything else"})
    assert list(made.labels)[-1] == "Other"
    assert made.labels["Other"] == "anything else"


def test_it_may_be_distilled_where_pairs_are_given_only() -> None:
    found = Relations(types=TYPES, pairs="found").make()
    assert isinstance(found, FoundRelationsTask)
    assert (task().kind, found.kind) == ("relations", "relations")
    assert (task().student, found.student) == (True, False)
    assert task().embedded
    assert found.embedded


@pytest.mark.parametrize(
    "said",
    [
        "Cause-Effect(e1,e2)",
        "cause-effect(e1, e2)",
        "Cause Effect (E1,E2)",
        "cause_effect(e1;e2)",
        "Cause-Effect(e1->e2)",
        "Cause-Effect[e1,e2]",
        "Cause-Effect(storm,damage)",
        "Cause-Effect( Storm , DAMAGE )",
    ],
)
def test_a_label_is_told_however_it_is_spelled(said: str) -> None:
    assert label(json.dumps({"label": said})) == "Cause-Effect(e1,e2)"
    assert label(said) == "Cause-Effect(e1,e2)"


def test_type_and_direction_may_stand_apart() -> None:
    assert label('{"type": "Cause-Effect", "direction": "e2,e1"}') == "Cause-Effect(e2,e1)"
    assert label('{"type": "Cause-Effect", "direction": "(e2,e1)"}') == "Cause-Effect(e2,e1)"
    assert label('{"type": "Other", "direction": null}') == "Other"
    assert label('{"type": "Other", "direction": "none"}') == "Other"
    assert label('{"type": "cause effect"}', directed=False) == "Cause-Effect"


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ('{"label": "Cause-Effect"}', "says no direction: expected Cause-Effect(e1,e2) or Cause-Effect(e2,e1)"),
        ('{"label": "Cause-Effect(e1,e1)"}', "cannot be told"),
        ('{"label": "Cause-Effect(rain,damage)"}', "cannot be told"),
        ('{"label": "Topic(e1,e2)"}', "not in the set"),
        ('{"label": null}', "not in the set"),
        ('{"label": ["Other"]}', "not in the set"),
        ('{"type": 3, "direction": "e1,e2"}', "not in the set"),
        ('{"type": "Cause-Effect", "direction": ["e1"]}', "not in the set"),
        ('{"relation": "Other"}', "no label"),
        ('{"label": "' + "(" * 5_000 + '"}', "not in the set"),
        ('{"label": "\\ud800"}', "not in the set"),
        ("", "empty"),
        ("I cannot say", "no JSON object"),
    ],
)
def test_what_is_no_label_is_invalid_and_says_why(reply: str, reason: str) -> None:
    annotation = task().parse(reply, STORM)
    assert (annotation.state, annotation.label) == ("invalid", None)
    assert annotation.problem
    assert reason in annotation.problem
    annotation.problem.encode()
    assert len(annotation.problem) < 300


def test_two_mentions_of_the_same_words_do_not_tell_a_direction() -> None:
    same = Content.of_text("The <e1>car</e1> hit another <e2>car</e2>.")
    assert label('{"label": "Cause-Effect(e2,e1)"}', same) == "Cause-Effect(e2,e1)"
    assert task().parse('{"label": "Cause-Effect(car,car)"}', same).state == "invalid"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("no marks at all", "no <e1>"),
        ("<e1>one</e1> alone", "no <e2>"),
        ("<e1>a</e1> <e1>b</e1> <e2>c</e2>", "<e1> twice"),
        ("<e1>a <e2>b</e2>", "does not close <e1>"),
        ("a</e1> <e1>b</e1> <e2>c</e2>", "where it is not open"),
        ("<e1>a <e2>b</e1> c</e2>", "cross"),
        ("<e1> </e1> <e2>b</e2>", "marks nothing"),
        ("<E1>a</E1> <e2>b</e2>", "no <e1>"),
    ],
)
def test_a_record_that_marks_no_pair_is_said_to(text: str, reason: str) -> None:
    annotation = task().parse('{"label": "Other"}', Content.of_text(text))
    assert annotation.state == "invalid"
    assert reason in (annotation.problem or "")
    assert reason in (task().problem("Other", Content.of_text(text)) or "")


def test_marks_are_taken_out_and_mentions_found_in_any_order_and_nested() -> None:
    pair = MarkedPair.read("A <e2>part</e2> of the <e1>whole</e1>!")
    assert (pair.text, pair.mentions, pair.between) == ("A part of the whole!", ("whole", "part"), " of the ")
    nested = MarkedPair.read("the <e1>head of <e2>state</e2></e1>")
    assert (nested.mentions, nested.between) == (("head of state", "state"), "")


def test_the_marks_may_stand_in_one_part_of_several() -> None:
    made = task(part="sentence")
    content = Content.of_parts({"title": "<e1> in a title", "sentence": "<e1>a</e1> <e2>b</e2>"})
    assert made.parse('{"label": "Other"}', content).label == "Other"
    assert task().parse('{"label": "Other"}', content).state == "invalid"
    made.check(["title", "sentence"])
    with pytest.raises(Invalid, match="'sentence'"):
        made.check(["text"])
    assert "no part 'sentence'" in (made.parse('{"label": "Other"}', STORM).problem or "")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"types": ["Cause-Effect(e1,e2)", "b"]}, "without a direction"),
        ({"types": ["Other"]}, "a type besides"),
        ({"types": ["a b", "a-b"]}, "can be told"),
        ({"types": ["a"], "directed": False, "none": None}, "two labels or more"),
        ({"none": " "}, "null class"),
        ({"none": "abstain"}, "null class"),
        ({"entity_types": ["person"]}, "pairs: found"),
        ({"pairs": "sought"}, "given"),
    ],
)
def test_a_declaration_that_cannot_be_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Relations(**{"types": TYPES, **changes})


@pytest.mark.parametrize("directed", [True, False])
def test_every_label_is_shown_in_a_demonstration_and_read_back(directed: bool) -> None:
    made = task(directed=directed)
    for name in made.labels:
        answer = made.answer(name, STORM, confidence=True)
        assert list(answer) == made.schema(confidence=True)["required"]
        assert made.parse(json.dumps(answer), STORM).label == name
        assert made.problem(name, STORM) is None
        assert made.named(name) == [name]


def test_people_s_labels_become_canonical() -> None:
    assert task().canonical("cause-effect (e2, e1)", STORM) == "Cause-Effect(e2,e1)"
    with pytest.raises(Invalid, match="not in the set"):
        task().canonical("Cause", STORM)


def test_the_label_with_the_most_weight_wins() -> None:
    votes = [
        Vote(Annotation("labelled", "Cause-Effect(e1,e2)"), 1.0),
        Vote(Annotation("labelled", "Cause-Effect(e2,e1)"), 1.5),
        Vote(Annotation("labelled", "Cause-Effect(e1,e2)"), 1.0),
    ]
    combined = task().combine(votes)
    assert combined.label == "Cause-Effect(e1,e2)"
    assert combined.confidence == pytest.approx(2 / 3.5)


marks = st.sampled_from(["<e1>", "</e1>", "<e2>", "</e2>", "a", "b ", " ", "é", "<", "\ud7ff"])
contents = st.lists(marks, max_size=12).map("".join) | st.just(STORM.text)
labels = st.sampled_from([*task().labels, "Cause-Effect", "cause effect(storm,damage)", "Other(e1,e2)"]) | st.text(
    "Cause-Effect()e12,;[]", max_size=30
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | labels,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["label", "type", "direction", "scores", "confidence"]), inner)
    ),
    max_leaves=8,
)


@settings(max_examples=150)
@given(json_values, contents, st.booleans())
def test_no_json_about_any_text_makes_the_parser_fail(value: object, text: str, directed: bool) -> None:
    made = task(directed=directed)
    annotation = made.parse(json.dumps(value), Content.of_text(text))
    assert annotation.state in STATES
    assert annotation.label in {None, *made.labels}
    (annotation.problem or "").encode()


@settings(max_examples=150)
@given(st.text(st.characters(), max_size=80) | st.text('{}[]":,() labe12Cus-Effct', max_size=60))
def test_no_text_makes_the_parser_fail(reply: str) -> None:
    annotation = task().parse(reply, STORM)
    assert (annotation.label is not None) == (annotation.state == "labelled")
    assert (annotation.problem is None) == (annotation.state == "labelled")


@settings(max_examples=150)
@given(st.lists(marks, max_size=14).map("".join))
def test_a_pair_is_read_or_said_to_be_none(text: str) -> None:
    try:
        pair = MarkedPair.read(text)
    except Invalid as problem:
        assert str(problem)
        return
    first, second = pair.mentions
    assert first.strip()
    assert second.strip()
    assert text.count("<e1>") == text.count("</e2>") == 1
    assert len(pair.text) == len(text) - 18
