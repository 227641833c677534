"""Extraction: the fields of a JSON schema that the user writes, found in a record."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from statistics import fmean
from typing import Any

from pydantic import ConfigDict, Field, model_validator

from annotation_pipelines.content import Content
from annotation_pipelines.declaration_parts import Text
from annotation_pipelines.tasks.base import Annotation, Found, Invalid, Task, Vote, canonical_json
from annotation_pipelines.tasks.consensus import weighted_vote
from annotation_pipelines.tasks.json_answer import shown
from annotation_pipelines.tasks.metrics.bootstrap import Metric
from annotation_pipelines.tasks.metrics.fields import Comparison, measure
from annotation_pipelines.tasks.settings import TaskSettings
from annotation_pipelines.tasks.strict_schema import StrictSchema

ANSWER = "extracted"


class Extraction(TaskSettings):
    """Fields of each record, as a JSON schema describes them."""

    model_config = ConfigDict(populate_by_name=False)

    json_schema: dict[Text, Any] = Field(
        alias="schema",
        description="A JSON schema of type object: the fields, each with type and description. A field that is not "
        "under required may be absent.",
    )
    compare: dict[Text, Comparison] = Field(
        default_factory=dict,
        description="How a field is scored against gold: exact, fuzzy (the words shared), or number. Default: exact.",
    )

    @model_validator(mode="after")
    def _possible(self) -> Extraction:
        strict = StrictSchema(self.json_schema)
        if unknown := [field for field in self.compare if field not in strict.properties]:
            raise ValueError(
                f"compare: expected fields of the schema ({', '.join(strict.properties)}), found {unknown[0]!r}"
            )
        return self

    def make(self) -> ExtractionTask:
        """The task."""
        return ExtractionTask(self)


class ExtractionTask(Task):
    """Asks for an object of the schema, and reads it back: {"extracted": {...}, "confidence": ...}.

    The label is the object as canonical JSON; an optional field that was not found is not in it.
    """

    kind = "extraction"
    headline = "score"

    def __init__(self, settings: Extraction) -> None:
        self.schema_written = StrictSchema(settings.json_schema)
        self._compare = dict(settings.compare)

    @cached_property
    def names(self) -> Sequence[str]:
        """The fields, in the order of the declaration."""
        return list(self.schema_written.properties)

    def instructions(self) -> str:
        """What is to be found, field by field."""
        lines = ["Extract these fields from the record:"]
        for name, field in self.schema_written.properties.items():
            optional = "" if name in self.schema_written.required else " (null if the record does not say)"
            words = " ".join(str(field.get("description", "")).split())
            lines.append(f"- {json.dumps(name, ensure_ascii=False)}{': ' if words else ''}{words}{optional}")
        lines.append("Take what the record says as it is written there; do not add what it does not say.")
        return "\n".join(lines)

    def fields(self) -> dict[str, Any]:
        """The object, in strict form."""
        return {ANSWER: self.schema_written.sent}

    def value(self, found: Found, content: Content) -> str:
        """The object as canonical JSON; one that stands there without `extracted` around it is taken too."""
        given = found.get(ANSWER)
        if ANSWER not in found:
            given = {name: each for name, each in found.items() if name in self.schema_written.properties}
            if not given:
                raise Invalid(f"the answer has no {ANSWER}: {shown(found)}")
        return self.schema_written.read(given)

    def canonical(self, given: str, content: Content) -> str:
        """The JSON object that people gave, in canonical form."""
        try:
            found = json.loads(given)
        except (ValueError, RecursionError):
            raise Invalid(f"expected a JSON object, found {shown(given)}") from None
        return self.schema_written.read(found)

    def written(self, label: str, content: Content) -> Found:
        """The object, with null for what it lacks."""
        return {ANSWER: self.schema_written.filled(json.loads(self.canonical(label, content)))}

    def shown(self, label: str) -> str:
        """The fields that were found, in the form "name: Emma; age: 4"."""
        found: dict[str, Any] = json.loads(label)
        return "; ".join(
            f"{name}: {found[name] if isinstance(found[name], str) else canonical_json(found[name])}"
            for name in self.names
            if name in found
        )

    def measure(self, gold: Sequence[str], given: Sequence[str | None], *, seed: int = 0) -> list[Metric]:
        """score, exact, fuzzy, record_exact and f1; then those of each field: see `metrics.fields.measure`."""
        return measure(
            [json.loads(label) for label in gold],
            [None if label is None else json.loads(label) for label in given],
            self.names,
            self._compare,
            seed=seed,
        )

    def combine(self, votes: Sequence[Vote]) -> Annotation:
        """Field by field the value with the most weight, absence being one; the confidence is the mean of its shares.

        Objects and lists within are compared as wholes. Where the fields so chosen do not follow the schema together,
        the whole object with the most weight is taken.

        Args:
            votes: One at least. Where most weight abstained, so do they together.

        Returns:
            Its scores are the shares of the fields' values, by field.
        """
        whole = weighted_vote(votes)
        given = [vote for vote in votes if vote.annotation.label is not None]
        if sum(vote.weight for vote in given) <= sum(vote.weight for vote in votes) / 2:
            return whole
        objects = [json.loads(vote.annotation.label or "{}") for vote in given]
        made: dict[str, Any] = {}
        shares: dict[str, float] = {}
        for name in self.names:
            best = weighted_vote([_about(vote, found, name) for vote, found in zip(given, objects, strict=True)])
            shares[name] = best.confidence or 0.0
            if best.label is not None and best.label != "":
                made[name] = json.loads(best.label)
        try:
            label = self.schema_written.read(made)
        except Invalid:
            return whole
        return Annotation("labelled", label, fmean(shares.values()), shares, rationale=whole.rationale)


def _about(vote: Vote, found: Mapping[str, Any], name: str) -> Vote:
    """A vote about one field; '' stands for absence."""
    value = canonical_json(found[name]) if name in found else ""
    return Vote(Annotation("labelled", value, vote.annotation.confidence), vote.weight)
