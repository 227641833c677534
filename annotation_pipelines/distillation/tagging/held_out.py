"""What a tagger makes of texts that it has not seen: how its settings are chosen, and its probabilities calibrated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annotation_pipelines.distillation.tagging.decoding import Guess, Settings
from annotation_pipelines.distillation.tagging.softmax_regression import log_softmax
from annotation_pipelines.distillation.tagging.span_tagger import Lessons, SpanTagger
from annotation_pipelines.distillation.tagging.text_units import TextUnits
from annotation_pipelines.tasks.spans import TypedSpan

PENALTIES = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5)
"""Candidates for what is taken off the log-odds of "outside"."""

_FOLDS = 3
_LEAST_TEXTS = 15
_TEMPERATURES = np.geomspace(0.3, 4.0, 53)
_LEAST_LOG = np.log(1e-6)
_STEPS = 50
_PRIOR = 1.0

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Certainty:
    """From how sure a tagger is of a text to how probable it is that all of its entities are right (Platt 1999).

    Attributes:
        slope, offset: The log-odds are `slope` times those that the tagger states, plus `offset`.
    """

    slope: float = 1.0
    offset: float = 0.0

    def of(self, certainty: Array) -> Array:
        """Probabilities of logs of probabilities, shape (n,)."""
        return _sigmoid(self.slope * _log_odds(certainty) + self.offset)

    @classmethod
    def learn(cls, certainty: Array, right: Array, weights: Array) -> Certainty:
        """The one with the greatest posterior, under a Gaussian prior that takes the tagger by its word.

        Args:
            certainty: Logs of probabilities, shape (n,).
            right: How probable it is that each text is right, shape (n,), 0 to 1.
            weights: How much each counts, shape (n,).
        """
        x = np.column_stack([_log_odds(certainty), np.ones(len(certainty))])
        point, word = np.array([1.0, 0.0]), np.array([1.0, 0.0])
        for _ in range(_STEPS):
            chances = _sigmoid(x @ point)
            slope = x.T @ (weights * (chances - right)) + _PRIOR * (point - word)
            curvature = (x * (weights * chances * (1 - chances))[:, None]).T @ x + _PRIOR * np.eye(2)
            step = np.linalg.solve(curvature, slope)
            point = point - step / max(1.0, float(np.abs(step).max()))
        # A tagger that is wrong where it is sure says nothing about itself: then all texts are as sure as one another.
        return cls(float(max(point[0], 0.0)), float(point[1]))


@dataclass(frozen=True)
class HeldOut:
    """What taggers say of texts that they have not seen.

    Attributes:
        texts: Which of the lessons' texts, shape (n,).
        borders: The log-probability of each tag of each of their units, text after text, shape (units, 5).
        types: The log-probability of each type of each entity that they teach, shape (entities, types).
        parts: For each fold its texts, and what its tagger finds in them with given settings.
    """

    texts: NDArray[np.int64]
    borders: Array
    types: Array
    parts: Sequence[tuple[NDArray[np.int64], Callable[[Settings], list[Guess]]]]


@dataclass(frozen=True)
class Chosen:
    """What held-out texts say for.

    Attributes:
        settings: How to decide.
        certainty: From stated certainty to probability.
        f1: Strict F1 of the labels of held-out texts; None without them.
        log_loss: The mean log-loss of their units; None likewise.
    """

    settings: Settings = field(default_factory=Settings)
    certainty: Certainty = field(default_factory=Certainty)
    f1: float | None = None
    log_loss: float | None = None


def held_out(
    lessons: Lessons, groups: Sequence[str], texts: NDArray[np.int64], *, span_scale: float, seed: int
) -> HeldOut | None:
    """What taggers say that were learned without a third of the texts each; None where they are too few to tell.

    Args:
        groups: Texts of one group are left out together.
        texts: Which of the texts take part.
    """
    if len(texts) < _LEAST_TEXTS:
        return None
    names = sorted({groups[text] for text in texts})
    drawn = np.random.default_rng(seed).permutation(len(names)) % _FOLDS
    fold_of = dict(zip(names, drawn.tolist(), strict=True))
    folds = np.array([fold_of[groups[text]] for text in texts])
    parts: list[tuple[NDArray[np.int64], Callable[[Settings], list[Guess]]]] = []
    borders, types = [], []
    for fold in range(_FOLDS):
        learn, test = lessons.take(texts[folds != fold]), texts[folds == fold]
        if not len(test) or not (learn.spans > 0).any():
            return None
        tagger = SpanTagger.learn(learn, span_scale=span_scale)
        left = lessons.take(test)
        borders.append(tagger.border_odds(left.units))
        parts.append((test, partial(_decoded, tagger, left.units, borders[-1])))
        places = [[(first, last) for first, last, _ in lesson.places] for lesson in left.taught]
        types.append(tagger.type_odds(left.units, places))
    return HeldOut(np.concatenate([test for test, _ in parts]), np.concatenate(borders), np.concatenate(types), parts)


def choose(lessons: Lessons, found: HeldOut, say: Array, right: Array) -> Chosen:
    """The settings that are best on held-out texts.

    The penalty is the one with the best strict F1, temperatures (Guo et al. 2017, arXiv 1706.04599) are those with the
    least log-loss.

    Args:
        say: How much each text of the lessons counts in choosing, shape (n,).
        right: How probable it is that the label of each is right, shape (n,), 0 to 1.
    """
    left = lessons.take(found.texts)
    mass = np.repeat(say[found.texts], left.units.lengths) * (left.weights > 0)
    temperature = _best_temperature(found.borders, left.targets, mass)
    span_mass = np.repeat(say[found.texts], [len(lesson.places) for lesson in left.taught])
    span_temperature = _best_temperature(found.types, left.span_targets, span_mass)
    weights = say[found.texts]
    best = _Trial(-1.0, Settings(), np.zeros(0), np.zeros(0))
    for penalty in PENALTIES:
        trial = _tried(found, left.entities, weights, Settings(penalty, temperature, span_temperature))
        if trial.f1 > best.f1 + 1e-9:
            best = trial
    logs = np.maximum(log_softmax(found.borders / temperature), _LEAST_LOG)
    log_loss = float(np.average(-(left.targets * logs).sum(axis=1), weights=mass)) if mass.sum() > 0 else None
    weights = weights / weights.mean() if weights.sum() > 0 else weights
    certainty = Certainty.learn(best.certainty, best.same * right[found.texts], weights)
    return Chosen(best.settings, certainty, best.f1, log_loss)


@dataclass(frozen=True)
class _Trial:
    """Strict F1, and for each held-out text how sure the tagger is, and whether it finds what is taught."""

    f1: float
    settings: Settings
    certainty: Array
    same: Array


def _tried(found: HeldOut, entities: Sequence[Sequence[TypedSpan]], say: Array, settings: Settings) -> _Trial:
    guesses = [guess for _, decode in found.parts for guess in decode(settings)]
    hits = there = given = 0.0
    for guess, taught, mass in zip(guesses, entities, say, strict=True):
        hits += mass * len(set(guess.entities) & set(taught))
        there += mass * len(set(taught))
        given += mass * len(guess.entities)
    same = [set(guess.entities) == set(taught) for guess, taught in zip(guesses, entities, strict=True)]
    return _Trial(
        float(2 * hits / (there + given)) if there + given else 0.0,
        settings,
        np.array([guess.certainty for guess in guesses], dtype=np.float64),
        np.array(same, dtype=np.float64),
    )


def _decoded(tagger: SpanTagger, units: TextUnits, borders: Array, settings: Settings) -> list[Guess]:
    return replace(tagger, settings=settings).decode(units, borders)


def _best_temperature(odds: Array, targets: NDArray[np.floating[Any]], mass: Array) -> float:
    """The temperature with the least log-loss; 1 where nothing has weight."""
    if not mass.sum():
        return 1.0
    wanted = targets * mass[:, None]
    losses = [-float((wanted * np.maximum(log_softmax(odds / t), _LEAST_LOG)).sum()) for t in _TEMPERATURES]
    return float(_TEMPERATURES[int(np.argmin(losses))])


def _log_odds(certainty: Array) -> Array:
    """Log-odds of logs of probabilities, neither certain nor impossible."""
    logs = np.clip(certainty, -30.0, -1e-6)
    found: Array = logs - np.log(-np.expm1(logs))
    return found


def _sigmoid(x: Array) -> Array:
    found: Array = 1 / (1 + np.exp(-np.clip(x, -500, 500)))
    return found
