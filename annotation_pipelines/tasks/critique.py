"""Critique: what is wrong with a response, in words, with a better response and a score where these are asked for.

Feedback in words and a response revised by it are what Saunders et al. 2022 (arXiv 2206.05802) and Madaan et al. 2023
(arXiv 2303.17651) learn from; the score makes the response's quality countable.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field, StrictBool, model_validator

from annotation_pipelines.content import Content
from annotation_pipelines.declaration_parts import NonEmpty, Part, number_only
from annotation_pipelines.tasks.base import Annotation, Found, Invalid, Task, Vote, canonical_json
from annotation_pipelines.tasks.consensus import weighted_vote
from annotation_pipelines.tasks.json_answer import shown
from annotation_pipelines.tasks.metrics.bootstrap import Metric
from annotation_pipelines.tasks.metrics.critique import measure
from annotation_pipelines.tasks.rating import Rating, RatingTask
from annotation_pipelines.tasks.settings import TaskSettings, Types, listed

_NOTHING = Content.of_text("")


class Score(Part):
    """The scale of a critique's score: whole numbers."""

    model_config = ConfigDict(populate_by_name=False)

    lowest: Annotated[int, BeforeValidator(number_only)] = Field(alias="from", description="The worst score.")
    highest: Annotated[int, BeforeValidator(number_only)] = Field(alias="to", description="The best score.")

    @model_validator(mode="after")
    def _a_scale(self) -> Score:
        self.rating()
        return self

    def rating(self) -> RatingTask:
        """The scale, as that of a rating.

        Raises:
            ValueError: It is none.
        """
        return Rating.model_validate({"from": self.lowest, "to": self.highest}).make()


class Critique(TaskSettings):
    """Feedback on a response, in words, with a revised response."""

    of: list[NonEmpty] | None = Field(
        default=None,
        min_length=1,
        description="The parts of the record that the feedback is about; the last of them is what is revised. Default: "
        "the last part of the record.",
    )
    criteria: Types | None = Field(
        default=None, description="What to look at: name to description, or a list of names. Default: the whole."
    )
    revise: StrictBool = Field(default=True, description="Whether a better response is to be written.")
    score: Score | None = Field(
        default=None, description="The scale of a score for the response as it is, {from: 1, to: 10}; default: none."
    )

    def make(self) -> CritiqueTask:
        """The task."""
        return CritiqueTask(self)


class CritiqueTask(Task):
    """Asks for feedback, and reads it back: {"critique": ..., "revision": ..., "score": ..., "confidence": ...}.

    The label is the object of these as canonical JSON. A revision that equals the response is kept: to find nothing to
    improve is an answer; `unrevised` tells.
    """

    kind = "critique"
    headline = "judge_score"

    def __init__(self, settings: Critique) -> None:
        self._of = list(settings.of or [])
        self._criteria = dict(settings.criteria or {})
        self._revise = settings.revise
        self._scale = settings.score.rating() if settings.score else None

    def check(self, parts: Sequence[str]) -> None:
        """Whether records have the parts that the feedback is about.

        Raises:
            Invalid: They have not.
        """
        if missing := [part for part in self._of if part not in parts]:
            raise Invalid(
                f"it is about the parts {', '.join(self._of)}, found no {' and no '.join(missing)} among the parts "
                f"of the source ({', '.join(parts)})"
            )

    def instructions(self) -> str:
        """What the feedback is about, and what it is made of."""
        if self._of:
            about = " and ".join(json.dumps(part, ensure_ascii=False) for part in self._of)
            lines = [f"Criticise {'these parts' if len(self._of) > 1 else 'this part'} of the record: {about}."]
        else:
            lines = ["Criticise the record; where it has several parts, the last of them in the light of the others."]
        if self._criteria:
            lines += ["Look at:", *listed(self._criteria)]
        lines.append("Say what is wrong or missing, where, and how to mend it; say so if nothing is.")
        if self._revise:
            what = f"the part {json.dumps(self._of[-1], ensure_ascii=False)}" if self._of else "what you criticise"
            lines.append(f"Then write {what} anew, better by your own critique; unchanged if nothing is wrong.")
        if self._scale:
            lowest, highest = (f"{end:g}" for end in self._scale.ends)
            lines.append(
                f"Score it as it stands, before your revision, from {lowest} (worst) to {highest} (best)"
                f"{self._scale.listed}."
            )
        return "\n".join(lines)

    def fields(self) -> dict[str, Any]:
        """critique; revision and score where declared."""
        fields: dict[str, Any] = {"critique": {"type": "string", "description": "what is wrong, and how to mend it"}}
        if self._revise:
            fields["revision"] = {"type": "string", "description": "the whole text anew, and nothing else"}
        if self._scale:
            fields["score"] = self._scale.fields()["rating"]
        return fields

    def value(self, found: Found, content: Content) -> str:
        """The object as canonical JSON; texts without the blanks around them."""
        made: dict[str, Any] = {"critique": _text(found, "critique")}
        if self._revise:
            made["revision"] = _text(found, "revision")
        if self._scale:
            if "score" not in found:
                raise Invalid("the answer has no score")
            try:
                made["score"] = int(self._scale.value({"rating": found["score"]}, _NOTHING))
            except Invalid as problem:
                raise Invalid(str(problem).replace("the rating", "the score")) from None
        return canonical_json(made)

    def canonical(self, given: str, content: Content) -> str:
        """The JSON object that people gave, with the same fields as an answer."""
        try:
            found = json.loads(given)
        except (ValueError, RecursionError):
            raise Invalid(f"expected a JSON object, found {shown(given)}") from None
        if not isinstance(found, dict):
            raise Invalid(f"expected a JSON object, found {shown(found)}")
        if unknown := [name for name in found if name not in self.fields()]:
            raise Invalid(f"expected {', '.join(self.fields())} alone, found {shown(unknown[0])} too")
        return self.value(found, content)

    def written(self, label: str, content: Content) -> Found:
        """The object."""
        written: Found = json.loads(self.canonical(label, content))
        return {name: written[name] for name in self.fields()}

    def named(self, label: str) -> list[str]:
        """The score, where there is one with few values."""
        return self._scale.named(str(json.loads(label)["score"])) if self._scale else []

    @property
    def labels(self) -> Mapping[str, str]:
        """The scores, where they are asked for and few; critiques themselves are open."""
        return self._scale.labels if self._scale else {}

    def shown(self, label: str) -> str:
        """The critique, headed by the score."""
        found = json.loads(label)
        return f"{found['score']}: {found['critique']}" if "score" in found else str(found["critique"])

    def unrevised(self, label: str, content: Content) -> bool:
        """Whether a revision leaves the response as it is, but for blanks; false where none was asked for."""
        part = self._of[-1] if self._of else content.names[-1]
        revision = json.loads(label).get("revision")
        return isinstance(revision, str) and revision.split() == content[part].split()

    def measure(self, gold: Sequence[str], given: Sequence[str | None], *, seed: int = 0) -> list[Metric]:
        """judge_score, and how far the scores lie from people's; nothing where no score is asked for.

        Two critiques may both be right and share no word, so texts are not compared; how good one is has to be rated by
        another annotator. What is measured is the score that the annotator gives the responses: its mean, and its
        agreement with the scores in gold.
        """
        if not self._scale:
            return []
        return measure(
            [float(json.loads(label)["score"]) for label in gold],
            [None if label is None else float(json.loads(label)["score"]) for label in given],
            *self._scale.ends,
            seed=seed,
        )

    def combine(self, votes: Sequence[Vote]) -> Annotation:
        """The critique with the highest confidence, of equally sure ones that with the most weight, then the first.

        Texts cannot be averaged. A critique without a confidence comes after all that state one.

        Args:
            votes: One at least. Where most weight abstained, so do they together.
        """
        given = [vote for vote in votes if vote.annotation.label is not None]
        if sum(vote.weight for vote in given) <= sum(vote.weight for vote in votes) / 2:
            return weighted_vote(votes)

        def sure(vote: Vote) -> tuple[float, float]:
            confidence = vote.annotation.confidence
            return (-1.0 if confidence is None else confidence, vote.weight)

        return max(given, key=sure).annotation


def _text(found: Found, name: str) -> str:
    if name not in found:
        raise Invalid(f"the answer has no {name}: {shown(found)}")
    given = found[name]
    if not isinstance(given, str):
        raise Invalid(f"the {name} is {shown(given)}: expected text")
    text = given.strip()
    if not text:
        raise Invalid(f"the {name} is empty")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Invalid(f"the {name} holds half of a character (a lone surrogate)") from None
    return text
