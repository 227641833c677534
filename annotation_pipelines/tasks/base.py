"""What every kind of task offers: the schema of its answers, its parser, its metrics, its consensus.

An annotation's value travels and is stored as one string, its `label`: the label itself in classification, canonical
JSON where a value has a structure. Two annotations say the same exactly when their labels are equal.

A kind of task is a subclass of `Task`, and a part of the declaration whose `make` gives it; `registry` lists them.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from annotation_pipelines.content import Content
from annotation_pipelines.tasks.json_answer import NoAnswer, find_object, number
from annotation_pipelines.tasks.metrics.bootstrap import Metric

State = Literal["labelled", "abstained", "invalid", "refused", "failed", "over_budget", "submitted"]
STATES: tuple[State, ...] = ("labelled", "abstained", "invalid", "refused", "failed", "over_budget", "submitted")

UNANSWERED: tuple[State, ...] = ("failed", "over_budget", "submitted")
"""States that the next run takes up again: nothing was answered yet."""

Found = dict[str, Any]
"""The JSON object of an answer: any keys, any values."""


class Invalid(ValueError):
    """A value that is no annotation; the message says why, in words, without the text of the record."""


class Abstained(Exception):
    """The annotator declined to decide."""


@dataclass(frozen=True)
class Annotation:
    """What a reply says, once read.

    Attributes:
        state: How the record ends.
        label: The value as text, where labelled.
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


@dataclass(frozen=True)
class Vote:
    """One of several annotations of the same record; `labelled` or `abstained`.

    Attributes:
        weight: How much it counts; above 0.
    """

    annotation: Annotation
    weight: float = 1.0


class Task(ABC):
    """One kind of annotation."""

    kind: ClassVar[str]
    """Its name in the declaration."""
    parser_version: ClassVar[int] = 1
    """Raised when `parse` reads an old reply differently: stored replies are read again, and nothing is bought."""
    headline: ClassVar[str]
    """The metric that is named first; higher is better."""
    exclusive: bool = False
    """Whether every value is exactly one of `labels`."""
    students: tuple[str, ...] = ()
    """The kinds of student that can be distilled from its labels, the default first."""
    embedded: bool = False
    """Whether the embedded annotator serves it."""
    reads_content: bool = False
    """Whether what a value means depends on the record, as that of spans does."""
    quotes: bool = True
    """Whether values may quote the record: personal data that was taken out before is put back into them."""
    noun: ClassVar[str] = "answer"
    """What its value is called towards an annotator."""
    answer_tokens: int | None = None
    """About how many tokens an answer takes, where that is many more than a label; None for a few."""
    views: int = 1
    """In how many ways a record is shown, one after the other, before its annotation is known."""

    @property
    def student(self) -> bool:
        """Whether a student can be distilled from its labels."""
        return bool(self.students)

    @property
    def labels(self) -> Mapping[str, str]:
        """The closed vocabulary of its values (labels, types), each with its description; empty where it is open."""
        return {}

    @abstractmethod
    def instructions(self) -> str:
        """What is asked, in words, for a prompt."""

    @abstractmethod
    def fields(self) -> dict[str, Any]:
        """The answer's own fields: name to strict JSON schema, each with a description."""

    @abstractmethod
    def value(self, found: Found, content: Content) -> str:
        """The label that an answer gives; whatever the JSON object holds, no other error is raised.

        Raises:
            Invalid: It gives none.
            Abstained: It declines to.
        """

    @abstractmethod
    def canonical(self, given: str, content: Content) -> str:
        """The label that people gave, as text or JSON, in the form in which annotations are stored.

        Raises:
            Invalid: It is none.
        """

    @abstractmethod
    def written(self, label: str, content: Content) -> Found:
        """The answer's own fields for a canonical label; they satisfy `fields`.

        Raises:
            Invalid: It is no label of this task.
        """

    @abstractmethod
    def measure(self, gold: Sequence[str], given: Sequence[str | None], *, seed: int = 0) -> list[Metric]:
        """Every metric of labels against gold, the headline first; nothing without records.

        Args:
            gold: n canonical labels.
            given: n labels to be measured; None where the annotator gave none, which counts against it.
        """

    def schema(self, *, confidence: bool, rationale: bool = False) -> dict[str, Any]:
        """The strict JSON schema of an answer: every field required, no others allowed; a rationale comes first.

        Ranges are said in words, not as minimum and maximum: several servers refuse these keywords in a strict schema.
        """
        properties: dict[str, Any] = {}
        if rationale:
            properties["rationale"] = {
                "type": "string",
                "description": f"the reasons that lead to the {self.noun}, step by step, in a few sentences",
            }
        properties |= self.fields()
        if confidence:
            properties["confidence"] = {
                "type": "number",
                "description": f"the probability that the {self.noun} is right, from 0 to 1",
            }
        return {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }

    def answer(self, label: str, content: Content, *, confidence: bool) -> Found:
        """The answer that a demonstration with this label shows; people's labels are shown as certain.

        Raises:
            Invalid: It is no label of this task.
        """
        return {**self.written(label, content), **({"confidence": 1.0} if confidence else {})}

    def parse(self, reply: str, content: Content) -> Annotation:
        """Read a raw reply about a content. Any string ends in an annotation, `invalid` with a reason at worst.

        A confidence that is no number from 0 to 1 ("0.9" and "90%" are) is dropped: the label was given all the same.
        """
        try:
            found = find_object(reply)
        except NoAnswer as problem:
            bare = self.bare(reply, content)
            if bare is None:
                return Annotation("invalid", problem=str(problem))
            found = bare
        confidence = number(found.get("confidence"))
        if confidence is not None and not 0 <= confidence <= 1:
            confidence = None
        reasons = found.get("rationale")
        rationale = reasons.strip() or None if isinstance(reasons, str) else None
        try:
            label = self.value(found, content)
        except Abstained:
            return Annotation("abstained", None, confidence, self.scores(found), "the annotator abstained", rationale)
        except Invalid as problem:
            return Annotation("invalid", problem=str(problem))
        return Annotation("labelled", label, confidence, self.scores(found), rationale=rationale)

    def bare(self, reply: str, content: Content) -> Found | None:
        """The answer that a reply without a JSON object gives all the same, if it does."""
        return None

    def scores(self, found: Found) -> dict[str, float] | None:
        """Label to score, where an answer gives them."""
        return None

    def problem(self, label: str, content: Content) -> str | None:
        """What is wrong with a stored label; None where nothing is."""
        try:
            again = self.canonical(label, content)
        except Invalid as problem:
            return str(problem)
        return None if again == label else "it is not in canonical form"

    def check(self, parts: Sequence[str]) -> None:  # noqa: B027
        """Whether it can be about records with parts of these names.

        Raises:
            Invalid: It cannot.
        """

    def named(self, label: str) -> list[str]:
        """Which of `labels` a canonical label names, once for every time it does: what distributions count."""
        return []

    def shown(self, label: str) -> str:
        """A canonical label in words, for tables that people read."""
        return label

    def combine(self, votes: Sequence[Vote]) -> Annotation:
        """What several annotations make together; one at least. Default: the label with the most weight."""
        from annotation_pipelines.tasks.consensus import weighted_vote

        return weighted_vote(votes)

    def present(self, content: Content, view: int) -> Content:
        """The content as it is shown in a view, 0 to `views` - 1; in view 0 nothing of it is changed, only added to."""
        return content

    def seen(self, annotation: Annotation, view: int) -> Annotation:
        """An annotation of the content as shown in a view, said of the content itself."""
        return annotation

    def resolve(self, annotations: Sequence[Annotation]) -> Annotation:
        """What the annotations of all views make together; every one is `labelled` or `abstained`."""
        return annotations[0]


def canonical_json(value: object) -> str:
    """A JSON value in the one form in which it is stored: keys sorted, no blanks, characters as they are."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)
