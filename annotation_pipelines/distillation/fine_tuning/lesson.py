"""Cross-entropy, one batch at a time: plain, with learned weights, with two networks that teach one another, or both.

Co-teaching is that of Han et al. 2018 (arXiv 1804.06872): each network takes the examples that its peer finds easy. At
first all of them; then, within a few epochs, the share falls to that of the labels that are thought to be right. Gold
is always taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annotation_pipelines.distillation.fine_tuning.encoder import autocast
from annotation_pipelines.distillation.fine_tuning.network import Network
from annotation_pipelines.distillation.fine_tuning.optimiser import Optimiser
from annotation_pipelines.distillation.fine_tuning.reading import Tokens
from annotation_pipelines.distillation.fine_tuning.reweighting import example_weights, losses
from annotation_pipelines.distillation.robust.co_teaching import MOST_FORGOTTEN, kept_share, small_losses
from annotation_pipelines.distillation.robust.targets import Targets

GRADUAL_EPOCHS = 3
"""In so many epochs the share that co-teaching takes falls to its last value."""


Rows = NDArray[np.int64]
Array = NDArray[np.float64]


class Lesson:
    """What one batch teaches one network or two.

    Args:
        networks: One, or two for co-teaching; each with its optimiser.
        tokens: Of all rows, training and validation.
        targets: Of all rows likewise.
        rows: The rows that are trained on.
        batch: How many rows of gold judge a batch.
        reweight: Whether weights are learned against the gold among them.
        generator: Draws the gold batches.

    Attributes:
        passed: Batches without an example that agreed with gold: no step was taken.
    """

    def __init__(
        self,
        networks: Sequence[Network],
        optimisers: Sequence[Optimiser],
        tokens: Tokens,
        targets: Targets,
        rows: Rows,
        *,
        batch: int,
        reweight: bool,
        generator: np.random.Generator,
    ) -> None:
        self.networks, self.optimisers, self.tokens, self.targets = networks, optimisers, tokens, targets
        self.gold = rows[targets.gold[rows]] if reweight else None
        self.gold_batch = batch
        self.noise = noise_of(targets, rows)
        self.mean_weight = float(targets.weights[rows].mean())
        self.generator, self.passed = generator, 0

    def __call__(self, rows: Rows, epoch: int) -> None:
        """Learn from a batch, in an epoch counted from 0."""
        import torch

        weights = [self._weights(network, rows) for network in self.networks]
        found = []
        for network in self.networks:
            network.train()
            with autocast(network.precision, network.device):
                logits = network.logits(network.batch(self.tokens, rows))
            found.append(losses(logits, self._taught(network, rows)))
        kept = [torch.ones(len(rows), dtype=torch.bool, device=network.device) for network in self.networks]
        if len(self.networks) == 2:
            share, gold = kept_share(epoch, self.noise, GRADUAL_EPOCHS), self.targets.gold[rows]
            taken = [easy(each.detach().double().cpu().numpy(), gold, share) for each in found]
            kept = [torch.from_numpy(of_peer).to(network.device) for of_peer in reversed(taken)]
        for loss, chosen, weight, optimiser in zip(found, kept, weights, self.optimisers, strict=True):
            weight = weight * chosen
            if float(weight.sum()) <= 0:
                self.passed += 1
                optimiser.pass_by()
                continue
            # Learned weights sum to 1 in every batch; given ones have a mean of 1 over all rows.
            total = weight.sum() if self.gold is not None else chosen.sum()
            optimiser.step((weight * loss).sum() / total)

    def _weights(self, network: Network, rows: Rows) -> Any:
        """The weights of a batch's rows, as a tensor of shape (m,)."""
        import torch

        if self.gold is None:
            given = self.targets.weights[rows] / self.mean_weight
            return torch.tensor(given, dtype=torch.float32, device=network.device)
        # An example agrees with itself: gold that is in the batch does not judge it.
        judges = np.setdiff1d(self.gold, rows)
        if len(judges) == 0:
            judges = self.gold
        judges = self.generator.choice(judges, min(self.gold_batch, len(judges)), replace=False)
        return example_weights(
            network,
            network.batch(self.tokens, rows),
            self._taught(network, rows),
            network.batch(self.tokens, judges),
            self._taught(network, judges),
        )

    def _taught(self, network: Network, rows: Rows) -> Any:
        """What rows teach, as a tensor of shape (m, k)."""
        import torch

        return torch.tensor(self.targets.probabilities[rows], dtype=torch.float32, device=network.device)


def noise_of(targets: Targets, rows: Rows) -> float:
    """The share of silver rows whose likeliest taught class is thought to be wrong; 0.5 at most."""
    rows = rows[~targets.gold[rows]]
    if not len(rows):
        return 0.0
    taught = targets.probabilities[rows].argmax(axis=1)
    right = targets.beliefs[rows][np.arange(len(rows)), taught]
    return float(min(MOST_FORGOTTEN, 1 - right.mean()))


def easy(found: Array, gold: NDArray[np.bool_], share: float) -> NDArray[np.bool_]:
    """Which rows of a batch the peer takes: of silver the share with the least loss, and gold. Shape (m,)."""
    taken = gold.copy()
    silver = np.flatnonzero(~gold)
    if len(silver):
        taken[silver] = small_losses(found[silver], share)
    return taken
