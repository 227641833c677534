"""Preference: which of two parts of a record is better, A or B, as a whole or by several criteria.

Models favour a place: many choose what they are shown first (Wang et al. 2023, arXiv 2305.17926; Zheng et al. 2023,
arXiv 2306.05685). So both orders are asked about, unless the declaration says otherwise; what they say together is
decided by `resolve`, and `metrics.preference.position_bias` counts how often they disagree.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from pydantic import Field, StrictBool, model_validator

from annotation_pipelines.content import Content
from annotation_pipelines.declaration_parts import NonEmpty
from annotation_pipelines.tasks.base import Annotation, Found, Invalid, Task, Vote, canonical_json
from annotation_pipelines.tasks.consensus import weighted_vote
from annotation_pipelines.tasks.json_answer import shown
from annotation_pipelines.tasks.metrics.bootstrap import Metric
from annotation_pipelines.tasks.metrics.preference import SHOWN_FIRST, SHOWN_SECOND, measure, score_key
from annotation_pipelines.tasks.settings import LabelMatcher, TaskSettings, Types, listed

FIRST, SECOND, TIE = "A", "B", "tie"

_SWAPPED = {FIRST: SECOND, SECOND: FIRST, TIE: TIE}


class Preference(TaskSettings):
    """Which of two parts of a record is better."""

    first: NonEmpty = Field(default="response_a", description="The part of the record that is A.")
    second: NonEmpty = Field(default="response_b", description="The part of the record that is B.")
    criteria: Types | None = Field(
        default=None,
        description="What to compare them by: name to description, or a list of names. Default: as a whole.",
    )
    tie: StrictBool = Field(default=True, description="Whether neither may be better.")
    both_orders: StrictBool = Field(
        default=True,
        description="Whether the annotator is asked twice, with the two parts in either order: twice the calls, but "
        "what it owes to the order can be told.",
    )

    @model_validator(mode="after")
    def _two_parts(self) -> Preference:
        if self.first == self.second:
            raise ValueError(f"expected two parts, found {self.first!r} as first and as second")
        return self

    def make(self) -> PreferenceTask:
        """The task."""
        return BothOrdersTask(self) if self.both_orders else PreferenceTask(self)


class PreferenceTask(Task):
    """Asks which of two parts is better, and reads it back: {"preference": "A", "confidence": ...}.

    With several criteria the preference is an object, criterion to A, B or tie; so is the label, as canonical JSON.
    """

    kind = "preference"
    headline = "accuracy"
    students = ("linear",)

    def __init__(self, settings: Preference) -> None:
        self.first, self.second = settings.first, settings.second
        self._criteria = dict(settings.criteria or {})
        self._answers = [FIRST, SECOND, *([TIE] if settings.tie else [])]
        self._matcher = LabelMatcher(self._answers)
        self._parts = LabelMatcher([self.first, self.second])

    @property
    def labels(self) -> Mapping[str, str]:
        """A, B and, where allowed, tie."""
        meanings = {FIRST: f"{self.first} is better", SECOND: f"{self.second} is better", TIE: "neither is better"}
        return {answer: meanings[answer] for answer in self._answers}

    @property
    def criteria(self) -> Sequence[str]:
        """The names of the criteria; none where the parts are compared as a whole."""
        return list(self._criteria)

    def check(self, parts: Sequence[str]) -> None:
        """Whether records have both parts.

        Raises:
            Invalid: They have not.
        """
        if missing := [part for part in (self.first, self.second) if part not in parts]:
            raise Invalid(
                f"it compares the parts {self.first} and {self.second}, found no {' and no '.join(missing)} "
                f"among the parts of the source ({', '.join(parts)})"
            )

    def instructions(self) -> str:
        """What is compared, by which criteria, and what the answers mean."""
        lines = [
            f"Compare two parts of the record. {FIRST} is the part {json.dumps(self.first, ensure_ascii=False)}, "
            f"{SECOND} is the part {json.dumps(self.second, ensure_ascii=False)}."
        ]
        if self._criteria:
            lines += ["Say for each of these criteria which is better:", *listed(self._criteria)]
        else:
            lines.append("Say which is better.")
        lines.append(f'Answer "{FIRST}" or "{SECOND}"' + (f', or "{TIE}" if neither is better.' if self._tie else "."))
        lines.append("The order in which they are shown says nothing. An empty part is a response that says nothing.")
        return "\n".join(lines)

    def fields(self) -> dict[str, Any]:
        """The preference: one answer, or one for each criterion."""
        if not self._criteria:
            return {"preference": self._field("which is better")}
        properties = {name: self._field(f"which is better by {name}") for name in self._criteria}
        return {
            "preference": {
                "type": "object",
                "description": "which is better by each of the criteria above",
                "properties": properties,
                "required": list(properties),
                "additionalProperties": False,
            }
        }

    def value(self, found: Found, content: Content) -> str:
        """A, B or tie, also where the answer names the part; with several criteria an object of these."""
        if "preference" not in found:
            raise Invalid(f"the answer has no preference: {shown(found)}")
        given = found["preference"]
        if not self._criteria:
            return self._answer(given, "the preference")
        if not isinstance(given, dict):
            raise Invalid(f"expected an object of {self._listed()}, found {shown(given)}")
        if missing := [name for name in self._criteria if name not in given]:
            raise Invalid(f"the preference says nothing about {', '.join(missing)}")
        if unknown := [name for name in given if name not in self._criteria]:
            raise Invalid(f"expected {self._listed()} alone, found {shown(unknown[0])} too")
        return canonical_json({name: self._answer(given[name], f"the preference by {name}") for name in self._criteria})

    def bare(self, reply: str, content: Content) -> Found | None:
        """A reply that is A, B or tie and nothing else is taken too."""
        text = reply.strip().strip("\"'`").strip()
        return {"preference": text} if not self._criteria and self._matcher.match(text) else None

    def canonical(self, given: str, content: Content) -> str:
        """A, B or tie; with several criteria the JSON object of these."""
        if not self._criteria:
            return self._answer(given.strip(), "the preference")
        return self.value({"preference": _object(given)}, content)

    def written(self, label: str, content: Content) -> Found:
        """The preference."""
        by = self.by_criterion(self.canonical(label, content))
        return {"preference": by if self._criteria else by[""]}

    def named(self, label: str) -> list[str]:
        """A, B or tie, once for each criterion."""
        return list(self.by_criterion(label).values())

    def shown(self, label: str) -> str:
        """The preference; with several criteria in the form "clarity: A, truth: tie"."""
        by = self.by_criterion(label)
        return ", ".join(f"{name}: {by[name]}" for name in self._criteria) if self._criteria else label

    def by_criterion(self, label: str) -> dict[str, str]:
        """Criterion to A, B or tie, for a canonical label; the one criterion of a whole is ''."""
        if not self._criteria:
            return {"": label}
        by: dict[str, str] = json.loads(label)
        return by

    def measure(self, gold: Sequence[str], given: Sequence[str | None], *, seed: int = 0) -> list[Metric]:
        """accuracy, macro F1, kappa and F1 of each answer; with several criteria their means, and each criterion's."""
        criteria = self.criteria or [""]
        truth = [self.by_criterion(label) for label in gold]
        said = [None if label is None else self.by_criterion(label) for label in given]
        return measure(
            {name: [by[name] for by in truth] for name in criteria},
            {name: [None if by is None else by[name] for by in said] for name in criteria},
            self._answers,
            seed=seed,
        )

    def combine(self, votes: Sequence[Vote]) -> Annotation:
        """The answer with the most weight, criterion by criterion; the confidence is the mean share of the weight."""
        if not self._criteria:
            return weighted_vote(votes)
        given = [vote for vote in votes if vote.annotation.label is not None]
        if sum(vote.weight for vote in given) <= sum(vote.weight for vote in votes) / 2:
            return weighted_vote(votes)
        made = {name: weighted_vote([self._about(vote, name) for vote in given]) for name in self._criteria}
        return Annotation(
            "labelled",
            canonical_json({name: annotation.label for name, annotation in made.items()}),
            fmean(annotation.confidence or 0.0 for annotation in made.values()),
            {
                score_key(name, answer): share
                for name, annotation in made.items()
                for answer, share in (annotation.scores or {}).items()
            },
            rationale=next((vote.annotation.rationale for vote in given if vote.annotation.rationale), None),
        )

    @property
    def _tie(self) -> bool:
        return TIE in self._answers

    def _field(self, description: str) -> dict[str, Any]:
        return {"type": "string", "enum": list(self._answers), "description": description}

    def _answer(self, given: object, what: str) -> str:
        answer = self._matcher.match(given) if isinstance(given, str) else None
        if answer is None and isinstance(given, str) and (part := self._parts.match(given)):
            answer = FIRST if part == self.first else SECOND
        if answer is None:
            raise Invalid(f"{what} is {shown(given)}: expected one of {', '.join(self._answers)}")
        return answer

    def _about(self, vote: Vote, criterion: str) -> Vote:
        label = self.by_criterion(vote.annotation.label or "")[criterion]
        return Vote(Annotation("labelled", label, vote.annotation.confidence), vote.weight)

    def _listed(self) -> str:
        return ", ".join(self._criteria)


class BothOrdersTask(PreferenceTask):
    """A preference that is asked in both orders.

    Its `scores` say how the two orders voted: the share of each answer, and under `shown first` and `shown second` the
    share of the orders in which the part in that place was preferred. With several criteria each key is headed by its
    criterion, as in "clarity: A".
    """

    views = 2

    def present(self, content: Content, view: int) -> Content:
        """In the second view the two parts have each other's texts."""
        if view == 0:
            return content
        return content.with_texts({self.first: content[self.second], self.second: content[self.first]})

    def seen(self, annotation: Annotation, view: int) -> Annotation:
        """In the second view A is B, and B is A."""
        if view == 0 or annotation.label is None:
            return annotation
        by = {name: _SWAPPED[answer] for name, answer in self.by_criterion(annotation.label).items()}
        return Annotation(
            annotation.state,
            canonical_json(by) if self._criteria else by[""],
            annotation.confidence,
            annotation.scores,
            annotation.problem,
            annotation.rationale,
        )

    def resolve(self, annotations: Sequence[Annotation]) -> Annotation:
        """What both orders say together, criterion by criterion.

        Where they agree, that, with their mean confidence. Where they disagree, a tie with half of it; if there are no
        ties, the answer of the surer order with confidence 0.5, and that of the first where neither is surer. An order
        that states no confidence counts as sure; if neither states one, none is stated of an agreement.

        Args:
            annotations: Of the first order and of the second, both of the content as it is (see `seen`).
        """
        one, other = annotations
        if one.label is None or other.label is None:
            return one if one.label is None else other
        first, second = self.by_criterion(one.label), self.by_criterion(other.label)
        stated = [a.confidence for a in (one, other) if a.confidence is not None]
        surer = first if _sure(one) >= _sure(other) else second
        answers: dict[str, str] = {}
        confidences: list[float | None] = []
        scores: dict[str, float] = {}
        for name in self._criteria or [""]:
            agreed = first[name] == second[name]
            if agreed:
                answers[name] = first[name]
                confidences.append(fmean(stated) if stated else None)
            else:
                answers[name] = TIE if self._tie else surer[name]
                confidences.append(0.5 * (fmean(stated) if stated else 1.0) if self._tie else 0.5)
            scores |= _scores(name, first[name], second[name])
        known = [confidence for confidence in confidences if confidence is not None]
        return Annotation(
            "labelled",
            canonical_json(answers) if self._criteria else answers[""],
            fmean(known) if known else None,
            scores,
            rationale=next((a.rationale for a in (one, other) if a.label and a.rationale), None),
        )


def _scores(criterion: str, first: str, second: str) -> dict[str, float]:
    """How two orders voted: in the first A is shown first, in the second B."""
    scores = dict.fromkeys([first, second], 0.0)
    for answer in (first, second):
        scores[answer] += 0.5
    scores[SHOWN_FIRST] = ((first == FIRST) + (second == SECOND)) / 2
    scores[SHOWN_SECOND] = ((first == SECOND) + (second == FIRST)) / 2
    return {score_key(criterion, key): share for key, share in scores.items()}


def _sure(annotation: Annotation) -> float:
    return 1.0 if annotation.confidence is None else annotation.confidence


def _object(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise Invalid(f"expected a JSON object, found {shown(text)}") from None
