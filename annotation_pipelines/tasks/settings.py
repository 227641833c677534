"""What the declarations of all kinds of tasks share."""

from __future__ import annotations

import json
import unicodedata
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Annotated

from pydantic import BeforeValidator, Field

from annotation_pipelines.declaration_parts import Part, Text, text_only
from annotation_pipelines.tasks.base import Task

ABSTAIN = "abstain"


class TaskSettings(Part):
    """The part of the declaration about one kind of task."""

    @abstractmethod
    def make(self) -> Task:
        """The task."""


def names_and_descriptions(labels: object) -> object:
    """Label to description, out of what a declaration gives: such pairs, or a list of labels."""
    if isinstance(labels, list):
        names = [text_only(name) for name in labels]
        if len(set(map(str, names))) != len(names):
            raise ValueError("a label is listed twice")
        labels = {name: name for name in names}
    if not isinstance(labels, dict):
        raise ValueError(f"expected label: description pairs, or a list of labels, found {labels!r}")
    for name, text in labels.items():
        text_only(name)
        if isinstance(name, str) and (not name.strip() or name != name.strip()):
            raise ValueError(f"a label is blank or has blanks around it: {name!r}")
        if text is None:
            raise ValueError(f"label {name!r} has no description: write one, or list the labels as [a, b]")
    if ABSTAIN in labels:
        raise ValueError(f"{ABSTAIN!r} is reserved: set abstain: true instead")
    return labels


def _two_at_least(labels: object) -> object:
    labels = names_and_descriptions(labels)
    if isinstance(labels, dict) and len(labels) < 2:
        raise ValueError(f"expected two labels or more, found {len(labels)}")
    return labels


Labels = Annotated[dict[Text, Text], BeforeValidator(_two_at_least, json_schema_input_type=dict[str, str] | list[str])]
"""Two labels or more, each with its description."""

Types = Annotated[
    dict[Text, Text],
    BeforeValidator(names_and_descriptions, json_schema_input_type=dict[str, str] | list[str]),
    Field(min_length=1),
]
"""One name or more, each with its description."""


def listed(labels: Mapping[str, str]) -> list[str]:
    """Labels with their descriptions as lines of a prompt."""
    lines = []
    for name, description in labels.items():
        words = " ".join(description.split())
        quoted = json.dumps(name, ensure_ascii=False)
        lines.append(f"- {quoted}" if words in ("", name) else f"- {quoted}: {words}")
    return lines


class LabelMatcher:
    """Finds the label that a value means: exactly, else without regard to case, blanks and Unicode form."""

    def __init__(self, labels: Iterable[str]) -> None:
        self.labels = tuple(labels)
        self._exact = frozenset(self.labels)
        self._normalised: dict[str, str | None] = {}
        for label in self.labels:
            key = _normalised(label)
            # Two labels that differ in case alone are told apart by an exact match only.
            self._normalised[key] = None if key in self._normalised else label

    def match(self, value: object) -> str | None:
        """The label; None where the value means none, or cannot be told."""
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str):
            return None
        return value if value in self._exact else self._normalised.get(_normalised(value))


def _normalised(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
