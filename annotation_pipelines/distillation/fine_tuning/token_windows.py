"""Texts as windows of tokens, each token with the unit that it belongs to: what a tagger that is fine-tuned reads.

A text that is longer than the window is read in several, each half over the one before. A unit belongs to the window in
which more stands around it, and to that one alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from annotation_pipelines.distillation.fine_tuning.encoder import TrainableEncoder
from annotation_pipelines.tasks.spans import Span

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class TokenWindows:
    """m windows of n texts.

    Attributes:
        ids: The tokens of each window, special ones included.
        owners: For each token of each window the unit that it belongs to, counted over all texts; -1 where there is
            none, or another window has it.
        texts: Of which text each window is, shape (m,).
    """

    ids: list[NDArray[np.int32]]
    owners: list[Rows]
    texts: Rows

    @property
    def lengths(self) -> Rows:
        """Tokens of each window, shape (m,)."""
        return np.array([len(ids) for ids in self.ids], dtype=np.int64)


def token_windows(
    texts: Sequence[str], cut: Sequence[Sequence[Span]], encoder: TrainableEncoder, window: int
) -> TokenWindows:
    """The windows of texts.

    Args:
        cut: The units of each text, in order.
        window: The most tokens of a window, special ones included.
    """
    ids: list[NDArray[np.int32]] = []
    owners: list[Rows] = []
    of: list[int] = []
    read = encoder.tokenize(texts, None, offsets=True) if texts else {"input_ids": [], "offset_mapping": []}
    first_unit = 0
    for row, (found, offsets) in enumerate(zip(read["input_ids"], read["offset_mapping"], strict=True)):
        places = np.array(offsets, dtype=np.int64).reshape(-1, 2)
        real = np.flatnonzero(places[:, 1] > places[:, 0])
        units = _owners(places[real], cut[row])
        tokens = np.array(found, dtype=np.int32)
        before, behind = (tokens[: real[0]], tokens[real[-1] + 1 :]) if len(real) else (tokens, tokens[:0])
        body = tokens[real]
        size = max(2, window - len(before) - len(behind))
        pieces = _pieces(len(body), size)
        keeper = _keepers(units, pieces)
        for piece, (start, end) in enumerate(pieces):
            own = units[start:end]
            kept = np.where((own >= 0) & (keeper[own] == piece), own + first_unit, -1)
            ids.append(np.concatenate([before, body[start:end], behind]))
            owners.append(np.pad(kept, (len(before), len(behind)), constant_values=-1))
            of.append(row)
        first_unit += len(cut[row])
    return TokenWindows(ids, owners, np.array(of, dtype=np.int64))


def _owners(places: Rows, units: Sequence[Span]) -> Rows:
    """The unit in which each token begins; -1 where it begins in none."""
    if not units:
        return np.full(len(places), -1, dtype=np.int64)
    starts, ends = (np.array(bounds) for bounds in zip(*((unit.start, unit.end) for unit in units), strict=True))
    owner = np.searchsorted(starts, places[:, 0], side="right") - 1
    return np.where((owner >= 0) & (places[:, 0] < ends[owner]), owner, -1)


def _pieces(length: int, size: int) -> list[tuple[int, int]]:
    """Windows over a text's tokens, each half over the one before; one at least."""
    starts = range(0, max(1, length - size // 2), max(1, size // 2))
    return [(start, min(start + size, length)) for start in starts]


def _keepers(units: Rows, pieces: Sequence[tuple[int, int]]) -> Rows:
    """For each unit the window in which its first token has most tokens around it."""
    if not (units >= 0).any():
        return np.zeros(1, dtype=np.int64)
    first = np.zeros(int(units.max()) + 1, dtype=np.int64)
    places = np.flatnonzero(units >= 0)
    first[units[places][::-1]] = places[::-1]
    room = np.array(
        [
            np.minimum(
                first - start if start else np.full(len(first), len(units)),
                end - 1 - first if end < len(units) else np.full(len(first), len(units)),
            )
            for start, end in pieces
        ]
    )
    keeper: Rows = room.argmax(axis=0)
    return keeper
