"""AdamW with a linear warm-up and a linear descent, clipped gradients, and a pace of its own for the head."""

from __future__ import annotations

from typing import Any

from annotation_pipelines.distillation.fine_tuning.network import Network

WARM_UP = 0.06
"""The share of the steps in which the learning rate rises, as in LLMaAA."""

_CLIP = 1.0
_DECAY = 0.01


class Optimiser:
    """The optimiser of one network.

    Args:
        steps: How many there are going to be.
    """

    def __init__(self, network: Network, *, learning_rate: float, head_learning_rate: float, steps: int) -> None:
        import torch

        self._parameters = list(network.parameters().values())
        head = {id(parameter) for parameter in network.head.parameters()}
        groups = []
        for of_head in (False, True):
            for decays in (False, True):
                # Biases and the scales of normalisation do not decay.
                chosen = [p for p in self._parameters if (id(p) in head) == of_head and (p.ndim > 1) == decays]
                rate = head_learning_rate if of_head else learning_rate
                groups.append({"params": chosen, "lr": rate, "weight_decay": _DECAY if decays else 0.0})
        self._adam: Any = torch.optim.AdamW(groups, fused=True)
        warm = max(1, round(WARM_UP * steps))
        self._schedule: Any = torch.optim.lr_scheduler.LambdaLR(
            self._adam, lambda step: min((step + 1) / warm, max(0.0, (steps - step) / max(1, steps - warm)))
        )

    def step(self, loss: Any) -> None:
        """One step down a loss."""
        import torch

        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._parameters, _CLIP)
        self._adam.step()
        self._schedule.step()
        self._adam.zero_grad(set_to_none=True)

    def pass_by(self) -> None:
        """A step that is not taken; the schedule goes on."""
        import warnings

        with warnings.catch_warnings():
            # torch takes a schedule that moves before the first step for a mistake.
            warnings.simplefilter("ignore", UserWarning)
            self._schedule.step()
