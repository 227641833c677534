"""Any schema that is taken is sent in strict form, and objects go both ways between the two."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from annotation_pipelines.tasks.strict_schema import StrictSchema

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=4)
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)


@st.composite
def shapes(draw: st.DrawFn, depth: int = 0) -> tuple[dict[str, Any], st.SearchStrategy[Any]]:
    """A schema, and what follows it."""
    kinds = ["string", "integer", "number", "boolean", "enum", "nullable"]
    kind = draw(st.sampled_from(kinds + ["array", "object", "either"] * (depth < 2)))
    match kind:
        case "string":
            return {"type": "string", "maxLength": 5}, WORDS
        case "integer":
            return {"type": "integer", "minimum": -9, "maximum": 9}, st.integers(-9, 9)
        case "number":
            return {"type": "number"}, st.floats(allow_nan=False, allow_infinity=False)
        case "boolean":
            return {"type": "boolean"}, st.booleans()
        case "enum":
            values = draw(st.lists(WORDS, min_size=1, max_size=3, unique=True))
            return {"enum": values}, st.sampled_from(values)
        case "nullable":
            return {"type": ["string", "null"]}, st.none() | WORDS
        case "array":
            items, inner = draw(shapes(depth + 1))
            return {"type": "array", "items": items}, st.lists(inner, max_size=3)
        case "either":
            items, inner = draw(shapes(2))
            return {"anyOf": [{"type": "array", "items": items}, {"type": "integer"}]}, st.lists(
                inner, max_size=2
            ) | st.integers(0, 9)
    return draw(objects(depth + 1))


@st.composite
def objects(draw: st.DrawFn, depth: int = 0) -> tuple[dict[str, Any], st.SearchStrategy[Any]]:
    """A schema of an object, and what follows it."""
    names = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    inner = {name: draw(shapes(depth)) for name in names}
    required = draw(st.lists(st.sampled_from(names), unique=True))
    schema = {"type": "object", "properties": {name: each for name, (each, _) in inner.items()}, "required": required}
    values = {name: value for name, (_, value) in inner.items()}
    return schema, st.fixed_dictionaries(
        {name: values[name] for name in required},
        optional={name: values[name] for name in names if name not in required},
    )


def every(schema: object) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        yield schema
        inner = [*schema.get("properties", {}).values(), *schema.get("anyOf", []), *[schema.get("items")]]
        for each in inner:
            yield from every(each)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_what_follows_a_schema_follows_it_in_strict_form_and_comes_back(data: st.DataObject) -> None:
    written, values = data.draw(objects())
    strict = StrictSchema(written)
    Draft202012Validator.check_schema(strict.sent)
    for schema in every(strict.sent):
        assert schema.keys() <= {"type", "properties", "required", "additionalProperties", "items", "enum", "anyOf"} | {
            "description"
        }
        if "properties" in schema:
            assert schema["required"] == list(schema["properties"])
            assert schema["additionalProperties"] is False
    label = strict.read(data.draw(values))
    filled = strict.filled(json.loads(label))
    Draft202012Validator(strict.sent).validate(filled)
    assert strict.read(filled) == label
    assert strict.read(json.loads(label)) == label
