"""Vectors for spans of texts: what the encoder makes of each token in its context, before one vector is made of all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annotation_pipelines.distillation.encoder import Encoder, _lock, _well_formed
from annotation_pipelines.tasks.spans import Span

Vectors = NDArray[np.float32]

_BATCH = 32


def span_vectors(encoder: Encoder, texts: Sequence[str], spans: Sequence[Sequence[Span]]) -> list[Vectors]:
    """The mean of the token vectors of each span.

    Args:
        texts: n texts.
        spans: For each text spans that do not overlap, in order.

    Returns:
        For each text float32 of shape (spans, dimension), rows of length 1; 0 where a span lies beyond the encoder's
        window. Shape (spans, 0) for encoders that do not say where their tokens stand.

    Raises:
        DeclarationError: The encoder cannot be loaded.
    """
    found: list[Vectors] = [np.zeros((len(listed), 0), dtype=np.float32) for listed in spans]
    if not texts:
        return found
    with _lock:
        model = encoder._model()
        tokenizer: Any = getattr(model, "tokenizer", None)
        if not getattr(tokenizer, "is_fast", False):
            return found
        import torch

        order = np.argsort([-len(text) for text in texts], kind="stable")
        for start in range(0, len(order), _BATCH):
            block = order[start : start + _BATCH]
            # A lone surrogate is replaced by one character, so places stay the same.
            tokens = tokenizer(
                [_well_formed(texts[row]) for row in block],
                padding=True,
                truncation=True,
                max_length=model.max_seq_length,
                return_offsets_mapping=True,
                return_tensors="pt",
            )
            places = tokens.pop("offset_mapping").numpy()
            with torch.inference_mode():
                given = model.forward({name: tensor.to(model.device) for name, tensor in tokens.items()})
            if "token_embeddings" not in given:
                return found
            vectors = given["token_embeddings"].float().cpu().numpy()
            for position, row in enumerate(block):
                found[row] = _pooled(places[position], vectors[position], spans[row])
    return found


def _pooled(places: NDArray[np.int64], vectors: Vectors, spans: Sequence[Span]) -> Vectors:
    pooled = np.zeros((len(spans), vectors.shape[1]), dtype=np.float32)
    if not spans:
        return pooled
    starts, ends = (np.array(bounds) for bounds in zip(*((span.start, span.end) for span in spans), strict=True))
    real = np.flatnonzero(places[:, 1] > places[:, 0])  # padding and special tokens stand nowhere
    owner = np.searchsorted(starts, places[real, 0], side="right") - 1
    inside = (owner >= 0) & (places[real, 0] < ends[owner])
    np.add.at(pooled, owner[inside], vectors[real[inside]])
    lengths = np.linalg.norm(pooled, axis=1, keepdims=True)
    directions: Vectors = np.divide(pooled, lengths, out=np.zeros_like(pooled), where=lengths > 0)
    return directions
