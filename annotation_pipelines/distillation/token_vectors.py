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

    A text that is longer than the encoder's window is read in windows, each a quarter over the one before; a token has
    its vector from the window in which more stands around it.

    Args:
        texts: n texts.
        spans: For each text spans that do not overlap, in order.

    Returns:
        For each text float32 of shape (spans, dimension), rows of length 1; 0 where no token begins in a span.
        Shape (spans, 0) for encoders that do not say where their tokens stand.

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
        order = np.argsort([-len(text) for text in texts], kind="stable")
        for start in range(0, len(order), _BATCH):
            block = order[start : start + _BATCH]
            # A lone surrogate is replaced by one character, so places stay the same.
            read = _read(model, tokenizer, [_well_formed(texts[row]) for row in block])
            if read is None:
                return found
            for row, (places, vectors) in zip(block, read, strict=True):
                found[row] = _pooled(places, vectors, spans[row])
    return found


def _read(model: Any, tokenizer: Any, texts: Sequence[str]) -> list[tuple[NDArray[np.int64], Vectors]] | None:
    """For each text where its tokens stand, shape (tokens, 2), and their vectors; None if the encoder gives none."""
    import torch

    window = model.max_seq_length or min(tokenizer.model_max_length, 512)
    stride = window // 4
    tokens = tokenizer(
        list(texts),
        truncation=True,
        max_length=window,
        stride=stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    owners, places = tokens["overflow_to_sample_mapping"], tokens["offset_mapping"]
    names = [name for name in tokenizer.model_input_names if name in tokens]
    vectors: list[Vectors] = []
    for start in range(0, len(owners), _BATCH):
        windows = {name: tokens[name][start : start + _BATCH] for name in names}
        padded = tokenizer.pad(windows, return_tensors="pt")
        with torch.inference_mode():
            given = model.forward({name: tensor.to(model.device) for name, tensor in padded.items()})
        if "token_embeddings" not in given:
            return None
        block = given["token_embeddings"].float().cpu().numpy()
        sides = padded["attention_mask"].numpy()
        vectors += [row[side == 1] for row, side in zip(block, sides, strict=True)]
    read: list[list[tuple[NDArray[np.int64], Vectors]]] = [[] for _ in texts]
    for number, owner in enumerate(owners):
        where = np.array(places[number], dtype=np.int64).reshape(-1, 2)
        real = np.flatnonzero(where[:, 1] > where[:, 0])  # special tokens stand nowhere
        first = number > 0 and owners[number - 1] == owner
        last = number + 1 < len(owners) and owners[number + 1] == owner
        # Of the tokens that two windows share each window gives the half that it sees more of.
        real = real[stride - stride // 2 if first else 0 : len(real) - stride // 2 if last else len(real)]
        read[owner].append((where[real], vectors[number][real]))
    return [(np.concatenate([p for p, _ in parts]), np.concatenate([v for _, v in parts])) for parts in read]


def _pooled(places: NDArray[np.int64], vectors: Vectors, spans: Sequence[Span]) -> Vectors:
    pooled = np.zeros((len(spans), vectors.shape[1]), dtype=np.float32)
    if not spans:
        return pooled
    starts, ends = (np.array(bounds) for bounds in zip(*((span.start, span.end) for span in spans), strict=True))
    owner = np.searchsorted(starts, places[:, 0], side="right") - 1
    inside = (owner >= 0) & (places[:, 0] < ends[owner])
    np.add.at(pooled, owner[inside], vectors[inside])
    lengths = np.linalg.norm(pooled, axis=1, keepdims=True)
    directions: Vectors = np.divide(pooled, lengths, out=np.zeros_like(pooled), where=lengths > 0)
    return directions
