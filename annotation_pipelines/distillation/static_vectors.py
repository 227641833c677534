"""Static vectors: a table with a vector for each token, distilled from an encoder; a text is the mean of its tokens.

The table is made as model2vec makes it (Tulkens and van Dongen 2024): the encoder reads every token of its vocabulary
alone, principal components keep what tells tokens apart, and frequent tokens weigh little (smooth inverse frequency,
Arora et al. 2017, ICLR), by their place in the vocabulary (Zipf's law). Counting them in the texts at hand instead was
tried on banking77 and is worse, .71 for .82: the words of the domain then weigh too little. No order of words, no
context: some hundred times as fast as a transformer of six layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from annotation_pipelines.content import readable
from annotation_pipelines.distillation.encoder import Encoder, Progress, Vectors, _lock, _well_formed
from annotation_pipelines.distillation.fast.graph import threads
from annotation_pipelines.errors import DeclarationError

DIMENSION = 256
TABLE_FILE, TOKENIZER_FILE = "static.safetensors", "tokenizer.json"

_SIF = 1e-4
_BATCH = 64
_CHUNK = 4_096


class StaticVectors:
    """A table of token vectors with its tokenizer; where students get sentence vectors.

    Args:
        encoder: That it was distilled from.
        table: float32, shape (tokens, d); rows of tokens that say nothing are 0.
        tokenizer: A `tokenizers.Tokenizer`, without special tokens, truncation and padding.
    """

    def __init__(self, encoder: Encoder, table: Vectors, tokenizer: Any) -> None:
        self.encoder, self.table, self.tokenizer = encoder, table, tokenizer

    def vectors(self, frame: pl.DataFrame, progress: Progress | None = None) -> Vectors:
        """The vectors of a frame's texts (content), in its order: float32, shape (n, d), rows of length 1, or 0."""
        return self.encode([readable(text) for text in frame["content"]], progress)

    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        """The vectors of n texts: float32, shape (n, d), rows of length 1; 0 for a text without known tokens."""
        vectors = np.empty((len(texts), self.table.shape[1]), dtype=np.float32)
        for start in range(0, len(texts), _CHUNK):
            block = texts[start : start + _CHUNK]
            vectors[start : start + len(block)] = self._means(*tokens(self.tokenizer, block))
            if progress is not None:
                progress(start + len(block), len(texts))
        return vectors

    def _means(self, ids: NDArray[np.int64], ends: NDArray[np.int64]) -> Vectors:
        """The mean directions of runs of tokens, which end at `ends`, shape (n,)."""
        from scipy.sparse import csr_array

        counts = (np.ones(len(ids), dtype=np.float32), ids, np.concatenate([[0], ends]))
        sums: Vectors = csr_array(counts, shape=(len(ends), len(self.table))) @ self.table
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        directions: Vectors = np.divide(sums, lengths, out=np.zeros_like(sums), where=lengths > 0)
        return directions

    def save(self, folder: Path) -> dict[str, Any]:
        """Write the table, in float16, and the tokenizer; what else `load` needs, JSON-like."""
        from safetensors.numpy import save

        (folder / TABLE_FILE).write_bytes(save({"tokens": self.table.astype(np.float16)}))
        self.tokenizer.save(str(folder / TOKENIZER_FILE))
        return {"distilled_from": self.encoder.name}

    @classmethod
    def load(cls, folder: Path, facts: dict[str, Any]) -> StaticVectors:
        """Read what `save` wrote.

        Raises:
            ValueError, KeyError, OSError: It is not what `save` wrote.
        """
        from safetensors.numpy import load
        from tokenizers import Tokenizer

        table = load((folder / TABLE_FILE).read_bytes())["tokens"].astype(np.float32)
        tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
        if table.ndim != 2 or len(table) < tokenizer.get_vocab_size():
            raise ValueError("tokens and vectors do not fit")
        return cls(Encoder(facts["distilled_from"]), table, tokenizer)


def distil(encoder: Encoder, kept: Path | None = None) -> StaticVectors:
    """Make the table of an encoder.

    Args:
        kept: A folder in which what the encoder makes of its vocabulary is kept: it takes it up to a minute.

    Raises:
        DeclarationError: The encoder cannot be loaded, or has no fast tokenizer.
        OSError: The folder cannot be written.
    """
    tokenizer, special = _tokenizer(encoder)
    vocabulary = _vocabulary(encoder, tokenizer, kept)
    vocabulary[sorted(special)] = 0
    said = np.flatnonzero(np.abs(vocabulary).sum(axis=1) > 0)
    table = np.zeros((len(vocabulary), min(DIMENSION, vocabulary.shape[1])), dtype=np.float32)
    table[said] = _principal(vocabulary[said], table.shape[1])
    table[said] *= _weights(len(said))[:, None]
    # As it is saved: a student that is loaded says what it said when it was trained.
    table = table.astype(np.float16).astype(np.float32)
    return StaticVectors(encoder, table, tokenizer)


def tokens(tokenizer: Any, texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The token ids of n texts, one after the other, and where each text ends, shape (n,)."""

    def ids(part: Sequence[str]) -> list[list[int]]:
        read = tokenizer.encode_batch_fast([_well_formed(text) for text in part], add_special_tokens=False)
        return [encoding.ids for encoding in read]

    # Tokenizers run outside Python's lock; their own pool of threads does not outlive a fork.
    workers = min(threads(), len(texts) // 256 or 1)
    if workers == 1:
        listed = ids(texts)
    else:
        share = -(-len(texts) // workers)
        with ThreadPoolExecutor(workers) as pool:
            parts = pool.map(ids, (texts[start : start + share] for start in range(0, len(texts), share)))
            listed = [row for part in parts for row in part]
    ends = np.cumsum([len(row) for row in listed], dtype=np.int64)
    return np.fromiter(chain.from_iterable(listed), dtype=np.int64, count=int(ends[-1]) if len(ends) else 0), ends


def _tokenizer(encoder: Encoder) -> tuple[Any, set[int]]:
    """The encoder's tokenizer without truncation and padding, and the ids of its special tokens."""
    with _lock:
        tokenizer = getattr(encoder._model(), "tokenizer", None)
        if not getattr(tokenizer, "is_fast", False):
            raise DeclarationError(
                f"the encoder {encoder.name!r} has no tokenizer that tells its vocabulary",
                where="distillation: encoder",
                todo="Name an encoder with a fast tokenizer, or choose another student",
            )
        assert tokenizer is not None
        rust = deepcopy(tokenizer.backend_tokenizer)
        special = set(tokenizer.all_special_ids)
    rust.no_truncation()
    rust.no_padding()
    return rust, special


def _vocabulary(encoder: Encoder, tokenizer: Any, kept: Path | None) -> Vectors:
    """What the encoder makes of each token alone: float32, shape (tokens, dimension)."""
    from safetensors.numpy import load, save

    file = None if kept is None else kept / f"{encoder.id}.safetensors"
    if file is not None and file.exists():
        try:
            known: Vectors = load(file.read_bytes())["tokens"].astype(np.float32)
            return known
        except Exception:  # safetensors raises an error of its own for what is cut off; it is made again
            file.unlink()
    found = _read_vocabulary(encoder, tokenizer)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(".part")
        part.write_bytes(save({"tokens": found.astype(np.float16)}))
        part.replace(file)
    rounded: Vectors = found.astype(np.float16).astype(np.float32)
    return rounded


def _read_vocabulary(encoder: Encoder, tokenizer: Any) -> Vectors:
    import torch

    with _lock, torch.inference_mode():
        model = encoder._model()
        size = tokenizer.get_vocab_size()
        # What the tokenizer puts around a text.
        example = tokenizer.encode("a")
        special = np.array(example.special_tokens_mask, dtype=bool)
        first, last = np.flatnonzero(~special)[[0, -1]]
        around, place = [*example.ids[:first], 0, *example.ids[last + 1 :]], int(first)
        parts = []
        for start in range(0, size, _BATCH):
            ids = torch.arange(start, min(start + _BATCH, size))
            given = torch.tensor(around).repeat(len(ids), 1)
            given[:, place] = ids
            inputs = {"input_ids": given, "attention_mask": torch.ones_like(given)}
            if "token_type_ids" in model.tokenizer.model_input_names:
                inputs["token_type_ids"] = torch.zeros_like(given)
            read = model.forward({name: tensor.to(model.device) for name, tensor in inputs.items()})
            parts.append(read["sentence_embedding"].float().cpu().numpy())
    return np.concatenate(parts)


def _principal(vectors: Vectors, dimension: int) -> Vectors:
    """The first principal components, shape (n, dimension), their signs such that the largest entries are positive."""
    centred = vectors - vectors.mean(axis=0)
    values, directions = np.linalg.eigh(centred.T.astype(np.float64) @ centred / max(len(vectors) - 1, 1))
    scores: Vectors = (centred @ directions[:, np.argsort(-values)[:dimension]]).astype(np.float32)
    largest = np.abs(scores).argmax(axis=0)
    scores *= np.sign(scores[largest, np.arange(scores.shape[1])])
    return scores


def _weights(n: int) -> Vectors:
    """a / (a + p) for n tokens in order of frequency, p by Zipf's law: shape (n,)."""
    frequency = 1 / np.arange(2, n + 2)
    frequency /= frequency.sum()
    weights: Vectors = (_SIF / (_SIF + frequency)).astype(np.float32)
    return weights
