"""What every kind of task offers: its answer schema, its parser, its labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

State = Literal["labelled", "abstained", "invalid", "refused", "failed", "over_budget", "submitted"]
STATES: tuple[State, ...] = ("labelled", "abstained", "invalid", "refused", "failed", "over_budget", "submitted")

UNANSWERED: tuple[State, ...] = ("failed", "over_budget", "submitted")
"""States that the next run takes up again: nothing was answered yet."""


@dataclass(frozen=True)
class Annotation:
    """What a reply says, once read.

    Attributes:
        state: How the record ends.
        label: The label, where labelled.
        confidence: 0 to 1, where given.
        scores: Label to score, where given.
        problem: Why there is no label, in words.
        rationale: The annotator's reasons, where given.
    """

    state: State
    label: str | None = None
    confidence: float | None = None
    scores: Mapping[str, float] | None = None
    problem: str | None = None
    rationale: str | None = None


class Task(Protocol):
    """One kind of annotation."""

    @property
    def labels(self) -> Mapping[str, str]:
        """Label to description, in the order of the declaration."""

    @property
    def parser_version(self) -> int:
        """Raised when `parse` reads an old reply differently: stored replies are read again, and nothing is bought."""

    def instructions(self) -> str:
        """What is asked, in words, for a prompt."""

    def schema(self, *, confidence: bool, rationale: bool = False) -> dict[str, Any]:
        """The strict JSON schema of an answer; a rationale comes first."""

    def answer(self, label: str, *, confidence: bool) -> dict[str, Any]:
        """The answer that a demonstration with this label shows; it satisfies `schema`."""

    def parse(self, reply: str) -> Annotation:
        """Read a raw reply. Any string ends in an annotation, `invalid` with a reason at worst; never raises."""
