"""Relations that are to be found: their places in the text, and what is made of a reply."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotation_pipelines.content import Content
from annotation_pipelines.tasks.base import STATES, Annotation, Invalid, Vote
from annotation_pipelines.tasks.found_relations import FoundRelationsTask
from annotation_pipelines.tasks.relations import Relations

TYPES = {"works for": "{head} is employed by {tail}", "based in": "{head} has its seat in {tail}"}
TEXT = "Emma works for Acme in Berlin. Paul left Acme; Acme is based in Berlin."
NEWS = Content.of_text(TEXT)
EMMA, ACME, BERLIN, SECOND_ACME = (0, 4), (15, 19), (23, 29), (41, 45)


def task(**changes: Any) -> FoundRelationsTask:
    made = Relations(**{"types": TYPES, "pairs": "found", **changes}).make()
    assert isinstance(made, FoundRelationsTask)
    return made


def mention(span: tuple[int, int], type_: str | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {"start": span[0], "end": span[1], "text": TEXT[slice(*span)]}
    return found if type_ is None else {**found, "type": type_}


def canonical(*relations: tuple[str, tuple[int, int], tuple[int, int]]) -> str:
    listed = [{"head": mention(head), "tail": mention(tail), "type": name} for name, head, tail in relations]
    return json.dumps(listed, separators=(",", ":"), sort_keys=True)


def reply(*relations: dict[str, Any]) -> str:
    return json.dumps({"relations": list(relations)})


def relation(type_: object, head: object, tail: object, **more: object) -> dict[str, Any]:
    return {"type": type_, "head": head, "head_occurrence": 1, "tail": tail, "tail_occurrence": 1, **more}


def test_relations_are_placed_sorted_and_listed_once() -> None:
    said = reply(
        relation("Based In", "Acme", "Berlin", head_occurrence=2),
        relation("works for", "emma", "Acme"),
        relation("works for", "Emma", "Acme"),
    )
    annotation = task().parse(said, NEWS)
    assert annotation.label == canonical(("works for", EMMA, ACME), ("based in", SECOND_ACME, BERLIN))
    assert task().named(annotation.label or "") == ["works for", "based in"]
    assert task().shown(annotation.label or "") == "works for: Emma -> Acme; based in: Acme -> Berlin"


def test_nothing_and_the_null_class_are_no_relation() -> None:
    assert task().parse('{"relations": []}', NEWS).label == "[]"
    assert task().parse(reply(relation("Other", "Emma", "Berlin")), NEWS).label == "[]"
    assert task().shown("[]") == "(none)"


def test_without_direction_the_mention_that_comes_first_is_the_head() -> None:
    both = [
        task(directed=False).parse(reply(relation("works for", *pair)), NEWS).label
        for pair in (("Emma", "Acme"), ("Acme", "Emma"))
    ]
    assert both == [canonical(("works for", EMMA, ACME))] * 2
    assert task().parse(reply(relation("works for", "Acme", "Emma")), NEWS).label == canonical(
        ("works for", ACME, EMMA)
    )


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ('{"triples": []}', "no relations"),
        ('{"relations": {}}', "expected a list"),
        (reply(relation("works for", "Emma", "Globex")), "the tail of relation 1 is not in the text"),
        (reply(relation("works for", "Emma", "Acme", tail_occurrence=4)), "occurrence 4"),
        (reply(relation("works for", "Emma", "Acme", tail_occurrence="many")), "number of an occurrence"),
        (reply(relation("works for", "Emma", "Acme", tail_occurrence=1.5)), "number of an occurrence"),
        (reply(relation("works for", "Emma", "Emma")), "works for leads from 'Emma' to itself"),
        (reply(relation("married to", "Emma", "Acme")), "'married to' is not in the set"),
        (reply({"type": "works for", "head": "Emma"}), "no tail"),
        (reply(relation("works for", 3, "Acme")), "the head of relation 1: expected its text"),
        (reply(relation("works for", {"start": 0, "end": 4}, "Acme")), "expected its text"),
        (reply(relation(None, "Emma", "Acme")), "None is not in the set"),
        ('{"relations": ["Emma works for Acme"]}', "expected type, head and tail"),
        ('{"relations": [' * 3_000, "cut off"),
    ],
)
def test_what_cannot_be_placed_is_invalid_and_says_why(said: str, reason: str) -> None:
    annotation = task().parse(said, NEWS)
    assert annotation.state == "invalid"
    assert reason in (annotation.problem or "")
    assert len(annotation.problem or "") < 300


def test_mentions_may_have_types() -> None:
    made = task(entity_types={"person": "", "company": "", "city": ""})
    said = relation("works for", "Emma", "Acme", head_type="Person", tail_type="company")
    label = made.parse(reply(said), NEWS).label
    assert label is not None
    assert json.loads(label)[0]["head"] == mention(EMMA, "person")
    assert "types" in made.instructions() and '"city"' in made.instructions()
    assert json.loads(json.dumps(made.written(label, NEWS))) == {
        "relations": [relation("works for", "Emma", "Acme", head_type="person", tail_type="company")]
    }
    untyped = made.parse(reply(relation("works for", "Emma", "Acme")), NEWS)
    assert "the type None is not in the set" in (untyped.problem or "")
    contradicted = made.parse(reply(said, {**said, "tail_type": "city"}), NEWS)
    assert "different types" in (contradicted.problem or "")


@pytest.mark.parametrize("directed", [True, False])
def test_a_demonstration_satisfies_the_schema_and_is_read_back(directed: bool) -> None:
    made = task(directed=directed)
    label = canonical(("works for", EMMA, ACME), ("based in", BERLIN, SECOND_ACME))
    answer = made.answer(label, NEWS, confidence=True)
    schema = made.schema(confidence=True)
    assert list(answer) == schema["required"]
    properties = schema["properties"]["relations"]["items"]
    assert all(list(entry) == properties["required"] for entry in answer["relations"])
    assert properties["additionalProperties"] is False
    assert [entry.get("tail_occurrence") for entry in answer["relations"]] == [1, 2]
    assert made.parse(json.dumps(answer), NEWS).label == label
    assert made.problem(label, NEWS) is None


def test_people_s_relations_may_have_offsets_or_words() -> None:
    expected = canonical(("works for", EMMA, ACME))
    head, tail = {"start": 0, "end": 4}, {"start": 15, "end": 19, "text": "Acme"}
    for given_ in (
        [{"type": "works for", "head": head, "tail": tail}],
        [{"type": "works for", "head": "Emma", "tail": {"text": "Acme", "occurrence": 1}}],
        {"relations": [relation("works for", "Emma", "Acme")]},
    ):
        assert task().canonical(json.dumps(given_), NEWS) == expected


@pytest.mark.parametrize(
    ("given_", "reason"),
    [
        ("works for", "JSON list"),
        ("3", "JSON list"),
        ('[{"type": "works for", "head": {"start": 0, "end": 5, "text": "Emma"}, "tail": "Acme"}]', "another there"),
        ('[{"type": "works for", "head": {"start": 0, "end": 500}, "tail": "Acme"}]', "length of the text"),
        ('[{"type": "works for", "head": {"start": true, "end": 4}, "tail": "Acme"}]', "in code points"),
        ('[{"type": "works for", "head": {"start": 0}, "tail": "Acme"}]', "in code points"),
    ],
)
def test_people_s_relations_that_are_elsewhere_are_refused(given_: str, reason: str) -> None:
    with pytest.raises(Invalid, match=reason):
        task().canonical(given_, NEWS)


def test_a_label_in_another_form_is_a_problem() -> None:
    label = canonical(("works for", EMMA, ACME))
    assert task().problem(label.replace(",", ", "), NEWS) == "it is not in canonical form"
    assert task().named("agrees") == [] and task().shown("agrees") == "agrees"
    [first, *_] = task().measure([label], ["agrees"])
    assert (first.metric, first.value) == ("micro_f1", 0.0)


def test_offsets_go_by_the_part_that_is_named() -> None:
    content = Content.of_parts({"title": "News", "body": TEXT})
    made = task(part="body")
    assert made.parse(reply(relation("works for", "Emma", "Acme")), content).label == canonical(
        ("works for", EMMA, ACME)
    )
    assert "several parts" in (task().parse('{"relations": []}', content).problem or "")
    made.check(["title", "body"])
    for parts, wrong in ((["title", "body"], task()), (["text"], made)):
        with pytest.raises(Invalid, match="part"):
            wrong.check(parts)


def vote(weight: float, *relations: tuple[str, tuple[int, int], tuple[int, int]]) -> Vote:
    return Vote(Annotation("labelled", canonical(*relations), rationale=f"with {len(relations)}"), weight)


def test_relations_with_half_of_the_weight_stand() -> None:
    works, based = ("works for", EMMA, ACME), ("based in", SECOND_ACME, BERLIN)
    combined = task().combine([vote(1, works, based), vote(1, works), vote(1)])
    assert combined.label == canonical(works)
    assert combined.confidence == pytest.approx((2 / 3 + 2 / 3) / 2)
    assert combined.rationale == "with 1"
    heavier = task().combine([vote(3, works, based), vote(1)])
    assert heavier.label == canonical(works, based)
    assert task().combine([vote(1), vote(1)]).confidence == 1.0
    assert task().combine([vote(1), Vote(Annotation("abstained"), 1)]).confidence == 0.5


def test_a_relation_found_by_all_with_other_types_of_mentions_stands_once() -> None:
    made = task(entity_types=["person", "company"])
    labels = [
        made.parse(reply(relation("works for", "Emma", "Acme", head_type="person", tail_type=tail)), NEWS).label
        for tail in ("company", "person", "company")
    ]
    combined = made.combine([Vote(Annotation("labelled", label)) for label in labels])
    assert (combined.label, combined.confidence) == (labels[0], 1.0)


words = st.sampled_from(["Emma", "acme", "Berlin", "é", "e\u0301", "👩‍👩‍👧", "א", " ", "haha", "ha", "\r\n", "<", "."])
texts = st.lists(words, max_size=10).map("".join)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 9) | st.floats() | texts | st.sampled_from([*TYPES, "Other"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["relations", "type", "head", "tail", "head_occurrence", "tail_occurrence", "start", "end", "text"]
            ),
            inner,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=150)
@given(values, texts, st.booleans())
def test_no_json_about_any_text_makes_the_parser_fail(value: object, text: str, directed: bool) -> None:
    made, content = task(directed=directed), Content.of_text(text)
    for said in (value, {"relations": value}, {"relations": [value]}):
        annotation = made.parse(json.dumps(said), content)
        assert annotation.state in STATES
        (annotation.problem or "").encode()
        if annotation.label is not None:
            assert made.problem(annotation.label, content) is None
        try:
            made.canonical(json.dumps(said), content)
        except Invalid as problem:
            str(problem).encode()


@settings(max_examples=150)
@given(st.data(), st.booleans())
def test_relations_between_any_spans_are_written_and_read_back(data: st.DataObject, directed: bool) -> None:
    text = data.draw(texts.filter(bool))
    spans_ = st.tuples(st.integers(0, len(text)), st.integers(0, len(text))).filter(lambda span: span[0] < span[1])
    listed = data.draw(
        st.lists(st.tuples(st.sampled_from(list(TYPES)), spans_, spans_).filter(lambda r: r[1] != r[2]), max_size=4)
    )
    made, content = task(directed=directed), Content.of_text(text)
    gold = json.dumps(
        [
            {"type": name, "head": {"start": h[0], "end": h[1]}, "tail": {"start": t[0], "end": t[1]}}
            for name, h, t in listed
        ]
    )
    try:
        label = made.canonical(gold, content)
    except Invalid as problem:
        assert "cuts a character" in str(problem)
        return
    assert made.canonical(label, content) == label
    answer = made.answer(label, content, confidence=True)
    assert made.parse(json.dumps(answer), content).label == label
    assert len(made.named(label)) == len(json.loads(label)) <= len(listed)


@settings(max_examples=100)
@given(st.text(st.characters(), max_size=80) | st.text('{}[]":, relationsEmmaAc01', max_size=80))
def test_no_text_makes_the_parser_fail(said: str) -> None:
    annotation = task().parse(said, NEWS)
    assert (annotation.label is not None) == (annotation.state == "labelled")
    assert (annotation.problem is None) == (annotation.state == "labelled")


@given(st.integers(1, 103))
def test_an_answer_that_is_cut_off_is_never_a_label(length: int) -> None:
    whole = reply(relation("works for", "Emma", "Acme"))
    assert task().parse(whole[: min(length, len(whole) - 1)], NEWS).state == "invalid"
    assert task().parse(whole, NEWS).state == "labelled"
