"""What a batch teaches: with weights, and between two networks that teach one another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from annotation_pipelines.distillation.fine_tuning.encoder import TrainableEncoder
from annotation_pipelines.distillation.fine_tuning.lesson import GRADUAL_EPOCHS, Lesson, easy, noise_of
from annotation_pipelines.distillation.fine_tuning.network import Network
from annotation_pipelines.distillation.fine_tuning.optimiser import Optimiser
from annotation_pipelines.distillation.fine_tuning.reading import tokens_of
from annotation_pipelines.distillation.robust.targets import Targets, hard_targets
from annotation_pipelines.tasks.classification import Classification

LABELS = Classification(labels=["a", "b"]).make()
TEXTS = ["the sun", "the moon and rain", "a cat", "storm on fire"]


def lesson(encoders: list[TrainableEncoder], biases: list[float], targets: Targets, *, reweight: bool) -> Lesson:
    """A lesson of networks that know no more than a bias for the second class."""
    networks = []
    for encoder, bias in zip(encoders, biases, strict=True):
        network = Network(encoder, 2, pairs=False, device="cpu", precision="float32")
        zeros = np.zeros((2, network.dimension), dtype=np.float32)
        network.set_linear(zeros, np.array([0.0, bias], dtype=np.float32))
        networks.append(network)
    return Lesson(
        networks,
        [Optimiser(network, learning_rate=1e-3, head_learning_rate=1e-2, steps=4) for network in networks],
        tokens_of(LABELS, TEXTS, encoders[0], 16),
        targets,
        np.arange(len(TEXTS)),
        batch=2,
        reweight=reweight,
        generator=np.random.default_rng(0),
    )


def leaning(network: Network) -> float:
    """How much the second class is preferred before anything is read."""
    return float((network.head.bias[1] - network.head.bias[0]).detach())


def test_each_network_learns_what_its_peer_finds_easy(tiny: TrainableEncoder, tiny_folder: Path) -> None:
    targets = hard_targets(["a", "b", "a", "b"], ["a", "b"], np.full(4, 0.5), np.zeros(4, dtype=bool))
    pair = lesson([tiny, TrainableEncoder.named(str(tiny_folder))], [-2.0, 2.0], targets, reweight=False)
    pair(np.arange(4), GRADUAL_EPOCHS)
    # The first finds "a" easy, so the second learns "a", and the other way round.
    assert leaning(pair.networks[0]) > -2
    assert leaning(pair.networks[1]) < 2


def test_labels_weigh_what_they_are_given(tiny: TrainableEncoder) -> None:
    weights = np.array([1.0, 0.1, 1.0, 0.1])
    alone = lesson([tiny], [0.0], hard_targets(["a", "b", "a", "b"], ["a", "b"], weights, weights > 2), reweight=False)
    alone(np.arange(4), 0)
    assert leaning(alone.networks[0]) < 0


def test_a_batch_without_a_row_that_agrees_with_gold_is_passed_by(tiny: TrainableEncoder) -> None:
    gold = np.array([True, True, False, False])
    alone = lesson([tiny], [0.0], hard_targets(["a", "a", "b", "b"], ["a", "b"], np.ones(4), gold), reweight=True)
    before = {name: value.clone() for name, value in alone.networks[0].state().items()}
    alone(np.array([2, 3]), 0)
    assert alone.passed == 1
    assert all((before[name] == value).all() for name, value in alone.networks[0].state().items())
    alone(np.array([1, 2]), 0)
    assert alone.passed == 1
    assert leaning(alone.networks[0]) < 0


def test_the_least_losses_of_silver_are_taken_and_gold() -> None:
    losses, gold = np.array([3.0, 1.0, 2.0, 9.0, 4.0]), np.array([False, False, False, True, False])
    assert easy(losses, gold, 0.5).tolist() == [False, True, True, True, False]
    assert easy(losses, gold, 0.0).tolist() == [False, True, False, True, False]
    assert easy(losses, gold, 1.0).all()
    assert easy(losses, np.ones(5, dtype=bool), 0.5).all()


def test_the_noise_is_what_is_not_believed_of_silver() -> None:
    weights, gold = np.array([0.8, 0.6, 0.4, 0.9]), np.array([False, False, False, True])
    targets = hard_targets(["a", "b", "a", "b"], ["a", "b", "c"], weights, gold)
    assert noise_of(targets, np.arange(4)) == pytest.approx(0.4)
    assert noise_of(targets, np.array([3])) == 0
    assert noise_of(targets, np.array([2])) == 0.5
