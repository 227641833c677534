"""What a new model must show before predictions come from it."""

from __future__ import annotations

from pydantic import Field

from annotation_pipelines.content import Content
from annotation_pipelines.declaration_parts import NonEmpty, Part, Text


class Expected(Part):
    """A text with the label that any model must give it."""

    text: Text | dict[NonEmpty, Text] = Field(
        description="The text; where a record has several parts, the text of each."
    )
    label: Text = Field(description="The label, written as gold is.")

    @property
    def content(self) -> str:
        """The content, as it is stored."""
        read = Content.of_text(self.text) if isinstance(self.text, str) else Content.of_parts(self.text)
        return read.stored


class Promotion(Part):
    """What a new model must show before it takes the champion's place."""

    margin: float = Field(
        default=0.03,
        ge=0,
        lt=1,
        description="By how much its main metric may lie below the champion's: it takes the champion's place when the "
        "one-sided 95% interval of the difference, on the same held-out gold, excludes a larger loss.",
    )
    texts: int = Field(
        default=100,
        ge=0,
        description="On how many texts of the project its behaviour is tried. 0: only on what expect lists, and gold.",
    )
    expect: list[Expected] = Field(
        default_factory=list,
        description="Texts that any model must label so: {text, label}; with one that does not, no model is promoted.",
    )
