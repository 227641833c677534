"""Multilabel: a set of labels for each record, out of a closed set; perhaps none."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from pydantic import Field, StrictBool, model_validator

from annotation_pipelines.content import Content
from annotation_pipelines.tasks.base import Abstained, Annotation, Found, Invalid, Task, Vote, canonical_json
from annotation_pipelines.tasks.choices import CHOICES, choices
from annotation_pipelines.tasks.json_answer import number, shown
from annotation_pipelines.tasks.metrics.bootstrap import Metric
from annotation_pipelines.tasks.metrics.multilabel import measure
from annotation_pipelines.tasks.settings import ABSTAIN, LabelMatcher, Labels, TaskSettings, listed

NONE = "none"
"""What an empty set may be called, where no label is called so."""

_SEPARATOR = re.compile(r"([,;|])")
_LEAST = 1e-9


class Multilabel(TaskSettings):
    """A set of labels for each record, out of a closed set."""

    labels: Labels = Field(
        description="Label to description, or a list of labels. The annotator reads the descriptions."
    )
    min_labels: int = Field(default=0, ge=0, description="The fewest labels of a record; 0 allows none.")
    max_labels: int | None = Field(default=None, ge=1, description="The most labels of a record; default: all.")
    abstain: StrictBool = Field(
        default=False, description='Whether the annotator may answer "abstain" instead of guessing.'
    )
    candidates: int | None = Field(
        default=None,
        ge=2,
        description="With many labels: so many of them, the likeliest by embedding, are shown to an endpoint's model "
        "with each record. Default: all labels, in the system prompt.",
    )

    @model_validator(mode="after")
    def _possible(self) -> Multilabel:
        if self.min_labels > len(self.labels):
            raise ValueError(f"min_labels: expected at most the {len(self.labels)} labels, found {self.min_labels}")
        if self.max_labels is not None and self.max_labels < self.min_labels:
            raise ValueError(f"max_labels: expected {self.min_labels} or more, found {self.max_labels}")
        if self.candidates is not None and not self.min_labels <= self.candidates < len(self.labels):
            raise ValueError(
                f"candidates: expected from {max(2, self.min_labels)} to {len(self.labels) - 1}, fewer than there are "
                f"labels, found {self.candidates}: leave it out to show all labels"
            )
        return self

    @property
    def names(self) -> list[str]:
        """The labels, in the order of the declaration."""
        return list(self.labels)

    def make(self) -> MultilabelTask:
        """The task."""
        return MultilabelTask(self)


class MultilabelTask(Task):
    """Asks for every label that applies, and reads them back: {"labels": [...], "confidence": ...}.

    A canonical label is the JSON list of the labels in the order of the declaration, `[]` for none of them.

    Attributes:
        candidates: How many labels are shown with a record; None shows all, in the system prompt.
    """

    kind = "multilabel"
    parser_version = 1
    headline = "micro_f1"
    embedded = True

    def __init__(self, settings: Multilabel) -> None:
        self._labels = dict(settings.labels)
        self.abstain, self.candidates = settings.abstain, settings.candidates
        self.min_labels, self.max_labels = settings.min_labels, settings.max_labels
        self._order = {label: index for index, label in enumerate(self._labels)}
        self._matcher = LabelMatcher([*self._labels, *([ABSTAIN] if settings.abstain else [])])
        self._longest = max(len(_SEPARATOR.findall(label)) for label in self._labels) + 1

    @property
    def labels(self) -> Mapping[str, str]:
        """Label to description, in the order of the declaration; without abstain."""
        return self._labels

    def instructions(self) -> str:
        """What is asked, with every label and its description; with candidates, the labels come with each record."""
        if self.candidates is None:
            lines = [f"Give the record every one of these labels that applies, {self._how_many}:"]
            lines += listed(self._labels)
        else:
            lines = [
                f"Give the record every label that applies, {self._how_many}, of those that are listed before it "
                f'under "{CHOICES}".'
            ]
        if self.min_labels == 0:
            lines.append("If none of them applies, answer with an empty list.")
        if self.abstain:
            lines.append(f'If it cannot be told from the record, answer ["{ABSTAIN}"] instead of guessing.')
        return "\n".join(lines)

    @property
    def _how_many(self) -> str:
        least, most = self.min_labels, self.max_labels
        if most is None:
            return f"{_labels(least)} at least" if least else "be it one, several or none"
        if least == most:
            return f"exactly {_labels(most)}"
        return f"from {least} to {_labels(most)}" if least else f"{_labels(most)} at most"

    def choices(self, labels: Iterable[str]) -> str:
        """What is said before a record of which only some labels are shown: those, in the declaration's order."""
        shown_here = set(labels)
        return choices(listed({name: text for name, text in self._labels.items() if name in shown_here}))

    def fields(self) -> dict[str, Any]:
        """The labels; without an enumeration where they come with each record."""
        one: dict[str, Any] = {"type": "string"}
        if self.candidates is None:
            one["enum"] = [*self._labels, *([ABSTAIN] if self.abstain else [])]
        return {
            "labels": {
                "type": "array",
                "items": one,
                "description": "the labels that apply, each exactly as it is written "
                + ("above" if self.candidates is None else "before the record"),
            }
        }

    def value(self, found: Found, content: Content) -> str:
        """The labels, each matched exactly first, then without regard to case, blanks and Unicode form.

        A string is taken where it is one label, or several with separators, or says that there are none.
        """
        if "labels" not in found:
            raise Invalid(f"the answer has no labels: {shown(found)}")
        given = found["labels"]
        if isinstance(given, str):
            given = self._of_text(given, self._matcher)
        if not isinstance(given, list):
            raise Invalid(f"expected a list of labels, found {shown(given)}")
        if len(given) == 1 and self._is_none(given[0]):
            given = []
        labels: list[str] = []
        for name in given:
            label = self._matcher.match(name)
            if label is None:
                raise Invalid(f"the label {shown(name)} is not in the set")
            labels.append(label)
        if self.abstain and ABSTAIN in labels:
            if set(labels) == {ABSTAIN}:
                raise Abstained
            raise Invalid(f"expected labels or {ABSTAIN}, found both: {shown(given)}")
        return self._checked(labels)

    def bare(self, reply: str, content: Content) -> Found | None:
        """A reply that is a JSON list, or labels and nothing else, is taken too."""
        text = reply.strip().strip("\"'`").strip()
        if not text:
            return None
        try:
            labels = self._of_text(text, self._matcher)
        except Invalid:
            return None
        return {"labels": labels}

    def scores(self, found: Found) -> dict[str, float] | None:
        """Label to score; what is no map from labels to numbers is dropped."""
        given = found.get("scores")
        if not isinstance(given, dict) or not given:
            return None
        scores: dict[str, float] = {}
        for name, score in given.items():
            label, figure = self._matcher.match(name), number(score)
            if label is None or figure is None or label in scores:
                return None
            scores[label] = figure
        return scores

    def canonical(self, given: str, content: Content) -> str:
        """The labels of a JSON list, or of a text with | or ; or , between them; `none` and `[]` are no label.

        A label that holds such a sign itself wins over two that it could be cut into. Labels are taken as they are
        declared, numbers are not taken for their places.
        """
        if not given.strip():
            raise Invalid(f"expected labels, found an empty text: write [] or {NONE} where no label applies")
        labels = self._of_text(given, _Exact(self._labels))
        for name in labels:
            if not isinstance(name, str) or name not in self._labels:
                raise Invalid(f"expected labels out of {', '.join(self._labels)}, found {shown(name)}")
        return self._checked(labels)

    def written(self, label: str, content: Content) -> Found:
        """The labels as a list."""
        return {"labels": self.read(label)}

    def read(self, label: str) -> list[str]:
        """The labels that a canonical label names.

        Raises:
            Invalid: It is not in canonical form.
        """
        try:
            labels = json.loads(label)
        except (ValueError, RecursionError):
            labels = None
        if not isinstance(labels, list) or not all(isinstance(name, str) for name in labels):
            raise Invalid(f"expected a JSON list of labels, found {shown(label)}")
        if any(name not in self._labels for name in labels) or self._ordered(labels) != label:
            raise Invalid(f"expected labels of the task as a JSON list in its order, found {shown(label)}")
        return labels

    def named(self, label: str) -> list[str]:
        """The labels; none where it cannot be read."""
        try:
            return self.read(label)
        except Invalid:
            return []

    def shown(self, label: str) -> str:
        """The labels with commas between them."""
        try:
            return ", ".join(self.read(label)) or "(none)"
        except Invalid:
            return label

    def measure(self, gold: Sequence[str], given: Sequence[str | None], *, seed: int = 0) -> list[Metric]:
        """Micro and macro F1, Jaccard index, exact matches, and F1 of each label."""
        return measure(
            [self.read(label) for label in gold],
            [None if label is None else self.named(label) for label in given],
            list(self._labels),
            seed=seed,
        )

    def combine(self, votes: Sequence[Vote]) -> Annotation:
        """Every label with at least half of the weight of those who did not abstain.

        Where these are fewer than min_labels or more than max_labels, those with the most weight are taken; of equal
        ones the first declared. Abstentions win with more than half of the weight.

        Returns:
            As confidence the mean, over the labels that anyone named, of the share that agrees with what was decided
            about the label; as scores the share for each of them; the first rationale for just these labels, or the
            first at all.
        """
        given = [vote for vote in votes if vote.annotation.label is not None]
        total, deciding = sum(vote.weight for vote in votes), sum(vote.weight for vote in given)
        if not given or total - deciding > total / 2 + _LEAST:
            declined = next(vote.annotation for vote in votes if vote.annotation.label is None)
            return Annotation(
                declined.state, None, (total - deciding) / total, problem=declined.problem, rationale=declined.rationale
            )
        weight: defaultdict[str, float] = defaultdict(float)
        for vote in given:
            for name in self.named(vote.annotation.label or ""):
                weight[name] += vote.weight
        shares = {name: min(weight[name] / deciding, 1.0) for name in self._labels if name in weight}
        ranked = sorted(self._labels, key=lambda name: (-round(shares.get(name, 0.0), 9), self._order[name]))
        kept = sum(shares.get(name, 0.0) >= 0.5 - _LEAST for name in ranked)
        chosen = ranked[: min(max(kept, self.min_labels), self.max_labels or len(ranked))]
        label = self._ordered(chosen)
        agreeing = [share if name in chosen else 1 - share for name, share in shares.items()]
        reasons = [(vote.annotation.label == label, vote.annotation.rationale) for vote in given]
        return Annotation(
            "labelled",
            label,
            fmean(agreeing) if agreeing else 1.0,
            shares or None,
            rationale=next((text for same, text in sorted(reasons, key=lambda r: not r[0]) if text), None),
        )

    def ordered(self, labels: Iterable[str]) -> str:
        """The canonical label for labels of the task."""
        return self._ordered(labels)

    def _ordered(self, labels: Iterable[str]) -> str:
        return canonical_json(sorted(set(labels), key=lambda name: self._order[name]))

    def _checked(self, labels: Sequence[str]) -> str:
        n = len(set(labels))
        if n < self.min_labels:
            raise Invalid(f"expected {_labels(self.min_labels)} at least, found {n or 'none'}")
        if self.max_labels is not None and n > self.max_labels:
            raise Invalid(f"expected {_labels(self.max_labels)} at most, found {n}")
        return self._ordered(labels)

    def _is_none(self, name: object) -> bool:
        return isinstance(name, str) and name.strip().casefold() == NONE and self._matcher.match(name) is None

    def _of_text(self, text: str, matcher: LabelMatcher | _Exact) -> list[Any]:
        """The members of a JSON list, or the labels of a text with separators."""
        text = text.strip()
        whole = matcher.match(text)
        if whole is not None:
            return [whole]
        if self._is_none(text):
            return []
        if text.startswith("["):
            try:
                listed_there = json.loads(text)
            except (ValueError, RecursionError):
                raise Invalid(f"the list of labels is not valid JSON: {shown(text)}") from None
            if isinstance(listed_there, list):
                return listed_there
        return self._cut(text, matcher)

    def _cut(self, text: str, matcher: LabelMatcher | _Exact) -> list[str]:
        """The labels that a text consists of; the longest that fits first, so that one with a comma stays whole."""
        pieces = _SEPARATOR.split(text)
        while len(pieces) > 1 and not pieces[-1].strip():  # a separator after the last label
            pieces = pieces[:-2]
        ends = [*range(0, len(pieces), 2)]
        # From the end: at every piece the longest label after which the rest can be read too.
        following: dict[int, tuple[str, int]] = {}
        for start in reversed(ends):
            for stop in range(min(start + 2 * self._longest - 1, len(pieces)), start, -2):
                label = matcher.match("".join(pieces[start:stop]).strip())
                if label is not None and (stop == len(pieces) or stop + 1 in following):
                    following[start] = (label, stop + 1)
                    break
        labels, at = [], 0
        while at in following:
            label, at = following[at]
            labels.append(label)
        if at < len(pieces):
            unknown = next((p.strip() for p in pieces[::2] if matcher.match(p.strip()) is None), text)
            raise Invalid(f"the label {shown(unknown)} is not in the set")
        return labels


class _Exact:
    """Finds labels as they are declared only: what people gave is not guessed at."""

    def __init__(self, labels: Iterable[str]) -> None:
        self._labels = frozenset(labels)

    def match(self, value: object) -> str | None:
        return value if isinstance(value, str) and value in self._labels else None


def _labels(n: int) -> str:
    return f"{n} label" if n == 1 else f"{n} labels"
