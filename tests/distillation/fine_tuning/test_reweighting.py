"""Learned weights are the derivative that they are said to be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from annotation_pipelines.distillation.fine_tuning.encoder import TrainableEncoder
from annotation_pipelines.distillation.fine_tuning.network import Network
from annotation_pipelines.distillation.fine_tuning.reading import tokens_of
from annotation_pipelines.distillation.fine_tuning.reweighting import agreements, example_weights, losses
from annotation_pipelines.tasks.classification import Classification
from annotation_pipelines.tasks.given_relations import GivenRelationsTask

LABELS = Classification(labels=["sun", "moon"]).make()
PAIRS = GivenRelationsTask(types={"Cause": ""}, none="Other", none_description="", directed=True, part=None)
TEXTS = [
    "the <e1>sun</e1> on <e2>fire</e2>",
    "a <e1>cat</e1> and <e2>a dog</e2>",
    "<e2>rain</e2> of <e1>storm</e1> on moon",
]
GOLD = ["the <e1>star</e1> is <e2>sun</e2> . .", "<e1>flood</e1> in <e2>rain</e2>"]


@pytest.fixture(params=[False, True], ids=["labels", "pairs"])
def network(request: pytest.FixtureRequest, tiny: TrainableEncoder) -> Network:
    import torch

    found = Network(tiny, 3, pairs=request.param, device="cpu", precision="float32")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        torch.nn.init.normal_(found.head.weight, std=0.3)
    # In double precision a difference quotient tells a derivative from its neighbours.
    found.encoder.model.double()
    found.head.double()
    return found


def batch(network: Network, texts: list[str], classes: list[int]) -> tuple[Any, Any]:
    import torch

    tokens = tokens_of(PAIRS if network.pairs else LABELS, texts, network.encoder, 32)
    return network.batch(tokens, np.arange(len(texts))), torch.eye(3, dtype=torch.float64)[classes]


def test_they_are_the_derivative_of_the_gold_loss_after_one_virtual_step(network: Network) -> None:
    import torch

    examples, gold = batch(network, TEXTS, [0, 2, 1]), batch(network, GOLD, [1, 0])
    found = agreements(network, *examples, *gold)
    parameters = list(network.parameters().values())
    network.train(False)

    def gold_loss(eps: list[float], rate: float) -> float:
        """The gold batch's loss after a step of plain gradient descent on the weighted losses."""
        weighted = (torch.tensor(eps, dtype=torch.float64) * losses(network.logits(examples[0]), examples[1])).sum()
        slopes = torch.autograd.grad(weighted, parameters, allow_unused=True)
        with torch.no_grad():
            for parameter, slope in zip(parameters, slopes, strict=True):
                if slope is not None:
                    parameter -= rate * slope
            loss = float(losses(network.logits(gold[0]), gold[1]).mean())
            for parameter, slope in zip(parameters, slopes, strict=True):
                if slope is not None:
                    parameter += rate * slope
        return loss

    small, rate = 1e-6, 0.1
    for index in range(len(TEXTS)):
        eps = [0.0] * len(TEXTS)
        eps[index] = small
        up, down = gold_loss(eps, rate), gold_loss([-value for value in eps], rate)
        np.testing.assert_allclose(-(up - down) / (2 * small) / rate, float(found[index]), rtol=1e-5, atol=1e-6)


def test_weights_sum_to_one_and_are_zero_where_gold_disagrees(network: Network) -> None:
    examples, gold = batch(network, [*GOLD, *GOLD], [1, 0, 0, 2]), batch(network, GOLD, [1, 0])
    weights = example_weights(network, *examples, *gold).numpy()
    np.testing.assert_allclose(weights.sum(), 1, rtol=1e-6)
    assert (weights >= 0).all()
    assert weights[:2].sum() > weights[2:].sum()


def test_all_are_zero_where_nothing_agrees(network: Network) -> None:
    import torch

    examples, (gold, _) = batch(network, TEXTS[:1], [0]), batch(network, TEXTS[:1], [0])
    network.train(False)  # weights are learned without dropout; with it, these would be the chances of a draw
    chances = torch.softmax(network.logits(gold), dim=1).detach()
    # What gold teaches of the same text lies on the other side of what the network says.
    weights = example_weights(network, *examples, gold, 2 * chances - examples[1])
    assert weights.tolist() == [0.0]


def test_the_network_is_left_as_it_was(network: Network) -> None:
    before = {name: value.clone() for name, value in network.state().items()}
    network.train()
    example_weights(network, *batch(network, TEXTS, [0, 1, 2]), *batch(network, GOLD, [1, 0]))
    assert network.head.training
    assert network.encoder.model.training
    assert all(parameter.grad is None for parameter in network.parameters().values())
    assert all((before[name] == value).all() for name, value in network.state().items())
