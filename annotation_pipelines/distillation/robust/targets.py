"""What a student is to learn: for every example a probability of every class, and a weight.

The steps, each switched by `distillation: robust`: silver labels become probabilities (as they are, the teacher's own
scores, or corrected by how the teacher errs on gold), some of it is spread over all classes, silver gets its weight,
and silver that looks wrong is left out. Gold is taken as it is: its label has probability 1, and its weight stays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from annotation_pipelines.distillation.robust.confusion import believed, confusion
from annotation_pipelines.distillation.robust.noise import Answers, TeacherNoise, estimate
from annotation_pipelines.distillation.robust.pruning import find_label_errors
from annotation_pipelines.distillation.robust.scores import read_scores
from annotation_pipelines.distillation.softmax import cross_validated, fit_softmax, logits_of, softmax
from annotation_pipelines.distillation.students.base import Examples
from annotation_pipelines.project import Robust

Array = NDArray[np.float64]
Features = Callable[[pl.DataFrame], NDArray[np.float32]]

LEAST_WEIGHT = 0.05
"""The least weight of a silver label that is weighed by what it is worth: none teaches nothing at all."""

_STRENGTH = 3.0
_OPINION_STRENGTH = 30.0
_FEWEST = 10
_MOST = 10_000  # rows are enough to learn what the texts say


@dataclass(frozen=True)
class Targets:
    """What n kept examples teach about k classes.

    Attributes:
        classes: k labels, in the order of the columns.
        rows: Shape (n,): where the kept examples stand in the `Examples`, rising.
        probabilities: Shape (n, k), rows that sum to 1: what is taught.
        weights: Shape (n,), 0 to 1: how much each counts.
        gold: Shape (n,): where people gave the label.
        beliefs: Shape (n, k), rows that sum to 1: how probable each class is by the teacher's answer, for choosing
            settings and calibration. A silver label may be taught as it is, and be right only as often as its weight
            says; and a model that is judged by what another makes of the text would seem better than it is.
        figures: What was done, by name.
    """

    classes: Sequence[str]
    rows: NDArray[np.int64]
    probabilities: Array
    weights: Array
    gold: NDArray[np.bool_]
    beliefs: Array
    figures: Mapping[str, float | int | str | None] = field(default_factory=dict)

    def take(self, chosen: NDArray[np.int64]) -> Targets:
        """Some of the kept examples, by their places among them."""
        return replace(
            self,
            rows=self.rows[chosen],
            probabilities=self.probabilities[chosen],
            weights=self.weights[chosen],
            gold=self.gold[chosen],
            beliefs=self.beliefs[chosen],
        )

    @property
    def labels(self) -> list[str]:
        """The most probable label of each kept example, as it is taught."""
        return [self.classes[index] for index in self.probabilities.argmax(axis=1)]


def hard_targets(labels: Sequence[str], classes: Sequence[str], weights: Array, gold: NDArray[np.bool_]) -> Targets:
    """Labels as they are, all of them kept; silver is believed as its weight says, gold wholly.

    Args:
        labels: n labels, each one of the k classes.
        weights: Shape (n,).
        gold: Shape (n,).
    """
    given = _places(labels, classes)
    probabilities = np.eye(len(classes))[given]
    beliefs = _as_sure_as(probabilities, np.where(gold, 1.0, np.clip(weights, 0.0, 1.0)))
    return Targets(list(classes), np.arange(len(given)), probabilities, weights, gold, beliefs)


def make_targets(
    examples: Examples, classes: Sequence[str], config: Robust, *, features: Features | None = None, seed: int = 0
) -> Targets:
    """Targets and weights of the examples that are kept, as `distillation: robust` declares.

    Reweighting and co-teaching belong to training itself and are not done here.

    Args:
        examples: Every label is one of the classes. Audited records with another label are passed over.
        classes: The k labels that the student is to tell apart, without repetition.
        config: What is switched on.
        features: Gives what is known of contents as vectors: a frame of content_hash and content in, (rows, d) out;
            `vectors.vectors` of `Student.fit` is such a function. By it corrections and pruning ask what a linear
            model makes of each text. Without it corrections go by the teacher's answers alone, and nothing is pruned.
        seed: Of the folds.

    Raises:
        KeyError: A label is none of the classes.
    """
    plain = hard_targets(examples.labels, classes, examples.weights, examples.gold)
    silver = ~plain.gold
    if not silver.any():
        return plain
    contents = examples.rows.select("content_hash", "content")
    wants_vectors = config.soft_labels in ("corrected", "confusion") or config.prune != "none"
    X = features(contents) if features is not None and wants_vectors else None
    probabilities, beliefs = plain.probabilities.copy(), plain.beliefs.copy()
    given = plain.probabilities.argmax(axis=1)
    figures: dict[str, float | int | str | None] = {}
    worth = plain.weights
    if config.soft_labels == "scores":
        scores, known = read_scores(examples.rows["scores"], classes)
        soft = silver & known
        probabilities[soft] = beliefs[soft] = scores[soft]
        figures["soft_labels"] = int(soft.sum())
    if config.soft_labels == "confusion":
        by_answers, confused = _confused(examples, plain, X)
        probabilities[silver], beliefs[silver] = confused[silver], by_answers[silver]
        worth = confused[np.arange(len(given)), given]
        figures["relabelled"] = int((confused.argmax(axis=1) != given)[silver].sum())
    elif config.soft_labels == "corrected" or config.weights == "audit":
        noise, by_answers, corrected = _corrected(examples, plain, X, features, seed)
        beliefs[silver] = by_answers[silver]
        worth = corrected[np.arange(len(given)), given]
        figures |= {"audited": noise.audited, "audited_accuracy": noise.right}
        if config.soft_labels == "corrected":
            probabilities[silver] = corrected[silver]
            figures["relabelled"] = int((corrected.argmax(axis=1) != given)[silver].sum())
    if config.label_smoothing:
        share = config.label_smoothing
        probabilities[silver] = (1 - share) * probabilities[silver] + share / len(classes)
    weights = plain.weights.copy()
    if config.weights == "none":
        weights[silver & (weights > 0)] = 1.0
    elif config.weights == "audit":
        weights[silver] = np.where(weights > 0, np.maximum(worth, LEAST_WEIGHT), 0.0)[silver]
    kept = np.ones(len(given), dtype=np.bool_)
    if config.prune == "confident_learning" and X is not None:
        kept = _kept(X, plain, given, seed)
        figures["pruned"] = int((~kept).sum())
    every = Targets(plain.classes, plain.rows, probabilities, weights, plain.gold, beliefs, figures)
    return every if kept.all() else every.take(np.flatnonzero(kept))


def _corrected(
    examples: Examples, plain: Targets, X: NDArray[np.float32] | None, features: Features | None, seed: int
) -> tuple[TeacherNoise, Array, Array]:
    """How the teacher errs, and how probable each class is for every row: by its answers, and by the texts as well.

    First by its answers alone. A linear model learns that in folds, and what it says of the texts that it has not seen
    is what corrects them then, as far as it turned out to be right about the audited ones.
    """
    classes, k = plain.classes, len(plain.classes)
    places = {label: place for place, label in enumerate(classes)}
    audit = examples.audit.filter(examples.audit["label"].is_in(list(classes)))
    truth = _places(audit["label"].to_list(), classes)
    given = plain.probabilities.argmax(axis=1)
    # Where the teacher states no confidence, weights of 1 stand in its place.
    states = audit["confidence"].is_not_null().any()
    confidence = plain.weights if states or not len(truth) else np.full(len(given), np.nan)
    asked = Answers(given, confidence, read_scores(examples.rows["scores"], classes)[0])
    checked = Answers(
        np.array([places.get(label, -1) for label in audit["given"]], dtype=np.int64),
        audit["confidence"].cast(float).fill_null(np.nan).to_numpy().astype(np.float64),
        read_scores(audit["scores"], classes)[0],
    )
    noise = estimate(checked, truth, k)
    corrected = np.where(plain.gold[:, None], plain.probabilities, noise.probabilities(asked))
    if X is None or features is None or len(truth) < _FEWEST:
        return noise, corrected, corrected
    every = np.concatenate([X, features(audit.select("content_hash", "content"))])
    groups = [*examples.rows["content_hash"], *audit["content_hash"]]
    taught = np.concatenate([corrected, np.eye(k)[truth]])
    opinions = []
    # What gold alone says is not blurred by what silver has wrong; of both together there is more to learn from.
    for teaches in (plain.weights > 0, plain.gold & (plain.weights > 0)):
        # Audited records that are trained on stand among the rows already.
        weights = np.concatenate([teaches.astype(np.float64), np.zeros(len(truth))])
        if teaches.sum() < _FEWEST:
            continue
        opinion = cross_validated(every, taught, weights, strength=_STRENGTH, seed=seed, most=_MOST, groups=groups)
        if opinion is not None:
            opinions.append(opinion)
    n = len(given)
    noise = estimate(replace(checked, opinions=tuple(opinion[n:] for opinion in opinions)), truth, k)
    return noise, corrected, noise.probabilities(replace(asked, opinions=tuple(o[:n] for o in opinions)))


def _confused(examples: Examples, plain: Targets, X: NDArray[np.float32] | None) -> tuple[Array, Array]:
    """How probable each class is for every row, by the teacher's confusions: without the texts, and with them.

    What is thought of a text is what a linear model says of it that was taught by gold alone; where there is little
    gold, how frequent each class is.
    """
    classes, k = plain.classes, len(plain.classes)
    places = {label: place for place, label in enumerate(classes)}
    audit = examples.audit.filter(examples.audit["label"].is_in(list(classes)))
    truth = _places(audit["label"].to_list(), classes)
    given = plain.probabilities.argmax(axis=1)
    checked = np.array([places.get(label, -1) for label in audit["given"]], dtype=np.int64)
    matrix = confusion(checked, truth, given[~plain.gold], k)
    frequent = np.bincount(np.concatenate([truth, given[plain.gold]]), minlength=k) + 1.0
    by_answers = believed(np.tile(frequent / frequent.sum(), (len(given), 1)), given, matrix)
    gold = np.flatnonzero(plain.gold & (plain.weights > 0))
    if X is None or len(gold) < _FEWEST or len(np.unique(given[gold])) < 2:
        return by_answers, by_answers
    # Classes without gold keep what the teacher's answers say of them.
    taught = fit_softmax(X[gold], plain.probabilities[gold], plain.weights[gold], _OPINION_STRENGTH)
    unseen = ~np.isin(np.arange(k), given[gold])
    opinions = softmax(logits_of(X, taught))
    opinions[:, unseen] = np.maximum(opinions[:, unseen], frequent[unseen] / frequent.sum())
    return by_answers, believed(opinions / opinions.sum(axis=1, keepdims=True), given, matrix)


def _kept(X: NDArray[np.float32], plain: Targets, given: NDArray[np.int64], seed: int) -> NDArray[np.bool_]:
    """Where a label is not found wrong; gold stays, and so does what is left of a class."""
    held_out = cross_validated(X, plain.probabilities, plain.weights, strength=_STRENGTH, seed=seed, most=_MOST)
    if held_out is None:
        return np.ones(len(given), dtype=np.bool_)
    kept = plain.gold | ~find_label_errors(held_out, given)
    kept |= ~np.isin(given, given[kept & (plain.weights > 0)])
    return kept


def _places(labels: Sequence[str], classes: Sequence[str]) -> NDArray[np.int64]:
    places = {label: place for place, label in enumerate(classes)}
    return np.array([places[label] for label in labels], dtype=np.int64)


def _as_sure_as(hard: Array, sure: Array) -> Array:
    """One class in each row has probability `sure`, shape (n,); the others share the rest."""
    others = max(1, hard.shape[1] - 1)
    spread: Array = hard * sure[:, None] + (1 - hard) * ((1 - sure) / others)[:, None]
    return spread
