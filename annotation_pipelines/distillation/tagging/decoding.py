"""From what a model says of units and of spans to entities, with what is known of their certainty."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from annotation_pipelines.distillation.tagging.paths import OUTSIDE, best_paths, log_certainty, marginals
from annotation_pipelines.distillation.tagging.softmax_regression import log_softmax
from annotation_pipelines.distillation.tagging.text_units import Place, places_of
from annotation_pipelines.distillation.tagging.words import Words
from annotation_pipelines.tasks.spans import TypedSpan

Array = NDArray[np.float64]
TypeOdds = Callable[[Sequence[Sequence[Place]]], Array]
"""Places of spans in each text in, the log-probability of each type of each span out: shape (spans, types)."""


@dataclass(frozen=True)
class Settings:
    """How a tagger decides.

    Attributes:
        outside_penalty: Taken off the log-odds of "outside": a model that learned from few texts gives too few entities
            to be best by F1.
        temperature: What the log-odds of units are divided by.
        span_temperature: Likewise those of types.
    """

    outside_penalty: float = 1.0
    temperature: float = 1.0
    span_temperature: float = 1.0


@dataclass(frozen=True)
class Guess:
    """What is found in a text.

    Attributes:
        entities: None overlap.
        certainty: The log of the probability that all of them are right and none is missed, as if units were
            independent but for making whole entities.
        units: For each unit the probability to be outside of all entities, and to be in one of each type, shape
            (units, 1 + types).
    """

    entities: tuple[TypedSpan, ...]
    certainty: float
    units: Array

    @property
    def confidence(self) -> float:
        """The probability that all entities are right and none is missed."""
        return float(np.exp(self.certainty))


def decoded(
    texts: Sequence[str],
    lengths: Sequence[int],
    borders: Array,
    type_odds: TypeOdds,
    kinds: Sequence[str],
    shares: Array,
    settings: Settings,
) -> list[Guess]:
    """What is found in each text.

    The penalty decides what is found; how sure that is, is said without it.

    Args:
        texts: n texts.
        lengths: How many units each has.
        borders: The log-probability of each tag for each unit, text after text, shape (units, 5).
        type_odds: Asked once, for all spans that are found.
        kinds: The types.
        shares: How frequent each type is: what a unit might be that stands in no span, shape (types,).
        settings: How to decide.
    """
    odds = log_softmax(borders / settings.temperature)
    bold = borders.copy()
    bold[:, OUTSIDE] -= settings.outside_penalty
    tags = best_paths(log_softmax(bold), lengths).tags
    places = [places_of(found) for found in tags]
    inside = 1.0 - marginals(odds, lengths)[:, OUTSIDE]
    certainty = log_certainty(odds, lengths, tags)
    spans = log_softmax(type_odds(places) / settings.span_temperature)
    starts, at = np.cumsum([0, *lengths]), 0
    guesses = []
    for row, (text, found) in enumerate(zip(texts, places, strict=True)):
        here = spans[at : at + len(found)]
        at += len(found)
        own = inside[starts[row] : starts[row + 1], None]
        within = own * shares
        cut = Words(text).spans if found else []
        entities = []
        for (first, last), of_types in zip(found, here, strict=True):
            within[first : last + 1] = own[first : last + 1] * np.exp(of_types)
            entities.append(TypedSpan(cut[first].start, cut[last].end, kinds[int(of_types.argmax())]))
        sure = float(certainty[row] + here.max(axis=1).sum())
        guesses.append(Guess(tuple(entities), sure, np.concatenate([1.0 - own, within], axis=1)))
    return guesses
