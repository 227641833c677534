"""Rating: a place on a scale of numbers, or of names in order, for each record."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from annotation_pipelines.content import Content
from annotation_pipelines.declaration_parts import Text, number_only
from annotation_pipelines.tasks.base import Annotation, Found, Invalid, Task, Vote
from annotation_pipelines.tasks.consensus import weighted_vote
from annotation_pipelines.tasks.json_answer import shown
from annotation_pipelines.tasks.metrics.bootstrap import Metric
from annotation_pipelines.tasks.metrics.rating import measure
from annotation_pipelines.tasks.settings import LabelMatcher, Labels, TaskSettings, listed

FEW = 21
"""A numeric scale with so many values or fewer has a closed vocabulary: distributions are counted over its values."""

_PLACES = Decimal("1e-9")
"""A number on a scale without steps is kept to nine decimal places."""

_FARTHEST = 10**15
"""Beyond it nine decimal places are more digits than a float has."""

_NUMBER = re.compile(r"[+-]?(\d{1,40}(\.\d{0,40})?|\.\d{1,40})([eE][+-]?\d{1,2})?", re.ASCII)

Number = Annotated[float, BeforeValidator(number_only)]


def _numbers_as_text(anchors: object) -> object:
    if not isinstance(anchors, dict):
        raise ValueError(f"expected number: description pairs, found {anchors!r}")
    return {
        str(number) if isinstance(number, int | float) and not isinstance(number, bool) else number: text
        for number, text in anchors.items()
    }


class Rating(TaskSettings):
    """A place on a scale for each record: a number between two others, or one of several names in order."""

    model_config = ConfigDict(populate_by_name=False)

    lowest: Number | None = Field(default=None, alias="from", description="The low end of a scale of numbers.")
    highest: Number | None = Field(default=None, alias="to", description="The high end of a scale of numbers.")
    step: Annotated[float | Literal["any"], BeforeValidator(number_only)] | None = Field(
        default=None,
        description="How far two neighbouring numbers of the scale are apart; any: all numbers between the ends. "
        "Default: 1.",
    )
    anchors: Annotated[dict[Text, Text], BeforeValidator(_numbers_as_text)] = Field(
        default_factory=dict, description="What some numbers of the scale mean: number to description."
    )
    scale: Labels | None = Field(
        default=None, description="Instead of numbers: names from the lowest to the highest, or name to description."
    )
    combine: Literal["median", "mean"] | None = Field(
        default=None,
        description="How several annotators' ratings make one: the weighted median, or the weighted mean, put on the "
        "scale. Default: median, and mean where step is any. A scale of names has a median only.",
    )

    @model_validator(mode="after")
    def _one_scale(self) -> Rating:
        numeric = self.lowest is not None or self.highest is not None
        if numeric == (self.scale is not None):
            found = "both" if numeric else "neither"
            raise ValueError(f"expected from and to (numbers), or scale (names in order), found {found}")
        if self.scale is not None:
            if self.step is not None or self.anchors:
                raise ValueError("step and anchors belong to a scale of numbers: describe names as name: description")
            if self.combine == "mean":
                raise ValueError("combine: mean: names have no mean, expected median")
            return self
        if self.lowest is None or self.highest is None:
            raise ValueError(f"expected both from and to, found {'to' if self.lowest is None else 'from'} alone")
        if max(abs(self.lowest), abs(self.highest)) > _FARTHEST:
            raise ValueError(f"from and to must lie between -{_FARTHEST} and {_FARTHEST}")
        if not self.lowest < self.highest:
            raise ValueError(f"to ({_text(_exact(self.highest))}) must be above from ({_text(_exact(self.lowest))})")
        if self.step != "any":
            step = 1.0 if self.step is None else self.step
            if step <= 0:
                raise ValueError(f"step must be above 0, or any, found {_text(_exact(step))}")
            steps = (_exact(self.highest) - _exact(self.lowest)) / _exact(step)
            if steps != steps.to_integral_value():
                raise ValueError(
                    f"from {_text(_exact(self.lowest))} to {_text(_exact(self.highest))} is no whole number of steps "
                    f"of {_text(_exact(step))}: change step, or write step: any"
                )
            if steps < 2:
                raise ValueError(
                    f"from {_text(_exact(self.lowest))} to {_text(_exact(self.highest))} in steps of "
                    f"{_text(_exact(step))} has two values only: write a smaller step, or step: any"
                )
        try:
            self.make()
        except Invalid as problem:
            raise ValueError(f"anchors: {problem}") from None
        return self

    def make(self) -> RatingTask:
        """The task."""
        return ContinuousRatingTask(self) if self.step == "any" else RatingTask(self)


class RatingTask(Task):
    """Asks for a place on a scale, and reads it back: {"rating": 4, "confidence": ...}.

    A number off the scale is invalid, and so is one between two steps: neither is moved to the nearest. The label of a
    number is its shortest text, such as 4 or 3.5; that of a name is the name.
    """

    kind = "rating"
    headline = "quadratic_kappa"
    embedded = True

    def __init__(self, settings: Rating) -> None:
        self._names = dict(settings.scale or {})
        self._matcher = LabelMatcher(self._names)
        self._combine = settings.combine or ("mean" if settings.step == "any" else "median")
        self._lowest = _exact(settings.lowest or 0.0)
        self._highest = _exact(settings.highest or 0.0) if not self._names else Decimal(len(self._names) - 1)
        self._step: Decimal | None = None
        if settings.step != "any":
            self._step = Decimal(1) if settings.step is None else _exact(settings.step)
        self._whole = self._step is not None and all(_whole(n) for n in (self._lowest, self._step))
        self._anchors: dict[str, str] = {}
        for anchor, description in settings.anchors.items():
            self._anchors[self.value({"rating": anchor}, Content.of_text(""))] = description

    @property
    def labels(self) -> Mapping[str, str]:
        """The names, or the numbers of a scale that has few, in order, each with its description."""
        if self._names:
            return self._names
        if self._step is None or (self._highest - self._lowest) / self._step >= FEW:
            return {}
        count = int((self._highest - self._lowest) / self._step) + 1
        numbers = [_text(self._lowest + index * self._step) for index in range(count)]
        return {number: self._anchors.get(number, number) for number in numbers}

    @property
    def anchors(self) -> Mapping[str, str]:
        """Values of the scale that are described, each with its description."""
        return self._names or self._anchors

    @property
    def ends(self) -> tuple[float, float]:
        """The lowest and the highest value; of names their positions, from 0."""
        return float(self._lowest), float(self._highest)

    @property
    def step(self) -> float | None:
        """How far neighbouring values are apart; None where every number between the ends is one."""
        return None if self._step is None else float(self._step)

    @property
    def listed(self) -> str:
        """The numbers of a scale that has few, in brackets, for a prompt; nothing of another."""
        return f" ({', '.join(self.labels)})" if self.labels else ""

    def instructions(self) -> str:
        """The scale, with what its values mean."""
        if self._names:
            asked = "Rate the record with exactly one of these, in order from the lowest to the highest:"
            return "\n".join([asked, *listed(self._names)])
        lines = [f"Rate the record with a number {self._range()}{self.listed}."]
        if self._anchors:
            lines.append("What numbers mean:")
            lines += [f"- {number}: {' '.join(words.split())}" for number, words in self._anchors.items()]
        return "\n".join(lines)

    def fields(self) -> dict[str, Any]:
        """The rating."""
        if self._names:
            return {
                "rating": {
                    "type": "string",
                    "enum": list(self._names),
                    "description": "one of the names above, exactly as it is written there",
                }
            }
        return {"rating": {"type": "integer" if self._whole else "number", "description": f"a number {self._range()}"}}

    def value(self, found: Found, content: Content) -> str:
        """The name, or the number as its shortest text."""
        if "rating" not in found:
            raise Invalid(f"the answer has no rating: {shown(found)}")
        given = found["rating"]
        if self._names:
            name = self._matcher.match(given)
            if name is None:
                raise Invalid(f"the rating {shown(given)} is not on the scale: expected one of {self._listed()}")
            return name
        number = _read(given)
        if number is None:
            raise Invalid(f"the rating {shown(given)} is no number: expected one {self._range()}")
        return self._on_scale(number)

    def bare(self, reply: str, content: Content) -> Found | None:
        """A reply that is a rating and nothing else is taken too."""
        text = reply.strip().strip("\"'`").strip()
        if self._names:
            name = self._matcher.match(text)
            return {"rating": name} if name else None
        return {"rating": text} if _read(text) is not None else None

    def canonical(self, given: str, content: Content) -> str:
        """A number of the scale as its shortest text, or a name exactly as declared."""
        if self._names and given not in self._names:
            raise Invalid(f"expected one of {self._listed()}, found {shown(given)}")
        return self.value({"rating": given}, content)

    def written(self, label: str, content: Content) -> Found:
        """The rating: a number where the scale has numbers."""
        label = self.canonical(label, content)
        if self._names:
            return {"rating": label}
        number = Decimal(label)
        return {"rating": int(number) if _whole(number) else float(number)}

    def named(self, label: str) -> list[str]:
        """The value, where the scale has few."""
        return [label] if label in self.labels else []

    def position(self, label: str) -> float:
        """Where a canonical label lies: the number, or the position of the name, from 0."""
        return float(list(self._names).index(label)) if self._names else float(label)

    def at(self, position: float) -> str:
        """The label that lies nearest to a position, which may lie off the scale."""
        exact = min(max(_exact(position), self._lowest), self._highest)
        if self._step is not None:
            steps = ((exact - self._lowest) / self._step).to_integral_value(ROUND_HALF_EVEN)
            exact = self._lowest + steps * self._step
        return list(self._names)[int(exact)] if self._names else self._on_scale(exact)

    def measure(self, gold: Sequence[str], given: Sequence[str | None], *, seed: int = 0) -> list[Metric]:
        """Quadratic kappa, Spearman's correlation, MAE, RMSE, share within one step, share answered; Spearman first
        where every number between the ends is a value. Names count by their positions.
        """
        metrics = measure(
            [self.position(label) for label in gold],
            [None if label is None else self.position(label) for label in given],
            *self.ends,
            step=self.step,
            seed=seed,
        )
        return sorted(metrics, key=lambda metric: metric.metric != self.headline)

    def combine(self, votes: Sequence[Vote]) -> Annotation:
        """The weighted median, or the weighted mean put on the scale.

        Between two values that have half of the weight each, the median is their midpoint; a midpoint between two steps
        goes to the even one, so that neither end is favoured. The confidence is one less the weighted mean distance of
        the votes from what they make, as a share of half the scale, the most that it can be.

        Args:
            votes: One at least. Where most weight abstained, so do they together.
        """
        given = [vote for vote in votes if vote.annotation.label is not None]
        total = sum(vote.weight for vote in votes)
        if sum(vote.weight for vote in given) <= total / 2:
            return weighted_vote(votes)
        places = [(self.position(vote.annotation.label or ""), vote.weight) for vote in given]
        middle = weighted_mean(places) if self._combine == "mean" else weighted_median(places)
        label = self.at(middle)
        lowest, highest = self.ends
        distance = weighted_mean([(abs(place - self.position(label)), weight) for place, weight in places])
        nearest = min(given, key=lambda vote: abs(self.position(vote.annotation.label or "") - self.position(label)))
        return Annotation(
            "labelled",
            label,
            confidence=max(0.0, 1 - distance / ((highest - lowest) / 2)),
            scores=weighted_vote(votes).scores,
            rationale=nearest.annotation.rationale,
        )

    def _on_scale(self, number: Decimal) -> str:
        if not self._lowest <= number <= self._highest:
            raise Invalid(f"the rating {_said(number)} is off the scale: expected a number {self._range()}")
        if self._step is None:
            return _text(number.quantize(_PLACES, ROUND_HALF_EVEN))
        steps = (number - self._lowest) / self._step
        nearest = steps.to_integral_value(ROUND_HALF_EVEN)
        if abs(steps - nearest) > _PLACES:  # what floating point adds is no rating of its own
            raise Invalid(f"the rating {_said(number)} lies between two steps: expected a number {self._range()}")
        return _text(self._lowest + nearest * self._step)

    def _range(self) -> str:
        ends = f"from {_text(self._lowest)} to {_text(self._highest)}"
        if self._step is None:
            return ends
        return f"{ends}, in steps of {_text(self._step)}"

    def _listed(self) -> str:
        return ", ".join(self._names)


class ContinuousRatingTask(RatingTask):
    """A rating by any number between two ends: the order of records counts first."""

    headline = "spearman"


def weighted_mean(places: Sequence[tuple[float, float]]) -> float:
    """The mean of values, each with its weight above 0; one at least."""
    return math.fsum(value * weight for value, weight in places) / math.fsum(weight for _, weight in places)


def weighted_median(places: Sequence[tuple[float, float]]) -> float:
    """The value with at most half of the weight on either side; the midpoint where two values are such.

    Args:
        places: Values, each with its weight above 0; one at least.
    """
    ordered = sorted(places)
    half = math.fsum(weight for _, weight in ordered) / 2
    reached = 0.0
    for index, (value, weight) in enumerate(ordered):
        reached += weight
        if math.isclose(reached, half, rel_tol=1e-12):
            return (value + ordered[index + 1][0]) / 2
        if reached > half:
            return value
    return ordered[-1][0]


def _read(value: object) -> Decimal | None:
    """The finite number that a JSON value is, or that a text writes in full; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return Decimal(value)
    if isinstance(value, float):
        return _exact(value) if math.isfinite(value) else None
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        return Decimal(value.strip())
    return None


def _exact(number: float) -> Decimal:
    """The decimal number as which a float is written."""
    return Decimal(repr(float(number)))


def _whole(number: Decimal) -> bool:
    return number == number.to_integral_value()


def _text(number: Decimal) -> str:
    """The shortest text of a number, without exponent."""
    text = format(number, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def _said(number: Decimal) -> str:
    text = f"{number:.12g}" if number.adjusted() > 20 else _text(number)
    return text if len(text) <= 40 else text[:39] + "…"
