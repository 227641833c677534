"""Entities: spans of a text, each with a type out of a closed set; within one another where that is allowed.

A model is asked for the words of each entity and for their occurrence, and `spans` finds where they stand. A label is
canonical JSON: a list of {"end", "start", "text", "type"}, by start, end and type.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from pydantic import Field, StrictBool

from annotation_pipelines.content import Content
from annotation_pipelines.declaration_parts import NonEmpty
from annotation_pipelines.tasks.base import Annotation, Found, Invalid, Task, Vote, canonical_json
from annotation_pipelines.tasks.json_answer import number, shown
from annotation_pipelines.tasks.metrics.bootstrap import Metric
from annotation_pipelines.tasks.metrics.spans import measure
from annotation_pipelines.tasks.settings import LabelMatcher, TaskSettings, Types, listed
from annotation_pipelines.tasks.spans import (
    COUNTING,
    Mention,
    Span,
    TypedSpan,
    find_mentions,
    given_span,
    labelled_spans,
    occurrence_of,
    spans_label,
)

MAJORITY = 0.5
"""The share of the weight that must be behind an entity for several annotators to give it."""


class Entities(TaskSettings):
    """Spans of the text, each with a type out of a closed set."""

    types: Types = Field(description="Type to description, or a list of types. The annotator reads the descriptions.")
    nested: StrictBool = Field(default=False, description="Whether entities may stand within others, or overlap them.")
    part: NonEmpty | None = Field(
        default=None, description="In which part of the record entities are looked for; needed where it has several."
    )

    def make(self) -> EntitiesTask:
        """The task."""
        return EntitiesTask(self)


class EntitiesTask(Task):
    """Asks for typed surfaces, and finds the spans: {"entities": [{"text", "type", "occurrence"}], "confidence"}."""

    kind = "entities"
    parser_version = 1
    headline = "f1"
    students = ("linear", "fine_tuned")
    embedded = True
    reads_content = True

    def __init__(self, settings: Entities) -> None:
        self._types = dict(settings.types)
        self.nested = settings.nested
        self.part = settings.part
        self._matcher = LabelMatcher(self._types)

    @property
    def labels(self) -> Mapping[str, str]:
        """Type to description, in the order of the declaration."""
        return self._types

    def check(self, parts: Sequence[str]) -> None:
        """Whether it is plain in which part entities are looked for.

        Raises:
            Invalid: It is not.
        """
        if self.part is None and len(parts) != 1:
            raise Invalid(f"records have {len(parts)} parts ({', '.join(parts)}): say in which one with part:")
        if self.part is not None and self.part not in parts:
            raise Invalid(f"expected part: to be one of {', '.join(parts)}, found {self.part!r}")

    def text(self, content: Content) -> str:
        """The text in which entities stand.

        Raises:
            Invalid: The record does not have the part, or has several and none is named.
        """
        self.check(content.names)
        return content.parts[0].text if self.part is None else content[self.part]

    def instructions(self) -> str:
        """What is asked, with every type and its description."""
        where = "record" if self.part is None else f"part {json.dumps(self.part, ensure_ascii=False)} of the record"
        return "\n".join(
            [
                f"Find every entity of these types in the {where}:",
                *listed(self._types),
                "List each place where an entity stands, in the order of the text. " + COUNTING,
                "Entities may stand within others: list the inner and the outer one."
                if self.nested
                else "Entities never overlap: of two that would, list only the longer one.",
                "If there is none, give an empty list.",
            ]
        )

    def fields(self) -> dict[str, Any]:
        """The list of entities."""
        entity = {
            "text": {"type": "string", "description": "the text of the entity, exactly as it stands in the record"},
            "type": {"type": "string", "enum": list(self._types), "description": "one of the types above"},
            "occurrence": {
                "type": "integer",
                "description": "which occurrence of this text in the record is meant, 1 for the first",
            },
        }
        return {
            "entities": {
                "type": "array",
                "description": "every entity, in the order of the text; empty if there is none",
                "items": {
                    "type": "object",
                    "properties": entity,
                    "required": list(entity),
                    "additionalProperties": False,
                },
            }
        }

    def value(self, found: Found, content: Content) -> str:
        """The entities, each found in the text; one that is listed twice is one."""
        text = self.text(content)
        if "entities" not in found:
            raise Invalid(f"the answer has no entities: {shown(found)}")
        given = found["entities"]
        if not isinstance(given, list):
            raise Invalid(f"expected a list of entities, found {shown(given)}")
        mentions, types = [], []
        for name, entity in zip(_names(given), given, strict=True):
            if not isinstance(entity, dict):
                raise Invalid(f"{name}: expected an object with text, type and occurrence, found {shown(entity)}")
            surface = entity.get("text")
            if not isinstance(surface, str) or not surface.strip():
                raise Invalid(f"{name}: expected its text, found {shown(surface)}")
            types.append(self._type(name, self._matcher.match(entity.get("type")), entity.get("type")))
            mentions.append(Mention(surface, _occurrence(name, entity.get("occurrence")), name))
        spans = find_mentions(text, mentions)
        return self._label(text, [TypedSpan(s.start, s.end, type_) for s, type_ in zip(spans, types, strict=True)])

    def canonical(self, given: str, content: Content) -> str:
        """The entities of a JSON list of {"start", "end", "type"}, in code points; a "text" is checked."""
        text = self.text(content)
        try:
            entities = json.loads(given)
        except (ValueError, RecursionError):
            entities = None
        if not isinstance(entities, list):
            raise Invalid(f'expected a JSON list of {{"start", "end", "type"}}, found {shown(given)}')
        spans = []
        for name, entity in zip(_names(entities), entities, strict=True):
            if not isinstance(entity, dict):
                raise Invalid(f"{name}: expected an object with start, end and type, found {shown(entity)}")
            span = given_span(name, entity, text)
            given_type = entity.get("type")
            exact = given_type if isinstance(given_type, str) and given_type in self._types else None
            spans.append(TypedSpan(span.start, span.end, self._type(name, exact, given_type)))
        return self._label(text, spans)

    def written(self, label: str, content: Content) -> Found:
        """The surface, type and occurrence of every entity."""
        if (problem := self.problem(label, content)) is not None:
            raise Invalid(problem)
        text = self.text(content)
        return {
            "entities": [
                {"text": span.of(text), "type": span.type, "occurrence": occurrence_of(text, span)}
                for span in labelled_spans(label)
            ]
        }

    def named(self, label: str) -> list[str]:
        """The type of every entity."""
        return [span.type for span in labelled_spans(label)]

    def shown(self, label: str) -> str:
        """`person: Emma; location: Paris`."""
        return "; ".join(f"{entity['type']}: {entity['text']}" for entity in json.loads(label)) or "no entities"

    def measure(self, gold: Sequence[str], given: Sequence[str | None], *, seed: int = 0) -> list[Metric]:
        """Strict f1, precision, recall and macro_f1; exact, partial and type F1; f1 of each type."""
        return measure(gold, given, list(self._types), seed=seed)

    def combine(self, votes: Sequence[Vote]) -> Annotation:
        """The entities that hold at least half of the weight, `span_vote`."""
        return span_vote(votes, nested=self.nested)

    def _type(self, name: str, known: str | None, given: object) -> str:
        if known is None:
            raise Invalid(f"{name}: expected a type out of {', '.join(self._types)}, found {shown(given)}")
        return known

    def _label(self, text: str, spans: list[TypedSpan]) -> str:
        if not self.nested and (pair := _overlap(spans)) is not None:
            first, second = pair
            raise Invalid(
                f"entity {first + 1} and entity {second + 1} overlap ({_place(spans[first])} and "
                f"{_place(spans[second])}): only one of them may be given"
            )
        return spans_label(text, spans)


def span_vote(votes: Sequence[Vote], *, nested: bool) -> Annotation:
    """What several annotators make of the entities of one text.

    An entity (start, end and type) is kept where those who gave it hold at least half of the weight of those who
    labelled the record. Where entities may not overlap, the one with more weight is kept; where two tie, the longer
    one, then the first.

    Args:
        votes: One at least. Where those who abstained hold more than half of the weight, so do all.

    Returns:
        The entities, with the mean of their shares as confidence; where there are none, what the largest share of any
        leaves. The rationale is the first of an annotator that gave exactly these entities.
    """
    labelled = [vote for vote in votes if vote.annotation.label is not None]
    weight = sum(vote.weight for vote in labelled)
    abstained = sum(vote.weight for vote in votes) - weight
    if not labelled or abstained > weight:
        first = next(vote.annotation for vote in votes if vote.annotation.label is None)
        return Annotation("abstained", None, abstained / (abstained + weight), problem=first.problem)
    share: defaultdict[TypedSpan, float] = defaultdict(float)
    texts: dict[TypedSpan, str] = {}
    for vote in labelled:
        for entity in json.loads(vote.annotation.label or "[]"):
            span = TypedSpan(entity["start"], entity["end"], entity["type"])
            share[span] += vote.weight / weight
            texts[span] = entity["text"]
    kept: list[TypedSpan] = []
    for span in sorted(share, key=lambda span: (-round(share[span], 9), span.start - span.end, span)):
        enough = round(share[span], 9) >= MAJORITY
        if enough and (nested or not any(span.overlaps(other) for other in kept)):
            kept.append(span)
    label = canonical_json(
        [{"start": span.start, "end": span.end, "text": texts[span], "type": span.type} for span in sorted(kept)]
    )
    confidence = fmean(share[span] for span in kept) if kept else 1 - max(share.values(), default=0.0)
    agreeing = [vote.annotation for vote in labelled if vote.annotation.label == label]
    rationale = next((annotation.rationale for annotation in agreeing if annotation.rationale), None)
    return Annotation("labelled", label, min(1.0, max(0.0, confidence)), rationale=rationale)


def _names(entities: Sequence[object]) -> list[str]:
    return [f"entity {number}" for number in range(1, len(entities) + 1)]


def _occurrence(name: str, given: object) -> int | None:
    """Which occurrence is meant; None where that was not said."""
    if given is None:
        return None
    figure = number(given)
    if figure is None or not figure.is_integer():
        raise Invalid(f"{name}: expected its occurrence as a whole number from 1, found {shown(given, 24)}")
    return int(figure)


def _overlap(spans: Sequence[TypedSpan]) -> tuple[int, int] | None:
    """The positions of two different entities that overlap, if any do."""
    order = sorted(range(len(spans)), key=lambda index: spans[index])
    last: int | None = None
    for index in order:
        if last is not None and spans[index] != spans[last] and spans[index].overlaps(spans[last]):
            return min(index, last), max(index, last)
        if last is None or spans[index].end > spans[last].end:
            last = index
    return None


def _place(span: Span) -> str:
    return f"code points {span.start} to {span.end}"
