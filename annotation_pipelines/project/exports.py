"""Where the annotations go: data sets that other tools read."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from annotation_pipelines.declaration_parts import NonEmpty, Part, Text, number_only

if TYPE_CHECKING:
    from annotation_pipelines.project.declaration import Declaration

ExportFormat = Literal["chat", "preference", "reward", "rationales", "conll", "spacy", "parquet", "label_studio"]

_ALL = (
    "classification",
    "multilabel",
    "rating",
    "entities",
    "relations",
    "extraction",
    "preference",
    "critique",
    "generation",
)

SERVES: dict[str, tuple[str, ...]] = {
    "chat": _ALL,
    "preference": ("preference", "critique"),
    "reward": ("rating", "preference", "critique"),
    "rationales": tuple(kind for kind in _ALL if kind != "generation"),
    "conll": ("entities",),
    "spacy": ("classification", "multilabel", "entities"),
    "parquet": _ALL,
    "label_studio": ("classification", "multilabel", "rating", "entities", "relations", "preference"),
}
"""Format to the kinds of tasks whose annotations it can hold."""

SPLITS = ("train", "validation", "test")

_NAME = re.compile(r"[a-z][a-z0-9_]*")


class Split(Part):
    """The share of the records that goes into each split. They add up to 1."""

    train: float = Field(default=0.8, ge=0, le=1, description="To learn from.")
    validation: float = Field(default=0.1, ge=0, le=1, description="To choose by while learning.")
    test: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="To measure with. Gold that is held out for evaluation comes on top; 0 leaves test to that gold.",
    )

    @field_validator("*", mode="before")
    @classmethod
    def _numbers(cls, value: object) -> object:
        return number_only(value)

    @model_validator(mode="after")
    def _whole(self) -> Split:
        if not math.isclose(total := self.train + self.validation + self.test, 1, abs_tol=1e-6):
            raise ValueError(f"expected shares that add up to 1, found {total:g}")
        return self

    @property
    def shares(self) -> tuple[tuple[str, float], ...]:
        """The splits with a share, in order."""
        return tuple((name, share) for name in SPLITS if (share := getattr(self, name)) > 0)


def _shares(value: object) -> object:
    """Splits that are not named get nothing, once one is named."""
    return {name: value.get(name, 0) for name in {*SPLITS, *value}} if isinstance(value, dict) and value else value


class Export(Part):
    """A data set made of the trusted labels: split without leaks, with a card and a schema."""

    format: ExportFormat = Field(
        description="chat: messages for supervised fine-tuning, as OpenAI and TRL read them; preference: chosen and "
        "rejected, as TRL's DPO reads them; reward: responses with scores; rationales: reasons for distilling step by "
        "step; conll: tokens with BIO tags; spacy: spans or categories; parquet: as `datasets` opens it; label_studio: "
        "tasks to import."
    )
    name: NonEmpty | None = Field(
        default=None, description="Its name, in small letters; its folder and its asset are called so. Default: format."
    )
    split: Annotated[Split, BeforeValidator(_shares)] = Split()
    min_confidence: Annotated[float, BeforeValidator(number_only)] = Field(
        default=0.0, ge=0, le=1, description="Silver labels below it stay out."
    )
    licence: Text | None = Field(
        default=None, description="The licence that the card names, as Hugging Face abbreviates it, such as cc-by-4.0."
    )
    seed: int = Field(default=0, description="Another seed splits otherwise.")
    tokens: Literal["words", "blanks", "characters"] = Field(
        default="words",
        description="conll: what a token is. words: letters and digits together, any other sign alone, and in scripts "
        "without blanks between words each character; blanks: what stands between blanks; characters: each alone.",
    )
    language: NonEmpty | None = Field(
        default=None,
        description="spacy: the language whose tokenizer cuts the .spacy files, such as de; entities that do not fit "
        "its tokens stay out of these. Default: words as with conll, which hold nearly all entities.",
    )

    @field_validator("name")
    @classmethod
    def _plain(cls, name: str | None) -> str | None:
        if name is not None and not _NAME.fullmatch(name):
            raise ValueError(f"expected small letters, digits and _, a letter first, found {name!r}")
        return name

    @model_validator(mode="after")
    def _own_settings(self) -> Export:
        for field, owner in (("tokens", "conll"), ("language", "spacy")):
            if field in self.model_fields_set and self.format != owner:
                raise ValueError(f"{field} belongs to format: {owner}, found format: {self.format}")
        return self

    @property
    def called(self) -> str:
        """Its name: the one declared, else its format's."""
        return self.name or self.format


def bare_format(value: object) -> object:
    """A format that stands alone, as in `exports: [chat]`."""
    return {"format": value} if isinstance(value, str) else value


def refuse_unfit_exports(declaration: Declaration) -> None:
    """See that every declared export can hold the task's annotations, and that their names differ.

    Raises:
        ValueError: One cannot, or two are called the same.
    """
    names = [export.called for export in declaration.exports]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"exports: two are called {twice[0]}: give each a name")
    for export in declaration.exports:
        if problem := unfit(export, declaration):
            raise ValueError(f"exports: {export.called}: {problem}")


def unfit(export: Export, declaration: Declaration) -> str | None:
    """Why an export cannot hold the annotations of a project; None where it can."""
    kind = declaration.task.kind
    if kind not in SERVES[export.format]:
        possible = ", ".join(name for name, kinds in SERVES.items() if kind in kinds)
        return f"format: {export.format} serves task: {', '.join(SERVES[export.format])}, found {kind}: use {possible}"
    critique = declaration.task.critique
    if export.format == "preference" and critique is not None and not critique.revise:
        return "format: preference needs revisions to choose over the responses: set critique: revise: true"
    if export.format == "reward" and critique is not None and critique.score is None:
        return "format: reward needs scores: set critique: score, such as {from: 1, to: 10}"
    if export.format == "rationales" and not any(a.openai and a.openai.rationale for a in declaration.annotators):
        return "format: rationales needs an annotator that gives its reasons: set rationale: true on one"
    return None
