"""Read a `defs.yaml`: every problem in one line, with where it is, what was found and what is allowed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from annotation_pipelines.errors import DeclarationError
from annotation_pipelines.project import Declaration, Project


def load_project(file: Path) -> Project:
    """Read one `defs.yaml`.

    Raises:
        DeclarationError: The file cannot be read, is not YAML, or says something impossible; every problem is named
            with its line.
    """
    try:
        text = file.read_text(encoding="utf-8")
        document = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise DeclarationError(f"cannot be read: {error}", where=file) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{file}:{mark.line + 1}" if mark else str(file)
        raise DeclarationError(f"not valid YAML: {getattr(error, 'problem', None) or error}", where=where) from None
    if not isinstance(document, dict) or not isinstance(document.get("attributes"), dict):
        raise DeclarationError(
            "expected the keys type and attributes",
            where=file,
            todo="See docs/declaration.md for a complete example",
        )
    try:
        declaration = Declaration.model_validate(document["attributes"])
    except ValidationError as error:
        lines = _lines(text)
        raise DeclarationError(
            "; ".join(describe_problem(e, f"{file.name}:{_line_of(_about(e, lines), lines)}") for e in error.errors()),
            where=file.parent.name,
        ) from None
    return Project(file.parent.name, file.parent, declaration)


def describe_problem(error: Any, where: str) -> str:
    """One line for one pydantic error: where, which key, what was found and what is allowed."""
    path = ".".join(str(part) for part in error["loc"]) or "declaration"
    message = error["msg"].removeprefix("Value error, ")
    match error["type"]:
        case "extra_forbidden":
            message = "unknown key"
            if allowed := _allowed_keys(error["loc"][:-1]):
                message += f"; allowed here: {', '.join(allowed)}"
        case "missing":
            message = "required, but not there"
        case "value_error":
            pass
        case _:
            message += f", found {error['input']!r}"
    return f"{where} {path}: {message}"


def _allowed_keys(path: tuple[Any, ...]) -> list[str]:
    """The keys of the model at a path of the declaration."""
    schema: dict[str, Any] = Declaration.model_json_schema()
    definitions, node = schema["$defs"], schema
    for part in path:
        node = node.get("items", {}) if isinstance(part, int) else node.get("properties", {}).get(part, {})
        for option in [node, *node.get("anyOf", []), *node.get("allOf", [])]:
            if "$ref" in option:
                node = definitions[option["$ref"].rsplit("/", 1)[1]]
                break
    return sorted(node.get("properties", {}))


def _lines(text: str) -> dict[tuple[Any, ...], int]:
    """The line of every key and list entry below `attributes`, by path."""
    lines: dict[tuple[Any, ...], int] = {}

    def walk(node: yaml.Node, path: tuple[Any, ...]) -> None:
        lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                lines[(*path, key.value)] = key.start_mark.line + 1
                walk(value, (*path, key.value))
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                walk(value, (*path, index))

    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if isinstance(root, yaml.MappingNode):
        for key, value in root.value:
            if key.value == "attributes":
                lines[()] = key.start_mark.line + 1
                walk(value, ())
    return lines


def _about(error: Any, lines: dict[tuple[Any, ...], int]) -> tuple[Any, ...]:
    """The path that an error is about: of one on a whole part, the keys that its message begins with."""
    path: tuple[Any, ...] = error["loc"]
    if error["type"] == "value_error":
        for key in error["msg"].removeprefix("Value error, ").split(": ")[:-1]:
            if (*path, key) not in lines:
                break
            path = (*path, key)
    return path


def _line_of(path: tuple[Any, ...], lines: dict[tuple[Any, ...], int]) -> int:
    while path not in lines and path:
        path = path[:-1]
    return lines.get(path, 1)
