"""The network: the encoder, what is taken of its states, and a linear head.

What is taken is scaled to a mean square of 1: the head then learns at the same pace on any encoder, and a linear model
on unit vectors is a head but for the factor sqrt(d).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from annotation_pipelines.distillation.fine_tuning.batches import Batch, by_length, padded
from annotation_pipelines.distillation.fine_tuning.encoder import TrainableEncoder, autocast
from annotation_pipelines.distillation.fine_tuning.reading import Tokens

Array = NDArray[np.float64]
Vectors = NDArray[np.float32]
Parameters = Mapping[str, Any]

_DROPOUT = 0.1
_READ_TOGETHER = {"cpu": 16, "cuda": 256}
_ENCODER, _HEAD = "encoder.", "head."


class Network:
    """An encoder with a linear head of k classes.

    Args:
        pairs: Whether the states of two markers are taken, instead of a pooled state.
        precision: As in `FineTuning`.

    Attributes:
        dimension: The length of what is taken of a text.
    """

    def __init__(self, encoder: TrainableEncoder, classes: int, *, pairs: bool, device: str, precision: str) -> None:
        import torch

        self.encoder, self.pairs, self.device, self.precision = encoder, pairs, device, precision
        self.dimension = encoder.width * (2 if pairs else 1)
        self.head = torch.nn.Linear(self.dimension, classes)
        torch.nn.init.zeros_(self.head.weight)
        torch.nn.init.zeros_(self.head.bias)
        self.to(device)

    def to(self, device: str) -> Self:
        """Move it to a device."""
        self.device = device
        self.encoder.model.to(device)
        self.head.to(device)
        return self

    def train(self, on: bool = True) -> None:
        """Whether dropout is on."""
        self.encoder.model.train(on)
        self.head.train(on)

    def parameters(self) -> dict[str, Any]:
        """The parameters that learn, by name: those of the encoder and of the head."""
        return {
            prefix + name: parameter
            for prefix, module in ((_ENCODER, self.encoder.model), (_HEAD, self.head))
            for name, parameter in module.named_parameters()
            if parameter.requires_grad
        }

    def features(self, batch: Batch, parameters: Parameters | None = None) -> Any:
        """What is taken of m texts: shape (m, dimension), each row with a mean square of 1.

        Args:
            parameters: Taken in the place of its own, by name.
        """
        import torch

        found = _call(self.encoder.model, _own(parameters, _ENCODER), batch.inputs)
        # Pooled in the head's precision: of many tokens in bfloat16 the sum would lose the last ones.
        states = found.last_hidden_state.to(self.head.weight.dtype)
        rows = torch.arange(len(states), device=states.device)
        mask = batch.inputs["attention_mask"]
        if self.pairs:
            taken = states[rows[:, None], batch.places].flatten(1)
        elif self.encoder.pooling == "cls":
            taken = states[:, 0]
        elif self.encoder.pooling == "lasttoken":
            taken = states[rows, mask.sum(1) - 1]
        elif self.encoder.pooling == "max":
            taken = states.masked_fill(mask[..., None] == 0, -math.inf).amax(1)
        else:
            wide = mask[..., None].to(states.dtype)
            taken = (states * wide).sum(1) / wide.sum(1)
        unit = taken / torch.linalg.vector_norm(taken, dim=1, keepdim=True).clamp_min(1e-9)
        return unit * math.sqrt(self.dimension)

    def logits(self, batch: Batch, parameters: Parameters | None = None) -> Any:
        """Shape (m, k); in training mode with dropout before the head."""
        import torch

        taken = torch.nn.functional.dropout(self.features(batch, parameters), _DROPOUT, self.head.training)
        own = _own(parameters, _HEAD)
        return self.head(taken) if own is None else torch.func.functional_call(self.head, own, (taken,))

    def batch(self, tokens: Tokens, rows: NDArray[np.int64]) -> Batch:
        """Rows as tensors on its device."""
        return padded(tokens, rows, self.encoder.tokenizer, self.device)

    def vectors(self, tokens: Tokens, size: int | None = None) -> Vectors:
        """What is taken of n texts, without dropout: float32, shape (n, dimension), rows of length 1.

        Args:
            size: Texts that are read together; default: what the device reads fast.
        """
        import torch

        found = np.zeros((len(tokens.ids), self.dimension), dtype=np.float32)
        self.train(False)
        with torch.inference_mode():
            for rows in by_length(tokens.lengths, size or _READ_TOGETHER[self.device]):
                with autocast(self.precision, self.device):
                    taken = self.features(self.batch(tokens, rows))
                found[rows] = taken.float().cpu().numpy() / math.sqrt(self.dimension)
        return found

    def predict(self, tokens: Tokens, size: int | None = None) -> Array:
        """The logits of n texts, without dropout: shape (n, k). Size: as in `vectors`."""
        coef, intercept = self.linear()
        return (self.vectors(tokens, size) @ coef.T + intercept).astype(np.float64)

    def linear(self) -> tuple[Vectors, Vectors]:
        """The head as a linear model on unit vectors: coefficients, shape (k, dimension), intercepts, shape (k,)."""
        weight, bias = (tensor.detach().cpu().numpy() for tensor in (self.head.weight, self.head.bias))
        return weight * np.float32(math.sqrt(self.dimension)), bias.copy()

    def set_linear(self, coef: Vectors, intercept: Vectors) -> None:
        """Take over a linear model on unit vectors as the head."""
        import torch

        with torch.no_grad():
            self.head.weight.copy_(torch.from_numpy(coef / np.float32(math.sqrt(self.dimension))))
            self.head.bias.copy_(torch.from_numpy(np.asarray(intercept, dtype=np.float32)))

    def state(self) -> dict[str, Any]:
        """A copy of the parameters that learn."""
        return {name: parameter.detach().cpu().clone() for name, parameter in self.parameters().items()}

    def restore(self, state: Parameters) -> None:
        """Go back to a state."""
        import torch

        with torch.no_grad():
            for name, parameter in self.parameters().items():
                parameter.copy_(state[name])


def _own(parameters: Parameters | None, prefix: str) -> dict[str, Any] | None:
    if parameters is None:
        return None
    return {name[len(prefix) :]: value for name, value in parameters.items() if name.startswith(prefix)}


def _call(module: Any, parameters: dict[str, Any] | None, inputs: dict[str, Any]) -> Any:
    import torch

    if parameters is None:
        return module(**inputs)
    return torch.func.functional_call(module, parameters, (), inputs)
