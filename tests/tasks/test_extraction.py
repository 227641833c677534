"""Fields of a user's schema: asked for strictly, read as the schema was meant, voted on one by one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from annotation_pipelines.content import Content
from annotation_pipelines.tasks.base import STATES, Annotation, Invalid, Vote
from annotation_pipelines.tasks.extraction import Extraction, ExtractionTask

TEXT = Content.of_text("Emma, 34, lives in Kiel.")

CONTACT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "description": "the full name", "minLength": 1},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "kind": {"enum": ["private", "business"]},
        "emails": {"type": "array", "items": {"type": "string", "format": "email"}, "maxItems": 3},
        "address": {"$ref": "#/$defs/address"},
        "note": {"anyOf": [{"type": "string"}, {"type": "number"}]},
    },
    "required": ["name"],
    "$defs": {
        "address": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "zip": {"type": ["string", "null"]}},
            "required": ["city"],
        }
    },
}


def task(schema: dict[str, Any] | None = None, **more: Any) -> ExtractionTask:
    return Extraction.model_validate({"schema": schema or CONTACT, **more}).make()


def read(value: object, schema: dict[str, Any] | None = None) -> Annotation:
    return task(schema).parse(json.dumps({"extracted": value}), TEXT)


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    """Every schema within one."""
    if isinstance(schema, dict):
        yield schema
        for each in schema.values():
            yield from objects(each)
    elif isinstance(schema, list):
        for each in schema:
            yield from objects(each)


def test_what_is_sent_is_strict_whatever_was_written() -> None:
    sent = task().schema(confidence=True)
    assert sent["required"] == ["extracted", "confidence"]
    for schema in objects(sent):
        if "properties" in schema and isinstance(schema.get("type"), str | list):
            assert schema["required"] == list(schema["properties"])
            assert schema["additionalProperties"] is False
    text = json.dumps(sent)
    assert not [
        word for word in ('"minimum"', '"minLength"', '"format"', '"maxItems"', "$ref", "$defs") if word in text
    ]


def test_what_is_optional_may_be_null_and_what_is_required_may_not() -> None:
    fields = task().fields()["extracted"]["properties"]
    assert fields["name"]["type"] == "string"
    assert fields["age"]["type"] == ["integer", "null"]
    assert fields["kind"] == {"type": ["string", "null"], "enum": ["private", "business", None]}
    assert fields["note"]["anyOf"][-1] == {"type": "null"}
    assert fields["address"]["type"] == ["object", "null"]
    assert fields["address"]["properties"]["city"]["type"] == "string"


def test_keywords_that_are_not_sent_are_said_in_words() -> None:
    fields = task().fields()["extracted"]["properties"]
    assert fields["name"]["description"] == "the full name (minLength: 1)"
    assert fields["age"]["description"] == "(minimum: 0, maximum: 150)"


def test_an_object_is_read_without_the_nulls_that_say_nothing() -> None:
    everything = {"name": "Emma", "age": 34.0, "kind": None, "emails": [], "address": None, "note": None}
    assert read(everything).label == '{"age":34,"emails":[],"name":"Emma"}'
    nested = {"name": "Emma", "address": {"zip": None, "city": "Kiel"}}
    assert read(nested).label == '{"address":{"city":"Kiel"},"name":"Emma"}'


SHAPES: dict[str, Any] = {
    "type": "object",
    "properties": {
        "shape": {
            "anyOf": [
                {
                    "type": "object",
                    "properties": {"kind": {"const": "circle"}, "radius": {"type": "number"}, "at": {"type": "string"}},
                    "required": ["kind", "radius"],
                },
                {
                    "type": "object",
                    "properties": {"kind": {"const": "dot"}, "radius": {"type": "null"}, "at": {"type": "string"}},
                    "required": ["kind"],
                },
                {
                    "type": "array",
                    "items": {"type": "object", "properties": {"x": {"type": "integer"}, "y": {"type": "integer"}}},
                },
            ]
        }
    },
    "required": ["shape"],
}


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ({"kind": "circle", "radius": 2.0, "at": None}, {"kind": "circle", "radius": 2}),
        ({"kind": "dot", "radius": None, "at": "here"}, {"kind": "dot", "at": "here"}),
        ([{"x": 1, "y": None}, {"x": None, "y": None}], [{"x": 1}, {}]),
    ],
)
def test_of_several_shapes_the_one_that_was_given_says_what_is_optional(sent: object, kept: object) -> None:
    from jsonschema import Draft202012Validator

    made = task(SHAPES)
    answer = {"extracted": {"shape": sent}}
    Draft202012Validator(made.schema(confidence=False)).validate(answer)
    label = made.value(answer, TEXT)
    assert json.loads(label) == {"shape": kept}
    assert made.written(label, TEXT) == answer


def test_a_required_null_says_something() -> None:
    schema = {"type": "object", "properties": {"a": {"type": ["string", "null"]}}, "required": ["a"]}
    assert read({"a": None}, schema).label == '{"a":null}'


def test_the_order_of_fields_says_nothing_and_an_object_stands_bare_too() -> None:
    reply = '{"age": 34, "name": "Emma", "confidence": 0.9}'
    assert task().parse(reply, TEXT).label == read({"name": "Emma", "age": 34}).label
    assert task().parse(reply, TEXT).confidence == 0.9


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"name": "Emma", "age": 200}, "age: 200 is greater than the maximum"),
        ({"name": "Emma", "age": "34"}, "age: '34' is not of type 'integer'"),
        ({"name": "Emma", "age": True}, "age: True is not of type 'integer'"),
        ({"name": "Emma", "age": float("nan")}, "age: nan is not of type"),
        ({"name": ""}, "name: '' should be non-empty"),
        ({"name": None}, "name: None is not of type 'string'"),
        ({"name": "Emma", "kind": "other"}, "kind: 'other' is not one of"),
        ({"name": "Emma", "emails": ["a@b.c", "nobody"]}, "emails[1]: 'nobody' is not a 'email'"),
        ({"name": "Emma", "emails": ["a@b.c"] * 4}, "emails: "),
        ({"name": "Emma", "address": {"zip": "1"}}, "address: 'city' is a required property"),
        ({"name": "Emma", "address": {"city": "Kiel", "x": 1}}, "address: Additional properties are not allowed"),
        ({"name": "Emma", "x": 1}, "the object: Additional properties"),
        ({"name": "\ud800"}, "half of a character"),
        ({"name": "Emma", "note": float("inf")}, "cannot write"),
        ({"age": None, "note": None}, "the object: 'name' is a required property"),
        ([], "is not of type 'object'"),
        (None, "is not of type 'object'"),
        ("Emma", "is not of type 'object'"),
    ],
)
def test_what_does_not_follow_the_schema_is_invalid_and_says_where(value: object, reason: str) -> None:
    annotation = read(value)
    assert annotation.state == "invalid"
    assert annotation.problem
    assert reason in annotation.problem
    assert len(annotation.problem) < 300
    annotation.problem.encode()


def test_an_answer_without_any_field_is_invalid() -> None:
    assert "no extracted" in (task().parse('{"person": "Emma"}', TEXT).problem or "")


def schema_with(**changes: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": changes}}


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({}, "expected a type"),
        ({"type": "string"}, "type: object with properties"),
        ({"type": "object"}, "schema: expected properties"),
        ({"type": "object", "properties": {}}, "schema: expected properties"),
        (schema_with(type="text"), "schema.properties.a.type: expected one of string, number, .* found 'text'"),
        (schema_with(type="string", minLength="x"), "schema.properties.a.minLength: 'x' is not of type 'integer'"),
        (schema_with(type="string", pattern="("), "schema.properties.a.pattern: not a regular expression"),
        (schema_with(description="any"), "schema.properties.a: expected a type"),
        (schema_with(type="array"), "schema.properties.a: expected items"),
        (schema_with(type="object"), "schema.properties.a: expected properties"),
        (schema_with(type="object", additionalProperties=True), "open objects"),
        (schema_with(type="array", prefixItems=[{"type": "string"}]), "prefixItems cannot be asked for"),
        (schema_with(type="string", minlength=3), "unknown keyword 'minlength'"),
        (schema_with(**{"$ref": "#/$defs/x"}), "'#/\\$defs/x' is not in the schema"),
        (schema_with(**{"$ref": "https://example.com"}), 'expected "#/\\$defs/NAME"'),
        (schema_with(**{"$ref": "#"}), 'expected "#/\\$defs/NAME"'),
        (schema_with(**{"$ref": "#/properties/a"}), "refers to itself"),
        (schema_with(type="string", allOf=[{"$ref": "#/$defs/x"}]), "within allOf"),
        ({**schema_with(type="string"), "required": ["b"]}, "schema.required: 'b' is not among the properties"),
        (schema_with(type="string", enum=[object()]), "what JSON can say"),
    ],
)
def test_a_schema_that_cannot_be_asked_for_is_refused_with_its_path(schema: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Extraction.model_validate({"schema": schema})


def test_fields_to_compare_are_those_of_the_schema() -> None:
    with pytest.raises(ValidationError, match="compare: expected fields of the schema"):
        Extraction.model_validate({"schema": CONTACT, "compare": {"phone": "fuzzy"}})


def test_conditions_are_checked_though_they_are_not_sent() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
        "dependentRequired": {"a": ["b"]},
    }
    assert "dependentRequired" not in json.dumps(task(schema).fields())
    assert read({"b": "x"}, schema).label == '{"b":"x"}'
    assert "'b' is a dependency of 'a'" in (read({"a": "x", "b": None}, schema).problem or "")


def test_gold_is_read_and_shown_back_in_full() -> None:
    made = task()
    label = made.canonical('{"name": "Emma", "address": {"city": "Kiel"}}', TEXT)
    written = made.written(label, TEXT)["extracted"]
    assert written["address"] == {"city": "Kiel", "zip": None}
    assert written["age"] is None
    assert made.value({"extracted": written}, TEXT) == label
    assert made.shown(label) == 'name: Emma; address: {"city":"Kiel"}'
    with pytest.raises(Invalid, match="JSON object"):
        made.canonical("Emma", TEXT)


def votes(*objects: dict[str, Any], weights: tuple[float, ...] | None = None) -> list[Vote]:
    return [
        Vote(Annotation("labelled", read(each).label), weight)
        for each, weight in zip(objects, weights or (1.0,) * len(objects), strict=True)
    ]


def test_each_field_is_voted_on_and_absence_is_a_vote() -> None:
    combined = task().combine(
        votes({"name": "Emma", "age": 34}, {"name": "Emma Li", "age": 34}, {"name": "Emma", "kind": "private"})
    )
    assert combined.label == '{"age":34,"name":"Emma"}'
    assert combined.scores is not None
    assert combined.scores["name"] == pytest.approx(2 / 3)
    assert combined.scores["address"] == 1
    assert combined.confidence == pytest.approx((2 / 3 * 3 + 3) / 6)


def test_nested_objects_and_lists_are_compared_as_values() -> None:
    one, other = {"city": "Kiel", "zip": "1"}, {"city": "Kiel"}
    combined = task().combine(
        votes(
            {"name": "E", "address": one, "emails": ["a@b.c", "d@e.f"]},
            {"name": "E", "address": other, "emails": ["a@b.c"]},
            {"name": "E", "address": one, "emails": ["a@b.c"]},
        )
    )
    assert json.loads(combined.label or "") == {"name": "E", "address": one, "emails": ["a@b.c"]}


def test_fields_that_do_not_fit_together_give_way_to_a_whole_object() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}, "c": {"type": "integer"}},
        "dependentRequired": {"a": ["b"]},
    }
    given_objects = ({"a": 1, "b": 1}, {"a": 1, "b": 2}, {"c": 1}, {"c": 1})
    labels = [read(each, schema).label for each in given_objects]
    weighed = [
        Vote(Annotation("labelled", label), weight) for label, weight in zip(labels, (2, 2, 1.5, 1), strict=True)
    ]
    combined = task(schema).combine(weighed)
    assert combined.label in labels


def test_every_combination_of_votes_is_a_valid_object() -> None:
    made = task()
    combined = made.combine(votes({"name": "A", "age": 3}, {"name": "B"}, weights=(1, 1)))
    assert made.problem(combined.label or "", TEXT) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from([*CONTACT["properties"], "city", "x"]), inner),
    max_leaves=10,
)


@settings(max_examples=150)
@given(json_values)
def test_no_json_makes_the_parser_fail(value: object) -> None:
    made = task()
    for given_value in (value, {"extracted": value}, {"extracted": {"name": "Emma", "note": value}}):
        annotation = made.parse(json.dumps(given_value), TEXT)
        assert annotation.state in STATES
        assert (annotation.label is None) == (annotation.problem is not None)
        (annotation.problem or "").encode()
        if annotation.label is not None:
            annotation.label.encode()
            assert made.problem(annotation.label, TEXT) is None


@settings(max_examples=100)
@given(
    st.fixed_dictionaries(
        {"name": st.text(st.characters(exclude_categories=["Cs"]), min_size=1)},
        optional={
            "age": st.integers(0, 150),
            "kind": st.sampled_from(["private", "business"]),
            "emails": st.lists(st.emails(), max_size=3),
            "address": st.fixed_dictionaries({"city": st.text(st.characters(exclude_categories=["Cs"]))}),
            "note": st.text(st.characters(exclude_categories=["Cs"]))
            | st.floats(allow_nan=False, allow_infinity=False),
        },
    )
)
def test_every_object_of_the_schema_comes_back_from_what_is_sent(value: dict[str, Any]) -> None:
    """What a demonstration shows follows the strict schema, and reads as the object that it was made of."""
    from jsonschema import Draft202012Validator

    made = task()
    label = made.canonical(json.dumps(value), TEXT)
    written = made.written(label, TEXT)
    Draft202012Validator(made.schema(confidence=False)).validate(written)
    assert made.value(written, TEXT) == label


@given(st.text(st.characters(), max_size=80))
def test_no_text_makes_the_parser_or_gold_fail(text: str) -> None:
    assert task().parse(text, TEXT).state in STATES
    try:
        task().canonical(text, TEXT)
    except Invalid as problem:
        str(problem).encode()
