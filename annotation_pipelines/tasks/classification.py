"""Classification: one label for each record, out of a closed set, which may form a tree."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, StrictBool, model_validator

from annotation_pipelines.content import Content
from annotation_pipelines.tasks.base import Abstained, Found, Invalid, Task
from annotation_pipelines.tasks.choices import CHOICES, choices
from annotation_pipelines.tasks.json_answer import number, shown
from annotation_pipelines.tasks.label_tree import LabelTree, check_paths, flattened, is_nested
from annotation_pipelines.tasks.metrics import hierarchy
from annotation_pipelines.tasks.metrics.bootstrap import Metric
from annotation_pipelines.tasks.metrics.labels import measure
from annotation_pipelines.tasks.settings import ABSTAIN, LabelMatcher, Labels, TaskSettings, listed

_TREE = "They form a tree; the answer is the whole path of a label, as it is written in quotes."


def _as_it_is(labels: object) -> object:
    return labels


LabelsOrTree = Annotated[Labels, BeforeValidator(_as_it_is, json_schema_input_type=dict[str, Any] | list[str])]
"""Labels, or mappings of them within mappings."""


class Classification(TaskSettings):
    """One label for each record, out of a closed set."""

    labels: LabelsOrTree = Field(
        description="Label to description, or a list of labels. The annotator reads the descriptions. Mappings within "
        "mappings make a tree of labels, such as billing/refund."
    )
    hierarchy: StrictBool = Field(
        default=False,
        description="Whether labels are paths in a tree, such as billing/refund. Nested labels always are.",
    )
    abstain: StrictBool = Field(
        default=False, description='Whether the annotator may answer "abstain" instead of guessing.'
    )
    candidates: int | None = Field(
        default=None,
        ge=2,
        description="With many labels: so many of them, the likeliest by embedding, are shown to an endpoint's model "
        "with each record. Default: all labels, in the system prompt.",
    )

    @model_validator(mode="before")
    @classmethod
    def _paths(cls, given: object) -> object:
        if not isinstance(given, dict) or not is_nested(given.get("labels")):
            return given
        if given.get("hierarchy", True) is not True:
            raise ValueError("hierarchy: expected true with nested labels, or no nested labels")
        return {**given, "labels": flattened(given["labels"]), "hierarchy": True}

    @model_validator(mode="after")
    def _possible(self) -> Classification:
        if self.hierarchy:
            check_paths(self.labels)
        if self.candidates is not None and self.candidates >= len(self.labels):
            raise ValueError(
                f"candidates: expected fewer than the {len(self.labels)} labels, found {self.candidates}: leave it out "
                "to show all labels"
            )
        return self

    @property
    def names(self) -> list[str]:
        """The labels, in the order of the declaration."""
        return list(self.labels)

    def make(self) -> ClassificationTask:
        """The task."""
        return ClassificationTask(self)


class ClassificationTask(Task):
    """Asks for one label, and reads it back: {"label": ..., "confidence": ...}.

    Attributes:
        abstain: Whether the annotator may abstain.
        candidates: How many labels are shown with a record; None shows all, in the system prompt.
    """

    kind = "classification"
    parser_version = 1
    headline = "accuracy"
    exclusive = True
    students: tuple[str, ...] = ("linear", "fine_tuned", "static")
    embedded = True
    noun = "label"

    def __init__(self, settings: Classification) -> None:
        self._labels = dict(settings.labels)
        self.abstain, self.candidates = settings.abstain, settings.candidates
        self._tree = LabelTree(self._labels) if settings.hierarchy else None
        self._answers = [*self._labels, *([ABSTAIN] if settings.abstain else [])]
        self._matcher = LabelMatcher(self._answers)

    @property
    def labels(self) -> Mapping[str, str]:
        """Label to description, in the order of the declaration; without abstain."""
        return self._labels

    def instructions(self) -> str:
        """What is asked, with every label and its description; with candidates, the labels come with each record."""
        if self.candidates is None and self._tree is None:
            lines = ["Give the record exactly one of these labels:", *listed(self._labels)]
        elif self.candidates is None:
            lines = [f"Give the record exactly one of these labels. {_TREE}", *self._listed(self._labels)]
        else:
            lines = [
                f'Give the record exactly one of the labels that are listed before it under "{CHOICES}".'
                + (f" {_TREE}" if self._tree else "")
            ]
        if self.abstain:
            lines.append(f'If no label can be told from the record, answer "{ABSTAIN}" instead of guessing.')
        return "\n".join(lines)

    def choices(self, labels: Iterable[str]) -> str:
        """What is said before a record of which only some labels are shown: those, in the declaration's order."""
        return choices(self._listed(labels))

    def _listed(self, labels: Iterable[str]) -> list[str]:
        if self._tree:
            return self._tree.listed(labels)
        kept = set(labels)
        return listed({name: text for name, text in self._labels.items() if name in kept})

    def fields(self) -> dict[str, Any]:
        """The label; without an enumeration where the labels come with each record."""
        if self.candidates is not None:
            told = "one of the labels before the record, exactly as it is written there"
            return {"label": {"type": "string", "description": told}}
        return {
            "label": {
                "type": "string",
                "enum": list(self._answers),
                "description": "one of the labels above, exactly as it is written there",
            }
        }

    def value(self, found: Found, content: Content) -> str:
        """The label, matched exactly first, then without regard to case, blanks and Unicode form.

        In a tree its whole path, or its name where it occurs once.
        """
        if "label" not in found:
            raise Invalid(f"the answer has no label: {shown(found)}")
        label = self._match(found["label"])
        if label is None:
            if self._tree:
                raise Invalid(self._tree.problem(found["label"]))
            raise Invalid(f"the label {shown(found['label'])} is not in the set")
        if self.abstain and label == ABSTAIN:
            raise Abstained
        return label

    def bare(self, reply: str, content: Content) -> Found | None:
        """A reply that is a label and nothing else is taken too."""
        label = self._match(reply.strip().strip("\"'`").strip())
        return {"label": label} if label else None

    def _match(self, value: object) -> str | None:
        label = self._matcher.match(value)
        return self._tree.match(value) if label is None and self._tree else label

    def scores(self, found: Found) -> dict[str, float] | None:
        """Label to score; what is no map from labels to numbers is dropped."""
        given = found.get("scores")
        if not isinstance(given, dict) or not given:
            return None
        scores: dict[str, float] = {}
        for name, score in given.items():
            label, figure = self._match(name), number(score)
            if label is None or figure is None or label in scores:
                return None
            scores[label] = figure
        return scores

    def canonical(self, given: str, content: Content) -> str:
        """The label as it is: one of the set."""
        if given not in self._labels:
            raise Invalid(f"expected one of {', '.join(self._labels)}, found {given!r}")
        return given

    def written(self, label: str, content: Content) -> Found:
        """The label; abstain where that is allowed."""
        if label not in self._answers:
            raise Invalid(f"expected one of {', '.join(self._answers)}, found {label!r}")
        return {"label": label}

    def named(self, label: str) -> list[str]:
        """The label."""
        return [label]

    def measure(self, gold: Sequence[str], given: Sequence[str | None], *, seed: int = 0) -> list[Metric]:
        """accuracy, macro F1, kappa, F1 of each label; of a tree also hierarchical F1 and accuracy at each level."""
        labels = list(self._labels)
        figures = measure(gold, given, labels, seed=seed)
        return [*figures, *hierarchy.measure(gold, given, labels, seed=seed)] if self._tree else figures
