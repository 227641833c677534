"""Entities: any reply becomes spans that are there, or a reason."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from annotation_pipelines.content import Content
from annotation_pipelines.tasks.base import STATES, Annotation, Invalid, Vote
from annotation_pipelines.tasks.entities import Entities, EntitiesTask
from annotation_pipelines.tasks.registry import Task, make_task
from annotation_pipelines.tasks.spans import check, labelled_spans

TYPES = {"person": "people, real or not", "location": "places", "人名": "人の名前"}
TEXT = "Emma met Emma in New  York, and emma’s art party 👍🏽 東京"
CONTENT = Content.of_text(TEXT)


def task(**settings: Any) -> EntitiesTask:
    return EntitiesTask(Entities.model_validate({"types": TYPES, **settings}))


def reply(*entities: dict[str, object]) -> str:
    return json.dumps({"entities": list(entities), "confidence": 0.8})


def entity(text: str, occurrence: object = 1, kind: str = "person") -> dict[str, object]:
    return {"text": text, "type": kind, "occurrence": occurrence}


def label(*spans: tuple[int, int, str], text: str = TEXT) -> str:
    entities = [{"end": end, "start": start, "text": text[start:end], "type": kind} for start, end, kind in spans]
    return json.dumps(entities, ensure_ascii=False, separators=(",", ":"))


def test_the_declaration_makes_the_task() -> None:
    made = make_task(Task.model_validate({"entities": {"types": ["person", "location"]}}))
    assert (made.kind, list(made.labels)) == ("entities", ["person", "location"])
    for wrong in ({"types": []}, {"types": ["a", "a"]}, {"types": ["a"], "nested": "yes"}, {}):
        with pytest.raises(ValidationError):
            Entities.model_validate(wrong)


def test_the_schema_is_strict_at_every_level() -> None:
    schema = task().schema(confidence=True)
    listed = schema["properties"]["entities"]["items"]
    assert schema["required"] == ["entities", "confidence"]
    assert listed["required"] == list(listed["properties"]) == ["text", "type", "occurrence"]
    assert schema["additionalProperties"] is listed["additionalProperties"] is False
    assert listed["properties"]["type"]["enum"] == list(TYPES)
    assert "minimum" not in json.dumps(schema)


def test_the_instructions_say_types_counting_overlaps_and_the_part() -> None:
    words = task().instructions()
    assert all(f'"{name}"' in words for name in TYPES)
    assert "whole words" in words
    assert "never overlap" in words
    assert "within others" in task(nested=True).instructions()
    assert 'part "answer"' in task(part="answer").instructions()


@pytest.mark.parametrize(
    ("entities", "spans"),
    [
        ([], []),
        ([entity("Emma")], [(0, 4, "person")]),
        ([entity("Emma", 2), entity("Emma", 1)], [(0, 4, "person"), (9, 13, "person")]),
        ([entity("Emma", None), entity("Emma", None)], [(0, 4, "person"), (9, 13, "person")]),
        ([{"text": "Emma", "type": "person"}] * 2, [(0, 4, "person"), (9, 13, "person")]),
        ([entity("Emma", "2")], [(9, 13, "person")]),
        ([entity("Emma", 2.0)], [(9, 13, "person")]),
        ([entity("emma")], [(32, 36, "person")]),
        ([entity("EMMA", 3)], [(32, 36, "person")]),
        ([entity("new york", 1, " Location ")], [(17, 26, "location")]),
        ([entity("emma's")], [(32, 38, "person")]),
        ([entity("art", 1)], [(39, 42, "person")]),
        ([entity("art", 2)], [(44, 47, "person")]),
        ([entity("東京", 1, "人名")], [(52, 54, "人名")]),
        ([entity("Emma"), entity("Emma")], [(0, 4, "person")]),
    ],
)
def test_entities_are_found_in_the_text(entities: list[dict[str, object]], spans: list[tuple[int, int, str]]) -> None:
    annotation = task().parse(reply(*entities), CONTENT)
    assert (annotation.state, annotation.label, annotation.confidence) == ("labelled", label(*spans), 0.8)


@pytest.mark.parametrize(
    ("given_reply", "reason"),
    [
        ("{}", "has no entities"),
        ('{"entities": null}', "expected a list of entities, found None"),
        ('{"entities": {"person": ["Emma"]}}', "expected a list of entities"),
        ('{"entities": ["Emma"]}', "entity 1: expected an object with text, type and occurrence, found 'Emma'"),
        ('{"entities": [{"text": 5, "type": "person"}]}', "entity 1: expected its text, found 5"),
        ('{"entities": [{"text": " ", "type": "person"}]}', "entity 1: expected its text"),
        ('{"entities": [{"text": "Emma"}]}', "entity 1: expected a type out of person, location, 人名, found None"),
        (reply(entity("Emma"), entity("Rome", 1, "location")), "entity 2 is not in the text"),
        (reply(entity("Emma", 3)), "entity 1 names occurrence 3, but its text stands there 2 times"),
        (reply(entity("Emma", 0)), "names occurrence 0"),
        (reply(entity("Emma", True)), "expected its occurrence as a whole number from 1, found True"),
        (reply(entity("Emma", "first")), "found 'first'"),
        (reply(entity("Emma", 1.5)), "found 1.5"),
        ('{"entities": [{"text": "Emma", "type": "person", "occurrence": NaN}]}', "found nan"),
        (reply(entity("Emma", 1, "animal")), "found 'animal'"),
        (reply(entity("👍")), "'👍' is only a part of a character"),
        (reply(entity("New  York"), entity("York", 1, "location")), "entity 1 and entity 2 overlap"),
        (reply(entity("Emma"), entity("Emma", 1, "location")), "entity 1 and entity 2 overlap"),
        ("no entities here", "no JSON object"),
        ('{"entities": [], "entities": []}', "occurs twice"),
        ('{"entities": [{"text": "\\ud800", "type": "person"}]}', "not in the text"),
    ],
)
def test_a_reply_without_entities_that_are_there_is_invalid_and_says_why(given_reply: str, reason: str) -> None:
    annotation = task().parse(given_reply, CONTENT)
    assert (annotation.state, annotation.label) == ("invalid", None)
    assert reason in (annotation.problem or "")
    assert len(annotation.problem or "") < 300
    (annotation.problem or "").encode()


def test_nested_entities_are_read_where_they_are_allowed() -> None:
    given_reply = reply(entity("New York", 1, "location"), entity("York"), entity("York", 1, "location"))
    annotation = task(nested=True).parse(given_reply, CONTENT)
    assert annotation.label == label((17, 26, "location"), (22, 26, "location"), (22, 26, "person"))


def test_entities_are_looked_for_in_the_declared_part_alone() -> None:
    content = Content.of_parts({"question": "Who is Emma?", "answer": "She is Ann, not Emma."})
    parted = task(part="answer")
    annotation = parted.parse(reply(entity("Emma")), content)
    assert annotation.label == label((16, 20, "person"), text=content["answer"])
    assert parted.parse(reply(entity("Who")), content).state == "invalid"
    parted.check(["question", "answer"])
    for made, parts in ((task(), ["question", "answer"]), (parted, ["text"])):
        with pytest.raises(Invalid, match="part"):
            made.check(parts)
    assert "2 parts" in (task().parse(reply(entity("Emma")), content).problem or "")


@pytest.mark.parametrize(
    ("gold", "expected"),
    [
        ("[]", "[]"),
        ('[{"start": 9, "end": 13, "type": "person"}, {"start":0,"end":4,"type":"person"}]', [(0, 4), (9, 13)]),
        ('[{"start": 0, "end": 4, "type": "person", "text": "Emma", "id": 7}]', [(0, 4)]),
        ('[{"start": 0, "end": 4, "type": "person", "text": null}] ', [(0, 4)]),
        ('[{"start": 0, "end": 4, "type": "person"}, {"start": 0, "end": 4, "type": "person"}]', [(0, 4)]),
    ],
)
def test_gold_becomes_canonical(gold: str, expected: str | list[tuple[int, int]]) -> None:
    wanted = expected if isinstance(expected, str) else label(*((start, end, "person") for start, end in expected))
    assert task().canonical(gold, CONTENT) == wanted
    assert task().problem(wanted, CONTENT) is None


@pytest.mark.parametrize(
    ("gold", "reason"),
    [
        ("", "expected a JSON list"),
        ("Emma", "expected a JSON list"),
        ('{"start": 0}', "expected a JSON list"),
        ("[" * 100_000, "expected a JSON list"),
        ("[[0, 4]]", "entity 1: expected an object"),
        ('[{"start": 0, "end": 99, "type": "person"}]', "entity 1: expected 0 <= start < end <= 54"),
        ('[{"start": -4, "end": 4, "type": "person"}]', "expected 0 <= start"),
        ('[{"start": 4, "end": 4, "type": "person"}]', "expected 0 <= start"),
        ('[{"start": 0.0, "end": 4, "type": "person"}]', "expected start and end as whole numbers, found 0.0 and 4"),
        ('[{"start": true, "end": 4, "type": "person"}]', "found True and 4"),
        ('[{"start": 0, "end": 4}]', "found None"),
        ('[{"start": 0, "end": 4, "type": "Person"}]', "expected a type out of person, location, 人名, found 'Person'"),
        ('[{"start": 0, "end": 4, "type": ["person"]}]', "expected a type"),
        ('[{"start": 0, "end": 4, "type": "person", "text": "Anna"}]', "its text is not what stands from 0 to 4"),
        ('[{"start": 20, "end": 22, "type": "person"}]', "nothing but white space"),
        ('[{"start": 49, "end": 50, "type": "person"}]', "cuts a character"),
        ('[{"start":0,"end":8,"type":"person"},{"start":5,"end":13,"type":"person"}]', "entity 1 and entity 2 overlap"),
    ],
)
def test_gold_that_is_none_is_refused_with_a_reason(gold: str, reason: str) -> None:
    with pytest.raises(Invalid) as raised:
        task().canonical(gold, CONTENT)
    assert reason in str(raised.value)
    str(raised.value).encode()


def test_labels_are_shown_and_named() -> None:
    found = label((0, 4, "person"), (17, 26, "location"))
    assert task().shown(found) == "person: Emma; location: New  York"
    assert task().shown("[]") == "no entities"
    assert task().named(found) == ["person", "location"]
    assert task().problem(label((0, 4, "animal")), CONTENT) is not None


PIECES = [
    "Emma",
    "emma",
    "art",
    "party",
    " ",
    "\n",
    "東京",
    "都",
    "👍🏽",
    "👍",
    "e\u0301",
    "e",
    "&amp;",
    "&",
    "שלום",
    "🇩🇪",
    "5",
]
texts = st.lists(st.sampled_from(PIECES), min_size=1, max_size=12).map("".join)
surfaces = st.sampled_from(PIECES) | texts | st.text(max_size=5)
weird = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | surfaces | st.just("\ud800"),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["entities", "text", "type", "occurrence", "confidence"]), inner)
    ),
    max_leaves=12,
)
plausible = st.fixed_dictionaries(
    {"text": surfaces | weird, "type": st.sampled_from([*TYPES, "PERSON", "x"]) | weird},
    optional={"occurrence": st.integers(-1, 4) | weird},
)


def holds(made: EntitiesTask, annotation: Annotation, content: Content) -> None:
    assert annotation.state in STATES
    assert (annotation.label is None) == (annotation.state == "invalid") == (annotation.problem is not None)
    (annotation.problem or "").encode()
    assert len(annotation.problem or "") < 400
    if annotation.label is not None:
        assert made.problem(annotation.label, content) is None
        for span in labelled_spans(annotation.label):
            check(made.text(content), span)


@settings(max_examples=100, deadline=None)
@given(texts, st.lists(plausible, max_size=4) | weird, st.booleans())
@example("Emma", [{"text": "Emma", "type": "person", "occurrence": 10**400}], False)
def test_any_json_ends_in_entities_that_are_there_or_in_a_reason(text: str, entities: object, nested: bool) -> None:
    made, content = task(nested=nested), Content.of_text(text)
    holds(made, made.parse(json.dumps({"entities": entities}), content), content)


@settings(max_examples=100, deadline=None)
@given(texts, st.text(st.characters(), max_size=120) | st.text('{}[]":,\\ entiyxocur0.1NaN', max_size=60))
def test_any_reply_ends_in_entities_that_are_there_or_in_a_reason(text: str, given_reply: str) -> None:
    made, content = task(), Content.of_text(text)
    holds(made, made.parse(given_reply, content), content)


@settings(max_examples=100, deadline=None)
@given(texts, weird | st.text(max_size=40), st.booleans())
def test_any_gold_is_canonical_or_refused(text: str, gold: object, nested: bool) -> None:
    made, content = task(nested=nested), Content.of_text(text)
    try:
        found = made.canonical(gold if isinstance(gold, str) else json.dumps(gold), content)
    except Invalid as problem:
        str(problem).encode()
    else:
        assert made.canonical(found, content) == found


@settings(max_examples=100, deadline=None)
@given(
    texts,
    st.lists(st.tuples(st.integers(0, 20), st.integers(1, 20), st.sampled_from(list(TYPES))), max_size=5),
    st.booleans(),
)
def test_every_canonical_label_is_written_as_an_answer_that_gives_it_back(
    text: str, spans: list[tuple[int, int, str]], nested: bool
) -> None:
    made, content = task(nested=nested), Content.of_text(text)
    gold = json.dumps([{"start": start, "end": start + length, "type": kind} for start, length, kind in spans])
    try:
        found = made.canonical(gold, content)
    except Invalid:
        return
    answer = made.answer(found, content, confidence=True)
    assert list(answer) == made.schema(confidence=True)["required"]
    assert made.parse(json.dumps(answer), content).label == found


def test_what_is_no_label_is_not_written() -> None:
    with pytest.raises(Invalid):
        task().written('[{"start": 0, "end": 4, "type": "person"}]', CONTENT)


def votes(*given_labels: str | None, weights: tuple[float, ...] = ()) -> list[Vote]:
    return [
        Vote(
            Annotation("abstained" if found is None else "labelled", found, rationale=f"because {number}"),
            weights[number] if weights else 1.0,
        )
        for number, found in enumerate(given_labels)
    ]


EMMA, OTHER, YORK, LONG = (0, 4, "person"), (9, 13, "person"), (17, 26, "location"), (14, 26, "location")


def test_what_half_of_the_weight_gives_is_kept() -> None:
    combined = task().combine(votes(label(EMMA, YORK), label(EMMA), label(EMMA, OTHER)))
    assert (combined.state, combined.label, combined.confidence) == ("labelled", label(EMMA), 1.0)
    assert combined.rationale == "because 1"
    heavy = task().combine(votes(label(EMMA, YORK), label(EMMA), weights=(1.0, 3.0)))
    assert (heavy.label, heavy.confidence) == (label(EMMA), 1.0)
    half = task().combine(votes(label(EMMA, YORK), label(EMMA)))
    assert (half.label, half.confidence) == (label(EMMA, YORK), 0.75)


def test_entities_that_overlap_are_settled_by_weight_then_length_unless_they_may_be_nested() -> None:
    assert task().combine(votes(label(YORK), label(LONG))).label == label(LONG)
    assert task().combine(votes(label(YORK), label(LONG), weights=(1.1, 1.0))).label == label(YORK)
    assert task(nested=True).combine(votes(label(YORK), label(LONG))).label == label(LONG, YORK)


def test_agreement_on_nothing_is_an_annotation_too() -> None:
    nothing = task().combine(votes("[]", "[]", label(EMMA)))
    assert (nothing.state, nothing.label) == ("labelled", "[]")
    assert nothing.confidence == pytest.approx(2 / 3)
    assert task().combine(votes("[]", "[]")).confidence == 1.0


def test_abstentions_count_together() -> None:
    assert task().combine(votes(None, None, label(EMMA))).state == "abstained"
    assert task().combine(votes(None, label(EMMA))).label == label(EMMA)
    assert task().combine(votes(None)).confidence == 1.0


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.none() | st.lists(st.sampled_from([EMMA, OTHER, YORK, LONG]), max_size=3), st.floats(0.01, 5)),
        min_size=1,
        max_size=5,
    ),
    st.booleans(),
)
def test_a_consensus_is_a_valid_annotation(
    given_votes: list[tuple[list[tuple[int, int, str]] | None, float]], nested: bool
) -> None:
    made = task(nested=nested)
    labels = [None if spans is None else label(*sorted(set(spans))) for spans, _ in given_votes]
    combined = made.combine(votes(*labels, weights=tuple(weight for _, weight in given_votes)))
    assert combined.confidence is not None
    assert 0 <= combined.confidence <= 1
    if combined.label is not None:
        assert made.problem(combined.label, CONTENT) is None
    if len(set(labels)) == 1 and (nested or labels[0] is None or made.problem(labels[0], CONTENT) is None):
        assert combined.label == labels[0]


def test_measures_are_those_of_spans() -> None:
    metrics = {(m.metric, m.label): m.value for m in task().measure([label(EMMA, YORK)], [label(EMMA)])}
    assert metrics["f1", ""] == pytest.approx(2 / 3)
    assert metrics["f1", "location"] == 0.0
    assert next(iter(metrics)) == (task().headline, "")
