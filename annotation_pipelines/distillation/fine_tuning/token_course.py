"""A whole training of a tagger: the linear head first, then epochs, each measured on held-out texts; the best is kept.

The loss of a batch is the cross-entropy of the border tags of its units, by their weights, and beside it that of the
types of the units that stand in entities.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annotation_pipelines.distillation.fine_tuning.batches import shuffled
from annotation_pipelines.distillation.fine_tuning.encoder import autocast
from annotation_pipelines.distillation.fine_tuning.held_out import judged, validation_rows
from annotation_pipelines.distillation.fine_tuning.optimiser import Optimiser
from annotation_pipelines.distillation.fine_tuning.token_network import TokenNetwork
from annotation_pipelines.distillation.fine_tuning.token_windows import TokenWindows
from annotation_pipelines.distillation.softmax import fit_softmax
from annotation_pipelines.distillation.tagging.paths import TAGS
from annotation_pipelines.distillation.tagging.span_tagger import Lessons
from annotation_pipelines.project import FineTuning

_STRENGTH = 10.0

Array = NDArray[np.float64]
Rows = NDArray[np.int64]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class TokenCourse:
    """How a training went.

    Attributes:
        held_out: The texts that were held out, shape (m,).
        epochs: How many were run.
        best: The one whose state is kept, counted from 1; 0: the linear head on the encoder as it was.
        loss: The log-loss of border tags and types on held-out texts; None where nothing was held out.
    """

    held_out: Rows
    epochs: int
    best: int
    loss: float | None


@dataclass(frozen=True)
class UnitTargets:
    """What units teach: border tags and types, each with a probability of every class and a weight.

    Attributes:
        tags, tag_weights: Shape (units, 5) and (units,).
        types, type_weights: Shape (units, types) and (units,); weight 0 outside of entities.
    """

    tags: Array
    tag_weights: Array
    types: Array
    type_weights: Array

    @classmethod
    def of(cls, lessons: Lessons) -> UnitTargets:
        """The targets of lessons; every unit of an entity has the type of the entity."""
        units = int(lessons.units.lengths.sum())
        types, weights = np.zeros((units, len(lessons.kinds))), np.zeros(units)
        starts, entity = lessons.units.starts, 0
        for row, lesson in enumerate(lessons.taught):
            for first, last, _ in lesson.places:
                there = slice(int(starts[row]) + first, int(starts[row]) + last + 1)
                types[there], weights[there] = lessons.span_targets[entity], lessons.spans[entity]
                entity += 1
        return cls(lessons.targets.astype(np.float64), lessons.weights, types, weights)


def train_tagger(
    network: TokenNetwork,
    windows: TokenWindows,
    lessons: Lessons,
    gold: NDArray[np.bool_],
    tuning: FineTuning,
    *,
    seed: int,
    progress: Progress | None = None,
) -> TokenCourse:
    """Train a network on lessons.

    Args:
        windows: Of the lessons' texts.
        gold: Shape (n,): of which texts people gave the entities.
        progress: Called with the steps done and those there are at most.
    """
    import torch

    named = np.array([bool(lesson.places) for lesson in lessons.taught], dtype=np.int64)
    held = validation_rows(named, gold, seed)
    targets = UnitTargets.of(lessons)
    owners = np.repeat(np.arange(len(lessons.units)), lessons.units.lengths)
    testing = np.isin(owners, held)
    vectors = network.unit_vectors(windows, len(owners))
    network.set_linear(*_head(vectors[~testing], targets, ~testing))
    generator = np.random.default_rng(seed)
    training = np.flatnonzero(~np.isin(windows.texts, held))
    validation = _of(windows, np.flatnonzero(np.isin(windows.texts, held)))
    batches = -(-len(training) // tuning.batch)
    total, done = batches * tuning.epochs, 0
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        optimiser = Optimiser(
            network, learning_rate=tuning.learning_rate, head_learning_rate=tuning.head_learning_rate, steps=total
        )
        best, best_epoch = (_judge(network, validation, targets, testing) if len(held) else None), 0
        kept, epoch = network.state(), 0
        for epoch in range(1, tuning.epochs + 1):
            for batch in shuffled(windows.lengths[training], tuning.batch, generator):
                loss = _loss(network, windows, training[batch], targets)
                if loss is None:
                    optimiser.pass_by()
                else:
                    optimiser.step(loss)
                done += 1
                if progress is not None:
                    progress(done, total)
            if best is None:
                continue
            found = _judge(network, validation, targets, testing)
            if found < best:
                best, best_epoch, kept = found, epoch, network.state()
            elif epoch - best_epoch >= tuning.patience:
                break
    if best is not None:
        network.restore(kept)
    network.train(False)
    return TokenCourse(held, epoch, epoch if best is None else best_epoch, best)


def _loss(network: TokenNetwork, windows: TokenWindows, rows: Rows, targets: UnitTargets) -> Any:
    """The loss of some windows; None where nothing in them has weight."""
    import torch

    network.train()
    batch = network.unit_batch(windows, rows)
    if not targets.tag_weights[batch.units].any():
        return None
    with autocast(network.precision, network.device):
        logits = network.unit_logits(batch).float()
    total = torch.zeros((), device=network.device)
    sides = (
        (logits[:, :TAGS], targets.tags, targets.tag_weights),
        (logits[:, TAGS:], targets.types, targets.type_weights),
    )
    for own, taught, weights in sides:
        mass = weights[batch.units]
        if mass.sum() <= 0:
            continue
        wanted, counted = (
            torch.tensor(array, dtype=torch.float32, device=network.device) for array in (taught[batch.units], mass)
        )
        losses = -(torch.log_softmax(own, dim=1) * wanted).sum(1)
        total = total + (losses * counted).sum() / counted.sum()
    return total


def _head(
    vectors: NDArray[np.float32], targets: UnitTargets, rows: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The head that linear models have on the encoder as it is."""
    tags = fit_softmax(vectors, targets.tags[rows], targets.tag_weights[rows], _STRENGTH)
    inside = targets.type_weights[rows] > 0
    types = fit_softmax(vectors[inside], targets.types[rows][inside], targets.type_weights[rows][inside], _STRENGTH)
    return np.concatenate([tags[0], types[0]]), np.concatenate([tags[1], types[1]])


def _judge(network: TokenNetwork, windows: TokenWindows, targets: UnitTargets, rows: NDArray[np.bool_]) -> float:
    """The log-loss of border tags and, beside it, of types, at the best temperature of each."""
    coef, intercept = network.linear()
    logits = (network.unit_vectors(windows, len(rows)) @ coef.T + intercept).astype(np.float64)
    known = rows & (targets.tag_weights > 0)
    loss = judged(logits[known][:, :TAGS], targets.tags[known]).loss if known.any() else 0.0
    inside = rows & (targets.type_weights > 0)
    return loss + (judged(logits[inside][:, TAGS:], targets.types[inside]).loss if inside.any() else 0.0)


def _of(windows: TokenWindows, rows: Rows) -> TokenWindows:
    return TokenWindows([windows.ids[row] for row in rows], [windows.owners[row] for row in rows], windows.texts[rows])
