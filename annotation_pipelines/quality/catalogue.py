"""What Great Expectations offers, read from the JSON schemas in its package without importing it.

Importing Great Expectations takes seconds, and a code location must load at once. The schemas name every expectation
with its arguments, so a misspelt one is refused when the declaration is loaded, before any label is paid for. Where a
release ships no schemas, nothing is known here and Great Expectations itself judges at the first validation.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

SCHEMAS = Path("expectations", "core", "schemas")

# Arguments that belong to the validation, not to the declaration.
_NOT_DECLARED = frozenset(
    {
        "id",
        "meta",
        "notes",
        "result_format",
        "catch_exceptions",
        "rendered_content",
        "severity",
        "windows",
        "batch_id",
        "metadata",
        "library_metadata",
    }
)
_PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}


@dataclass(frozen=True)
class Offered:
    """An expectation of Great Expectations.

    Attributes:
        type: Its name, such as expect_column_values_to_be_unique.
        on_pandas: Whether it works on the frames of this package.
        arguments: Argument to its JSON schema; None where the package describes none.
        required: The arguments that must be given.
    """

    type: str
    on_pandas: bool
    arguments: Mapping[str, Mapping[str, Any]] | None = None
    required: tuple[str, ...] = ()

    @property
    def filters_rows(self) -> bool:
        """Whether it can look at some rows only."""
        if self.arguments is None:
            return self.type.startswith("expect_column_values_")
        return "row_condition" in self.arguments


@cache
def offered() -> Mapping[str, Offered]:
    """Every expectation by name; empty where the installed release describes none."""
    spec = find_spec("great_expectations")
    if spec is None or spec.origin is None:
        return {}
    folder = Path(spec.origin).parent / SCHEMAS
    try:
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        found = {name: Offered(name, on_pandas=True) for name in index["documented_absent"]}
        for name, entry in index["expectations"].items():
            schema = json.loads((folder / entry["schema_file"]).read_text(encoding="utf-8"))
            arguments = {k: v for k, v in schema["properties"].items() if k not in _NOT_DECLARED}
            required = tuple(schema.get("required", ()))
            found[name] = Offered(name, "Pandas" in entry["supported_data_sources"], arguments, required)
    except (OSError, ValueError, KeyError):
        return {}
    return found


def problem_with(type: str, kwargs: Mapping[str, Any]) -> str | None:
    """What is wrong with an expectation and its arguments, as far as it can be told without running it."""
    known = offered()
    if not known:
        return None
    usable = sorted(name for name, entry in known.items() if entry.on_pandas)
    if type not in known:
        return f"there is no expectation {type}{did_you_mean(type, usable)}"
    entry = known[type]
    if not entry.on_pandas:
        return f"{type} works on SQL databases only, and a partition is validated as a frame"
    if entry.arguments is None:
        return None
    for name, value in kwargs.items():
        if name not in entry.arguments:
            allowed = sorted(entry.arguments)
            return f"{type} has no argument {name!r}{did_you_mean(name, allowed)}; it has: {', '.join(allowed)}"
        if types := _wrong_type(value, entry.arguments[name]):
            return f"{type}: {name} must be {types}, found {value!r}"
    if missing := [name for name in entry.required if name not in kwargs]:
        return f"{type} needs {' and '.join(missing)}"
    return None


def did_you_mean(word: str, known: list[str]) -> str:
    """The closest known word as a question to append, or nothing."""
    close = get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else ""


def _wrong_type(value: object, schema: Mapping[str, Any]) -> str | None:
    """The types a schema allows, in words, when the value has none of them."""
    options = [schema, *schema.get("anyOf", []), *schema.get("oneOf", [])]
    options += [inner for option in options[1:] for inner in option.get("oneOf", [])]
    if any("$ref" in option for option in options):
        return None
    # An object stands for a parameter filled in at run time, which a declaration cannot do: the other types are meant.
    names = dict.fromkeys(o["type"] for o in options if "type" in o and o["type"] in _PYTHON_TYPES)
    if len(names) > 1:
        names.pop("object", None)
    if not names:
        return None
    is_bool = isinstance(value, bool)
    if any(isinstance(value, _PYTHON_TYPES[n]) and (not is_bool or n == "boolean") for n in names):
        return None
    return " or ".join(names)
