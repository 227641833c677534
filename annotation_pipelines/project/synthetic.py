"""How what was generated is checked before it is used."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated

from pydantic import BeforeValidator, Field, field_validator, model_validator

from annotation_pipelines.declaration_parts import NonEmpty, Part, Text, number_only
from annotation_pipelines.project.annotators import Annotator, bare_annotator

RUBRIC = (
    "Rate how good the record would be as an example to learn from. It must be complete, consistent in itself, and "
    "true to what it says it is: an instruction that can be followed and an output that follows it without error; a "
    "dialogue that people could have; a text that has the label and the attributes that were wanted. Wrong, empty, "
    "contradictory or mechanical records get the lowest score."
)
"""What the judge rates by where the declaration has no rubric."""

LOWEST, HIGHEST = 1, 5


class Judge(Part):
    """A language model that rates each synthetic record from 1 to 5 by a rubric."""

    rubric: NonEmpty | None = Field(
        default=None,
        description="What is rated, in words: a Markdown file beside defs.yaml, or the text itself. Default: how good "
        "an example to learn from it is.",
    )
    min_score: Annotated[float, BeforeValidator(number_only)] = Field(
        default=3, ge=LOWEST, le=HIGHEST, description="Synthetic records with a lower score are dropped."
    )
    annotator: NonEmpty | None = Field(
        default=None,
        description="Who judges, by name. Default: the first of `synthetic: annotators`, otherwise the one that "
        "generates, which tends to like its own. An annotator of this machine cannot judge.",
    )


class RoundTrip(Part):
    """An annotator that does not know the wanted label labels each synthetic text: another label drops the text."""

    annotator: NonEmpty | None = Field(
        default=None, description="Who labels, by name. Default: as for the judge; embedded serves here."
    )
    guideline: Text = Field(
        default="", description="How to label: a Markdown file beside defs.yaml, or the text itself."
    )


def _switch(value: object) -> object:
    return {} if value is True else None if value is False else value


class Synthetic(Part):
    """How what was generated is checked: rules and near-duplicates always, a judge and a round trip where declared."""

    annotators: list[Annotated[Annotator, BeforeValidator(bare_annotator, json_schema_input_type=Annotator | str)]] = (
        Field(default_factory=list, max_length=4, description="Annotators that only check; they generate nothing.")
    )
    judge: Annotated[Judge | None, BeforeValidator(_switch, json_schema_input_type=Judge | bool | None)] = None
    round_trip: Annotated[
        RoundTrip | None, BeforeValidator(_switch, json_schema_input_type=RoundTrip | bool | None)
    ] = None
    near_duplicate: Annotated[float, BeforeValidator(number_only)] = Field(
        default=0.8,
        gt=0,
        le=1,
        description="The Jaccard similarity of character 4-grams from which two texts say nearly the same. Of tasks "
        "the instructions are compared. The first one stays.",
    )
    rouge_l: Annotated[float | None, BeforeValidator(number_only)] = Field(
        default=None,
        gt=0,
        le=1,
        description="Drops what is as similar as this by ROUGE-L, too; self-instruct takes 0.7. Slower: every pair is "
        "looked at.",
    )
    forbid: list[NonEmpty] = Field(
        default_factory=list,
        description="Regular expressions: what matches one is dropped; upper and lower case count.",
    )

    @field_validator("forbid")
    @classmethod
    def _compile(cls, patterns: list[str]) -> list[str]:
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
        return patterns

    def check_names(self, generating: Sequence[Annotator]) -> None:
        """Whether every annotator that is named is there, and can do what it is named for.

        Args:
            generating: The annotators of the project.

        Raises:
            ValueError: One is not, or cannot.
        """
        names = [annotator.called for annotator in [*generating, *self.annotators]]
        if len(set(names)) < len(names):
            raise ValueError(f"synthetic: annotators: two are called the same ({', '.join(names)}): give each a name")
        known = {annotator.called: annotator for annotator in [*self.annotators, *generating]}
        for part, settings in (("judge", self.judge), ("round_trip", self.round_trip)):
            if settings is None:
                continue
            name = settings.annotator or next(iter(known))
            if name not in known:
                raise ValueError(
                    f"synthetic: {part}: annotator: expected the name of one ({', '.join(names)}), found {name}"
                )
            if part == "judge" and known[name].embedded:
                raise ValueError(
                    f"synthetic: judge: annotator: the embedded annotator ({name}) cannot read a rubric: name an "
                    "openai annotator"
                )

    @model_validator(mode="after")
    def _live(self) -> Synthetic:
        for annotator in self.annotators:
            if annotator.openai and annotator.openai.mode != "live":
                raise ValueError(
                    f"annotators: {annotator.called}: checks are asked live, found mode: {annotator.openai.mode}"
                )
        return self
