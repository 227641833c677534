"""What a record with responses asks, and what the responses are."""

from __future__ import annotations

from collections.abc import Iterable

from annotation_pipelines.content import Content, ContentPart
from annotation_pipelines.tasks.base import Task


def prompt_of(content: Content, responses: Iterable[str]) -> str:
    """What stands in the other parts than the responses: bare where one part says something, else under their names."""
    taken = set(responses)
    return _text(part for part in content.parts if part.name not in taken)


def responses_of(task: Task) -> tuple[str, ...]:
    """The names of the parts that are responses to the others; none where the task does not tell parts apart."""
    if task.kind == "preference":
        return (task.first, task.second)  # type: ignore[attr-defined]
    if task.kind == "critique":
        return (task.response,)  # type: ignore[attr-defined]
    return ()


def _text(parts: Iterable[ContentPart]) -> str:
    said = [part for part in parts if part.text.strip()]
    return said[0].text if len(said) == 1 else Content(tuple(said)).text if said else ""
