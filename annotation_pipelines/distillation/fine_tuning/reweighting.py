"""Learning to reweight examples: Ren et al. 2018 (arXiv 1803.09050), as LLMaAA does.

One virtual step of size a on sum_i eps_i * loss_i leads from theta to theta - a * sum_i eps_i * grad loss_i. At eps = 0
the derivative of the gold batch's loss there, with respect to eps_i, is

    -a * <grad gold loss, grad loss_i>

so the weight of an example is how well its gradient agrees with that of gold, 0 where it does not, and a falls out when
the weights are made to sum to 1. The product is the derivative of loss_i in the direction of gold's gradient. Forward
differentiation gives it for all examples of a batch in one pass, exactly, without a second derivative.

Both passes leave dropout out, so that a weight is that of the example and not of a draw.
"""

from __future__ import annotations

from typing import Any

from annotation_pipelines.distillation.fine_tuning.batches import Batch
from annotation_pipelines.distillation.fine_tuning.network import Network


def losses(logits: Any, probabilities: Any) -> Any:
    """The cross-entropy of each row: logits and targets of shape (m, k) in, (m,) out."""
    import torch

    return -(torch.log_softmax(logits.to(probabilities.dtype), dim=1) * probabilities).sum(1)


def agreements(network: Network, batch: Batch, probabilities: Any, gold: Batch, gold_probabilities: Any) -> Any:
    """How each example's gradient agrees with that of the gold batch's mean loss: inner products, shape (m,).

    Args:
        batch, probabilities: m examples, and what they teach, shape (m, k).
        gold, gold_probabilities: The gold batch, likewise.
    """
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    was_training = network.head.training
    network.train(False)
    parameters = network.parameters()
    # The fused kernels of attention have no forward derivative.
    with sdpa_kernel(SDPBackend.MATH):
        gold_loss = losses(network.logits(gold), gold_probabilities).mean()
        slopes = torch.autograd.grad(gold_loss, list(parameters.values()), allow_unused=True)
        point = {name: parameter.detach() for name, parameter in parameters.items()}
        # What has no part in the loss, the pooler for instance, keeps its own value.
        used = {name: slope for (name, slope) in zip(parameters, slopes, strict=True) if slope is not None}

        def of_examples(moved: dict[str, Any]) -> Any:
            return losses(network.logits(batch, {**point, **moved}), probabilities)

        with torch.no_grad():
            _, found = torch.func.jvp(of_examples, ({name: point[name] for name in used},), (used,))
    network.train(was_training)
    return found.detach()


def example_weights(network: Network, batch: Batch, probabilities: Any, gold: Batch, gold_probabilities: Any) -> Any:
    """The weight of each example, shape (m,): 0 or more, summing to 1; all 0 where no gradient agrees with gold's."""
    found = agreements(network, batch, probabilities, gold, gold_probabilities).clamp_min(0)
    total = found.sum()
    return found / total if float(total) > 0 else found
