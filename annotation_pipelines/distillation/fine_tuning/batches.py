"""Rows in batches of like length: little padding, and still another order in every epoch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annotation_pipelines.distillation.fine_tuning.reading import Tokens

_BUCKET = 8  # batches that are sorted by length together

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """m texts as tensors on a device.

    Attributes:
        inputs: What the encoder takes: input_ids, attention_mask and, for some, token_type_ids; shape (m, t).
        places: Shape (m, 2), or None: where the markers stand.
    """

    inputs: dict[str, Any]
    places: Any


def shuffled(lengths: NDArray[np.int64], size: int, generator: np.random.Generator) -> list[Rows]:
    """All rows once, in batches: drawn at random, sorted by length within a few batches, these shuffled again.

    Args:
        lengths: Shape (n,): the tokens of each row.
        size: Rows a batch; the last one may have fewer.
    """
    order = generator.permutation(len(lengths))
    found: list[Rows] = []
    for start in range(0, len(order), size * _BUCKET):
        bucket = order[start : start + size * _BUCKET]
        bucket = bucket[np.argsort(lengths[bucket], kind="stable")]
        found += [bucket[first : first + size] for first in range(0, len(bucket), size)]
    return [found[index] for index in generator.permutation(len(found))]


def by_length(lengths: NDArray[np.int64], size: int) -> Iterator[Rows]:
    """All rows once, the longest first: a batch that is too large for the memory fails at the beginning."""
    order = np.argsort(-lengths, kind="stable")
    for start in range(0, len(order), size):
        yield order[start : start + size]


def padded(tokens: Tokens, rows: Rows, tokenizer: Any, device: str) -> Batch:
    """Rows as one batch, padded at the right to the longest."""
    import torch

    longest = max(len(tokens.ids[row]) for row in rows)
    ids = np.full((len(rows), longest), tokenizer.pad_token_id or 0, dtype=np.int64)
    mask = np.zeros((len(rows), longest), dtype=np.int64)
    for index, row in enumerate(rows):
        found = tokens.ids[row]
        ids[index, : len(found)] = found
        mask[index, : len(found)] = 1
    inputs = {"input_ids": torch.from_numpy(ids).to(device), "attention_mask": torch.from_numpy(mask).to(device)}
    if "token_type_ids" in tokenizer.model_input_names:
        inputs["token_type_ids"] = torch.zeros_like(inputs["input_ids"])
    places = None if tokens.places is None else torch.from_numpy(tokens.places[rows]).to(device)
    return Batch(inputs, places)
