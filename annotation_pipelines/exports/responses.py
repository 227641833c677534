"""What a record with responses asks, and what the responses are."""

from __future__ import annotations

from collections.abc import Iterable

from annotation_pipelines.content import Content, ContentPart
from annotation_pipelines.project import Project


def prompt_of(content: Content, responses: Iterable[str]) -> str:
    """What stands in the other parts than the responses: bare where one part says something, else under their names."""
    taken = set(responses)
    return _text(part for part in content.parts if part.name not in taken)


def responses_of(project: Project, content: Content) -> tuple[str, ...]:
    """The names of the parts of a record that answer the others; none where the task does not tell them apart."""
    task = project.declaration.task
    if task.preference is not None:
        return (task.preference.first, task.preference.second)
    if task.critique is not None:
        return ((task.critique.of or content.names)[-1],)
    if task.rating is not None:
        return (content.names[-1],)
    return ()


def _text(parts: Iterable[ContentPart]) -> str:
    said = [part for part in parts if part.text.strip()]
    return said[0].text if len(said) == 1 else Content(tuple(said)).text if said else ""
