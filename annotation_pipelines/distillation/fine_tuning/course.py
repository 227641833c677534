"""A whole training: the linear head first, then epochs, each measured on what is held out; the best state is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annotation_pipelines.distillation.fine_tuning.batches import shuffled
from annotation_pipelines.distillation.fine_tuning.contrastive import couples, pair_loss
from annotation_pipelines.distillation.fine_tuning.encoder import autocast
from annotation_pipelines.distillation.fine_tuning.head_start import linear_head
from annotation_pipelines.distillation.fine_tuning.held_out import HeldOut, judged, validation_rows
from annotation_pipelines.distillation.fine_tuning.lesson import Lesson
from annotation_pipelines.distillation.fine_tuning.network import Network
from annotation_pipelines.distillation.fine_tuning.optimiser import Optimiser
from annotation_pipelines.distillation.fine_tuning.reading import Tokens
from annotation_pipelines.distillation.robust.targets import Targets
from annotation_pipelines.errors import TrainingError
from annotation_pipelines.project import FineTuning, Robust

Progress = Callable[[int, int], None]
Rows = NDArray[np.int64]
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Course:
    """How a training went.

    Attributes:
        validated: Rows that were held out.
        epochs: How many were run.
        best: The one whose state is kept, counted from 1; 0: the linear head on the encoder as it was.
        held_out: How good the kept state is; None where nothing was held out.
        passed: Steps that were not taken, for want of an example that agreed with gold.
    """

    validated: int
    epochs: int
    best: int
    held_out: HeldOut | None
    passed: int


def train(
    make: Callable[[], Network],
    tokens: Tokens,
    targets: Targets,
    tuning: FineTuning,
    robust: Robust,
    *,
    seed: int,
    progress: Progress | None = None,
) -> tuple[Network, Course]:
    """Train one network, or two that teach one another, of which the better one is kept.

    Args:
        make: Gives an untrained network, a new one at each call.
        tokens: n texts.
        targets: What they teach.
        progress: Called with the steps done and those there are at most.

    Raises:
        TrainingError: Weights are to be learned, and no gold is left to learn them by.
    """
    contrastive = tuning.objective == "contrastive"
    classes = targets.probabilities.argmax(axis=1)
    held = validation_rows(classes, targets.gold, seed)
    rows = np.setdiff1d(np.arange(len(classes)), held)
    if robust.reweight and not targets.gold[rows].any():
        raise TrainingError(
            "expected gold labels to learn weights by, found none",
            where="distillation: robust: reweight",
            todo="Give the source gold labels that are neither demonstrations nor held out, or leave reweight out",
        )
    generator = np.random.default_rng(seed)
    with _seeded(seed):
        networks = [make() for _ in range(2 if robust.co_teaching else 1)]
        study = _Study(networks, tokens, targets, rows, held, tuning, robust, generator, progress)
        return study.contrastive() if contrastive else study.cross_entropy()


class _Study:
    """One training under way; its parts share the rows, the generator and what was best so far."""

    def __init__(
        self,
        networks: list[Network],
        tokens: Tokens,
        targets: Targets,
        rows: Rows,
        held: Rows,
        tuning: FineTuning,
        robust: Robust,
        generator: np.random.Generator,
        progress: Progress | None,
    ) -> None:
        self.networks, self.tokens, self.targets, self.rows, self.held = networks, tokens, targets, rows, held
        self.tuning, self.robust, self.generator, self.progress = tuning, robust, generator, progress
        self.validation = tokens.take(held)
        self.best_epoch, self.best_network = 0, 0
        self.best: HeldOut | None = None
        self.kept: dict[str, Any] | None = None
        self.done = self.total = 0

    def cross_entropy(self) -> tuple[Network, Course]:
        """The head as a linear model has it, then encoder and head together."""
        for index, network in enumerate(self.networks):
            # Two that teach one another must differ: each begins with other weights (the Bayesian bootstrap).
            drawn = self.generator.exponential(size=len(self.rows)) if len(self.networks) == 2 else None
            self._note(0, index, self._set_head(network, drawn))
        batches = -(-len(self.rows) // self.tuning.batch)
        optimisers = [self._optimiser(network, batches) for network in self.networks]
        lesson = Lesson(
            self.networks,
            optimisers,
            self.tokens,
            self.targets,
            self.rows,
            batch=self.tuning.batch,
            reweight=self.robust.reweight,
            generator=self.generator,
        )
        lengths = self.tokens.lengths[self.rows]

        def epoch(number: int) -> None:
            for batch in shuffled(lengths, self.tuning.batch, self.generator):
                lesson(self.rows[batch], number)
                self._advance()

        epochs = self._run(batches, epoch, self._judge)
        return self._finish(epochs, lesson.passed)

    def contrastive(self) -> tuple[Network, Course]:
        """The encoder on pairs, then the head on its vectors."""
        import torch

        (network,) = self.networks
        self._note(0, 0, self._set_head(network, None))
        classes = self.targets.probabilities[self.rows].argmax(axis=1)
        batches = -(-len(self.rows) // max(1, self.tuning.batch // 2))
        optimiser = self._optimiser(network, batches)

        def epoch(_: int) -> None:
            for batch in couples(classes, self.tuning.batch, self.generator):
                rows = self.rows[batch]
                network.train()
                with autocast(network.precision, network.device):
                    features = network.features(network.batch(self.tokens, rows))
                taught, weights = (
                    torch.tensor(array[rows], dtype=torch.float32, device=network.device)
                    for array in (self.targets.probabilities, self.targets.weights)
                )
                optimiser.step(pair_loss(features, taught, weights))
                self._advance()

        epochs = self._run(batches, epoch, lambda network: self._set_head(network, None))
        if self.best is None:
            self._set_head(network, None)
        return self._finish(epochs, 0)

    def _run(self, batches: int, epoch: Callable[[int], None], judge: Callable[[Network], HeldOut | None]) -> int:
        """Epochs until the declared number, or until the last few were no better; how many were run."""
        self.total = batches * self.tuning.epochs
        for number in range(self.tuning.epochs):
            epoch(number)
            if len(self.held) == 0:
                continue
            for index, network in enumerate(self.networks):
                self._note(number + 1, index, judge(network))
            if number + 1 - self.best_epoch >= self.tuning.patience:
                return number + 1
        return self.tuning.epochs

    def _judge(self, network: Network) -> HeldOut:
        return judged(network.predict(self.validation), self.targets.beliefs[self.held])

    def _set_head(self, network: Network, factors: Array | None) -> HeldOut | None:
        """Give a network the head of a linear model on its vectors; factors are further weights of the rows."""
        vectors = network.vectors(self.tokens.take(self.rows))
        weights = self.targets.weights[self.rows] * (1.0 if factors is None else factors)
        held_out = None
        if len(self.held):
            held_out = network.vectors(self.validation), self.targets.beliefs[self.held]
        head, found = linear_head(vectors, self.targets.probabilities[self.rows], weights, held_out)
        network.set_linear(*head)
        return found

    def _note(self, epoch: int, network: int, found: HeldOut | None) -> None:
        """Keep a network's state if it is the best so far."""
        if found is not None and (self.best is None or found.loss < self.best.loss):
            self.best, self.best_epoch, self.best_network = found, epoch, network
            self.kept = self.networks[network].state()

    def _finish(self, epochs: int, passed: int) -> tuple[Network, Course]:
        network = self.networks[self.best_network]
        if self.kept is not None:
            network.restore(self.kept)
        if self.progress is not None:
            self.progress(self.total, self.total)
        best = self.best_epoch if self.best is not None else epochs
        return network, Course(len(self.held), epochs, best, self.best, passed)

    def _optimiser(self, network: Network, batches: int) -> Optimiser:
        return Optimiser(
            network,
            learning_rate=self.tuning.learning_rate,
            head_learning_rate=self.tuning.head_learning_rate,
            steps=batches * self.tuning.epochs,
        )

    def _advance(self) -> None:
        self.done += 1
        if self.progress is not None and self.done < self.total:
            self.progress(self.done, self.total)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """torch draws by the seed, here alone: what others draw goes on as if nothing had been drawn."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
