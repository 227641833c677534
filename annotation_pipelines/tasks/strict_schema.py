"""A JSON schema that a user writes, in the strict form that endpoints take, and objects that follow it.

Strict structured output asks more of a schema than JSON Schema does: every property of an object is required, no others
are allowed, and many keywords are unknown. So what was optional becomes nullable, and what a keyword would have said is
said in the description. A reply is then read as the user meant it: null where a property is optional is no property,
and the schema as written decides what is valid (JSON Schema draft 2020-12, by the package jsonschema).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from annotation_pipelines.tasks.base import Invalid, canonical_json
from annotation_pipelines.tasks.json_answer import shown

if TYPE_CHECKING:
    from jsonschema import Draft202012Validator

Schema = dict[str, Any]

_TYPES = ("string", "number", "integer", "boolean", "null", "object", "array")

_SAID = (
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "pattern",
    "format",
    "minItems",
    "maxItems",
    "uniqueItems",
    "examples",
)
"""Keywords that are left out of what is sent, said in the description in its place, and checked afterwards."""

_CHECKED = ("allOf", "not", "if", "then", "else", "dependentRequired", "contains", "minContains", "maxContains")
"""Keywords that are left out of what is sent, and checked afterwards."""

_KEPT = ("type", "properties", "required", "items", "enum", "const", "anyOf", "oneOf", "$ref", "description", "title")

_IGNORED = ("$schema", "$id", "$comment", "$defs", "definitions", "default", "deprecated", "additionalProperties")

_OPEN = ("patternProperties", "propertyNames", "minProperties", "maxProperties", "unevaluatedProperties")

_LARGEST = 2**53
"""Up to it every whole number is a float of its own."""

_DEEPEST = 32


class StrictSchema:
    """The schema of an object, as the user wrote it and as it is sent.

    Args:
        written: The JSON schema; its type is object.

    Raises:
        ValueError: It is no valid schema, or cannot be asked for strictly; the message names the path.
    """

    def __init__(self, written: Mapping[str, Any]) -> None:
        self._defs: Schema = {}
        self._plain: Schema = _jsonlike(written)
        _check_written(self._plain)
        self.resolved: Schema = self._resolve(self._plain, "schema", ())
        if self.resolved.get("type") != "object" or not self.resolved.get("properties"):
            raise ValueError("schema: expected type: object with properties, found another")
        self.sent: Schema = _sent(self.resolved)

    @property
    def properties(self) -> Mapping[str, Schema]:
        """The fields, by name, each as the user wrote it, references replaced by what they name."""
        properties: dict[str, Schema] = self.resolved["properties"]
        return properties

    @property
    def required(self) -> Sequence[str]:
        """The fields that every object has."""
        required: list[str] = self.resolved.get("required", [])
        return required

    def read(self, given: object) -> str:
        """An object that follows the schema as canonical JSON, without the nulls that stand for no property.

        Whole numbers are written as such: 1.0 is 1.

        Raises:
            Invalid: It does not follow the schema; the message names the path.
        """
        try:
            found = _settled(given, self.resolved)
            for error in self._validator.iter_errors(found):
                raise Invalid(_explained(error))
            label = canonical_json(found)
            label.encode()
        except RecursionError:
            raise Invalid("it is nested too deeply") from None
        except UnicodeEncodeError:
            raise Invalid("a text holds half of a character (a lone surrogate)") from None
        except (ValueError, OverflowError) as error:
            if isinstance(error, Invalid):
                raise
            raise Invalid("it holds a number that JSON cannot write, such as NaN") from None
        return label

    def filled(self, found: Mapping[str, Any]) -> Schema:
        """An object that follows the schema, with null for every property that it lacks: it follows what is sent."""
        filled: Schema = _filled(found, self.resolved)
        return filled

    @cached_property
    def _validator(self) -> Draft202012Validator:
        from jsonschema import Draft202012Validator

        return Draft202012Validator(self.resolved, format_checker=Draft202012Validator.FORMAT_CHECKER)

    def _resolve(self, schema: object, path: str, within: tuple[str, ...]) -> Schema:
        """A schema without references, checked for what cannot be asked for."""
        if not isinstance(schema, dict):
            raise ValueError(f"{path}: expected a schema with a type, found {shown(schema)}")
        if len(within) > _DEEPEST or path.count(".") > _DEEPEST:
            raise ValueError(f"{path}: the schema is nested too deeply")
        if "$ref" in schema:
            return self._referred(schema, path, within)
        for key in schema:
            if key in _OPEN or key == "prefixItems":
                raise ValueError(f"{path}: {key} cannot be asked for: list the properties, or write a list of objects")
            if key not in (*_KEPT, *_SAID, *_CHECKED, *_IGNORED):
                raise ValueError(f"{path}: unknown keyword {shown(key)}")
        for key in _CHECKED:
            if key in schema and _refers(schema[key]):
                raise ValueError(f"{path}.{key}: $ref cannot be used within {key}: write out what it names")
        if schema.get("additionalProperties", False) is not False:
            raise ValueError(
                f"{path}.additionalProperties: open objects cannot be asked for: list the properties, or write a list "
                "of objects with a name and a value"
            )
        found = {key: value for key, value in schema.items() if key not in _IGNORED}
        for key in ("anyOf", "oneOf"):
            if key in found:
                found[key] = [self._resolve(each, f"{path}.{key}[{i}]", within) for i, each in enumerate(found[key])]
        if not {"type", "enum", "const", "anyOf", "oneOf"} & found.keys():
            raise ValueError(f"{path}: expected a type, found {', '.join(found) or 'nothing'}")
        types = _types(found)
        if "object" in types:
            self._resolve_object(found, path, within)
        if "array" in types:
            if "items" not in found:
                raise ValueError(f"{path}: expected items: what the list holds, found none")
            found["items"] = self._resolve(found["items"], f"{path}.items", within)
        return found

    def _resolve_object(self, found: Schema, path: str, within: tuple[str, ...]) -> None:
        properties = found.get("properties")
        if not properties:
            raise ValueError(f"{path}: expected properties, found none: an object without any cannot be asked for")
        found["properties"] = {
            name: self._resolve(each, f"{path}.properties.{name}", within) for name, each in properties.items()
        }
        if unknown := [name for name in found.get("required", []) if name not in properties]:
            raise ValueError(f"{path}.required: {shown(unknown[0])} is not among the properties")
        found["additionalProperties"] = False

    def _referred(self, schema: Schema, path: str, within: tuple[str, ...]) -> Schema:
        name = schema["$ref"]
        steps = name.split("/") if isinstance(name, str) else []
        if steps[:1] != ["#"] or len(steps) < 2:
            raise ValueError(f'{path}.$ref: expected "#/$defs/NAME", found {shown(name)}')
        if name in within:
            raise ValueError(f"{path}.$ref: {shown(name)} refers to itself: write out as many levels as are needed")
        target: Any = self._plain
        for step in steps[1:]:
            step = step.replace("~1", "/").replace("~0", "~")
            if not isinstance(target, dict) or step not in target:
                raise ValueError(f"{path}.$ref: {shown(name)} is not in the schema")
            target = target[step]
        if not isinstance(target, dict):
            raise ValueError(f"{path}.$ref: {shown(name)} is no schema")
        beside = {key: value for key, value in schema.items() if key != "$ref"}
        return self._resolve({**target, **beside}, path, (*within, name))


def _jsonlike(written: object) -> Schema:
    """A copy in which everything is JSON; YAML knows dates and keys that are no text."""
    try:
        copy: Schema = json.loads(json.dumps(written, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"schema: expected what JSON can say ({error}): write dates and the like in quotes") from None
    return copy


def _check_written(schema: Schema) -> None:
    """Refuse what is no JSON schema."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    validator = Draft202012Validator(Draft202012Validator.META_SCHEMA)
    error = best_match(validator.iter_errors(schema))
    if error is not None and error.absolute_path and error.absolute_path[-1] == "type":
        expected = f"expected one of {', '.join(_TYPES)}, found {shown(error.instance)}"
        raise ValueError(f"{_path('schema', error.absolute_path)}: {expected}")
    if error is not None:
        raise ValueError(f"{_path('schema', error.absolute_path)}: {_short(error.message)}")
    for path, pattern in _patterns(schema, "schema"):
        try:
            re.compile(pattern)
        except (re.error, RecursionError, OverflowError) as problem:
            raise ValueError(f"{path}: not a regular expression ({problem})") from None


def _patterns(schema: object, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(schema, dict):
        for key, value in schema.items():
            if key == "pattern" and isinstance(value, str):
                yield f"{path}.pattern", value
            yield from _patterns(value, f"{path}.{key}")
    elif isinstance(schema, list):
        for index, each in enumerate(schema):
            yield from _patterns(each, f"{path}[{index}]")


def _refers(schema: object) -> bool:
    """Whether a $ref is anywhere in it."""
    if isinstance(schema, dict):
        return "$ref" in schema or any(_refers(each) for each in schema.values())
    return isinstance(schema, list) and any(_refers(each) for each in schema)


def _types(schema: Schema) -> list[str]:
    given = schema.get("type", [])
    return [given] if isinstance(given, str) else list(given)


def _sent(schema: Schema) -> Schema:
    """A resolved schema in strict form."""
    sent: Schema = {}
    words = [schema["description"]] if "description" in schema else []
    limits = [f"{key}: {_quoted(schema[key])}" for key in _SAID if key in schema]
    if limits:
        words.append(f"({', '.join(limits)})")
    if words:
        sent["description"] = " ".join(words)
    if "type" in schema:
        sent["type"] = schema["type"]
    if "enum" in schema:
        sent["enum"] = schema["enum"]
    elif "const" in schema:
        sent["enum"] = [schema["const"]]
    if "enum" in sent and "type" not in sent:
        sent["type"] = _types_of(sent["enum"])
    if any_of := schema.get("anyOf") or schema.get("oneOf"):
        sent["anyOf"] = [_sent(each) for each in any_of]
    if "items" in schema:
        sent["items"] = _sent(schema["items"])
    if "properties" in schema:
        required = schema.get("required", [])
        sent["properties"] = {
            name: _sent(each) if name in required else _nullable(_sent(each))
            for name, each in schema["properties"].items()
        }
        sent["required"] = list(sent["properties"])
        sent["additionalProperties"] = False
    return sent


def _nullable(sent: Schema) -> Schema:
    """The strict schema that also allows null."""
    if "anyOf" in sent and "type" not in sent:
        if any("null" in _types(each) for each in sent["anyOf"]):
            return sent
        return {**sent, "anyOf": [*sent["anyOf"], {"type": "null"}]}
    types = _types(sent)
    if "null" in types:
        return sent
    nullable = {**sent, "type": [*types, "null"]}
    if "enum" in sent:
        nullable["enum"] = [*sent["enum"], None]
    return nullable


def _types_of(values: Sequence[object]) -> str | list[str]:
    """The JSON types of some values."""
    found = []
    for value in values:
        name = {
            str: "string",
            bool: "boolean",
            int: "integer",
            float: "number",
            type(None): "null",
            dict: "object",
        }.get(type(value), "array")
        if name not in found:
            found.append(name)
    return found[0] if len(found) == 1 else found


def _settled(value: Any, schema: Schema | None) -> Any:
    """A value with whole numbers as such, and without the nulls of optional properties."""
    if isinstance(value, float):
        return int(value) if math.isfinite(value) and value.is_integer() and abs(value) <= _LARGEST else value
    if isinstance(value, list):
        items = _meant(value, schema).get("items")
        return [_settled(each, items) for each in value]
    if isinstance(value, dict):
        schema = _meant(value, schema)
        properties, required = schema.get("properties", {}), schema.get("required", [])
        return {
            name: _settled(each, properties.get(name))
            for name, each in value.items()
            if each is not None or name in required or name not in properties
        }
    return value


def _filled(value: Any, schema: Schema) -> Any:
    """A value with null for every property that an object in it lacks."""
    meant = _meant(value, schema)
    if isinstance(value, list):
        return [_filled(each, meant.get("items", {})) for each in value]
    if isinstance(value, dict) and "properties" in meant:
        return {
            name: _filled(value[name], each) if name in value else None for name, each in meant["properties"].items()
        }
    return value


def _meant(value: object, schema: Schema | None) -> Schema:
    """Of a schema's alternatives the one that an object or a list means; an empty one if it cannot be told.

    Of several kinds of objects it is the first whose outline the object follows: it has the required properties and no
    unknown ones, and where a property has a closed set of values, the object's is one of them.
    """
    if not isinstance(value, dict | list):
        return {}
    key = "properties" if isinstance(value, dict) else "items"
    found = [each for each in _alternatives(schema or {}) if key in each]
    if isinstance(value, dict) and len(found) > 1:
        found = [each for each in found if _outlined(value, each)]
    return found[0] if found else {}


def _outlined(value: Mapping[str, Any], schema: Schema) -> bool:
    properties, required = schema["properties"], schema.get("required", [])
    return (
        all(name in properties for name in value)
        and all(name in value for name in required)
        and all(_closed(each, properties[name], name in required) for name, each in value.items())
    )


def _alternatives(schema: Schema) -> Iterator[Schema]:
    yield schema
    for each in schema.get("anyOf") or schema.get("oneOf") or []:
        yield from _alternatives(each)


def _closed(value: object, schema: Schema, required: bool) -> bool:
    """Whether a value may be that of a property, as far as its closed set of values tells."""
    if value is None and not required:
        return True
    if "const" in schema:
        return bool(value == schema["const"])
    return "enum" not in schema or value in schema["enum"]


def _explained(error: Any) -> str:
    return f"{_path('', error.absolute_path) or 'the object'}: {_short(error.message)}"


def _path(head: str, steps: Any) -> str:
    path = head
    for step in steps:
        path += f"[{step}]" if isinstance(step, int) else f"{'.' if path else ''}{shown(step, 40).strip(chr(39))}"
    return path


def _short(message: str) -> str:
    message = message.encode("ascii" if not message.isprintable() else "utf-8", "backslashreplace").decode()
    return message if len(message) <= 200 else message[:99] + " … " + message[-99:]


def _quoted(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
