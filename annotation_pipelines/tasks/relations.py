"""Relations between two mentions in a text: typed, and directed from a head to a tail.

The pair is given, marked in the text, and gets one label of a closed set (`given_relations`), or pairs are to be found
as well (`found_relations`).
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, StrictBool, model_validator

from annotation_pipelines.declaration_parts import Text
from annotation_pipelines.tasks.base import Task
from annotation_pipelines.tasks.found_relations import FoundRelationsTask
from annotation_pipelines.tasks.given_relations import GivenRelationsTask, has_direction, loose
from annotation_pipelines.tasks.settings import ABSTAIN, TaskSettings, Types


class Relations(TaskSettings):
    """Typed relations between two mentions, given by marks in the text or to be found."""

    types: Types = Field(
        description="Type to description, or a list of types. A description may speak of {head} and {tail}: they stand "
        "for the mentions in the prompt."
    )
    none: Text | None = Field(
        default="Other",
        description="The label of a pair that stands in none of these relations; null where every pair stands in one.",
    )
    directed: StrictBool = Field(
        default=True, description="Whether a relation leads from a head to a tail, and its direction is annotated."
    )
    pairs: Literal["given", "found"] = Field(
        default="given",
        description="given: each text marks its pair as <e1>...</e1> and <e2>...</e2>; found: the annotator finds both "
        "mentions.",
    )
    entity_types: Types | None = Field(
        default=None, description="Types of the mentions, to be annotated too; only where pairs are found."
    )
    part: Text | None = Field(
        default=None, description="The part of the record that holds the mentions, where it has several."
    )

    @model_validator(mode="after")
    def _fits(self) -> Relations:
        if self.pairs == "given" and self.entity_types is not None:
            raise ValueError("entity_types needs pairs: found; where pairs are given, their mentions are too")
        if self.none is not None and (not self.none.strip() or self.none != self.none.strip() or self.none == ABSTAIN):
            raise ValueError(f"expected the name of the null class, such as Other, found {self.none!r}")
        for name in self.types:
            if has_direction(name):
                raise ValueError(f"expected a type without a direction, found {name!r}: directed: true adds both")
        if not set(self.types) - {self.none}:
            raise ValueError(f"expected a type besides {self.none!r}, found none")
        spellings = [loose(name) for name in {*self.types, *([] if self.none is None else [self.none])}]
        if len(set(spellings)) < len(spellings):
            raise ValueError("two types differ in case, blanks or punctuation alone: give them names that can be told")
        if self.pairs == "given" and not self.directed and self.none is None and len(self.types) < 2:
            raise ValueError("expected two labels or more, found one type, no direction and no null class")
        return self

    def make(self) -> Task:
        """The task."""
        types = {name: text for name, text in self.types.items() if name != self.none}
        if self.pairs == "found":
            return FoundRelationsTask(
                types=types, none=self.none, directed=self.directed, entity_types=self.entity_types, part=self.part
            )
        # The null class may stand among the types, with a description of its own.
        described = self.types.get(self.none or "", "")
        return GivenRelationsTask(
            types=types, none=self.none, none_description=described, directed=self.directed, part=self.part
        )
