"""The network of a tagger: the encoder, the mean of the states of each unit's tokens, and a linear head.

The head has the five tags of borders first, and the types of entities after them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annotation_pipelines.distillation.fine_tuning.batches import by_length
from annotation_pipelines.distillation.fine_tuning.encoder import TrainableEncoder, autocast
from annotation_pipelines.distillation.fine_tuning.network import Network
from annotation_pipelines.distillation.fine_tuning.token_windows import TokenWindows

Rows = NDArray[np.int64]
Vectors = NDArray[np.float32]

_READ_TOGETHER = {"cpu": 32, "cuda": 256}


@dataclass(frozen=True)
class UnitBatch:
    """Windows as tensors.

    Attributes:
        inputs: What the encoder takes, shape (m, t).
        owners: Of which unit of the batch each token is, counted from 0; -1: of none; shape (m * t,).
        units: Which units of all these are, shape (u,).
    """

    inputs: dict[str, Any]
    owners: Any
    units: Rows


class TokenNetwork(Network):
    """An encoder with a linear head on units."""

    def __init__(self, encoder: TrainableEncoder, classes: int, *, device: str, precision: str) -> None:
        super().__init__(encoder, classes, pairs=False, device=device, precision=precision)

    def unit_batch(self, windows: TokenWindows, rows: Rows) -> UnitBatch:
        """Some windows as one batch on its device, padded at the right."""
        import torch

        tokenizer = self.encoder.tokenizer
        longest = max(len(windows.ids[row]) for row in rows)
        ids = np.full((len(rows), longest), tokenizer.pad_token_id or 0, dtype=np.int64)
        mask = np.zeros((len(rows), longest), dtype=np.int64)
        owners = np.full((len(rows), longest), -1, dtype=np.int64)
        for place, row in enumerate(rows):
            length = len(windows.ids[row])
            ids[place, :length], mask[place, :length] = windows.ids[row], 1
            owners[place, :length] = windows.owners[row]
        flat = owners.ravel()
        units = np.unique(flat[flat >= 0])
        local = np.where(flat >= 0, np.searchsorted(units, flat), -1)
        inputs = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
        if "token_type_ids" in tokenizer.model_input_names:
            inputs["token_type_ids"] = torch.zeros_like(inputs["input_ids"])
        there = {name: tensor.to(self.device) for name, tensor in inputs.items()}
        return UnitBatch(there, torch.from_numpy(local).to(self.device), units)

    def unit_features(self, batch: UnitBatch) -> Any:
        """The states of u units: shape (u, dimension), each row with a mean square of 1."""
        import torch

        states = self.encoder.model(**batch.inputs).last_hidden_state.to(self.head.weight.dtype).flatten(0, 1)
        kept = batch.owners >= 0
        sums = torch.zeros((len(batch.units), states.shape[1]), dtype=states.dtype, device=states.device)
        sums = sums.index_add(0, batch.owners[kept], states[kept])
        unit = sums / torch.linalg.vector_norm(sums, dim=1, keepdim=True).clamp_min(1e-9)
        return unit * math.sqrt(self.dimension)

    def unit_logits(self, batch: UnitBatch) -> Any:
        """Shape (u, classes); in training mode with dropout before the head."""
        import torch

        return self.head(torch.nn.functional.dropout(self.unit_features(batch), 0.1, self.head.training))

    def unit_vectors(self, windows: TokenWindows, units: int) -> Vectors:
        """The vectors of all units, without dropout: float32, shape (units, dimension), rows of length 1, or 0."""
        found = np.zeros((units, self.dimension), dtype=np.float32)
        for rows, vectors in self._read(windows):
            found[rows] = vectors / math.sqrt(self.dimension)
        return found

    def _read(self, windows: TokenWindows) -> Iterator[tuple[Rows, Vectors]]:
        import torch

        self.train(False)
        with torch.inference_mode():
            for rows in by_length(windows.lengths, _READ_TOGETHER[self.device]):
                batch = self.unit_batch(windows, rows)
                if len(batch.units):
                    with autocast(self.precision, self.device):
                        taken = self.unit_features(batch)
                    yield batch.units, taken.float().cpu().numpy()
