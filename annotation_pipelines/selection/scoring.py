"""What a student says of very many records, window by window: only what the acquisition functions need is kept.

Records with one text are scored once. The vectors of a window are read from the cache together, and the student is
asked a chunk at a time, so that memory does not grow with the probabilities, of which token tasks have millions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from annotation_pipelines.project import Strategy
from annotation_pipelines.selection.blocks import one_thread_each
from annotation_pipelines.selection.uncertainty import Array, Reduction, residuals, uncertainties

if TYPE_CHECKING:
    from annotation_pipelines.distillation.encoder import Encoder
    from annotation_pipelines.distillation.prediction import ReadyModel
    from annotation_pipelines.distillation.students.base import Predicted, Progress, TextVectors, Vectors

_WINDOW = 524_288
_CHUNK = 4_096
_TEXTS = ("content_hash", "content")


def uncertainty(
    scorer: ReadyModel, texts: pl.DataFrame, strategy: Strategy, *, reduce: Reduction = "mean", abstain_below: float = 0
) -> Array:
    """How unsure a student is of each of n texts.

    Args:
        texts: content_hash and content, each hash once.
        strategy: A name in `uncertainty.MEASURES`.
        reduce: How the uncertainties of a record's tokens become its own.
        abstain_below: With less confidence the student abstains: such records stand above all others.

    Returns:
        Shape (n,), not negative.
    """
    figures, sure = _asked(
        scorer,
        texts,
        lambda said: (uncertainties(said.probabilities, strategy, reduce), np.asarray(said.confidence)),
        (np.empty(0), np.empty(0)),
    )
    abstained = sure < abstain_below
    # Margin and entropy may rank an abstention below a certain record: what comes first is that it abstained.
    return np.where(abstained, figures + max(1.0, figures.max(initial=0.0)), figures)


def gradients(scorer: ReadyModel, texts: pl.DataFrame, *, reduce: Reduction = "mean") -> NDArray[np.float32]:
    """The residuals that BADGE needs, shape (n, k); arguments as for `uncertainty`."""
    (figures,) = _asked(
        scorer,
        texts,
        lambda said: (residuals(said.probabilities, reduce),),
        (np.empty((0, 0), dtype=np.float32),),
    )
    return np.asarray(figures, dtype=np.float32)


def _asked(
    scorer: ReadyModel,
    texts: pl.DataFrame,
    kept: Callable[[Predicted], tuple[NDArray[np.floating], ...]],
    nothing: tuple[NDArray[np.floating], ...],
) -> list[NDArray[np.floating]]:
    """What is to be kept of what the student says of each chunk, put together; `nothing` where there is no text."""
    parts = []
    for start in range(0, texts.height, _WINDOW):
        window = texts.slice(start, _WINDOW).select(_TEXTS)
        vectors = Prefetched(scorer.vectors, window)
        with one_thread_each():
            for at in range(0, window.height, _CHUNK):
                parts.append(kept(scorer.student.predict(window.slice(at, _CHUNK), vectors)))
    return [np.concatenate(each) for each in zip(*parts, strict=True)] if parts else list(nothing)


class Prefetched:
    """The vectors of some texts, taken from their source at once when one of them is asked for.

    A student that is asked about a chunk finds its vectors in memory. One that has an encoder of its own never asks for
    any, and nothing is read.
    """

    def __init__(self, source: TextVectors, texts: pl.DataFrame) -> None:
        self._source, self._texts = source, texts
        self._places: dict[str, int] = {}
        self._vectors: Vectors | None = None

    @property
    def encoder(self) -> Encoder:
        """The encoder of the source."""
        return self._source.encoder

    def vectors(self, frame: pl.DataFrame, progress: Progress | None = None) -> Vectors:
        """The vectors of a frame's texts (content_hash and content), in its order; others come from the source."""
        if self._vectors is None:
            self._vectors = self._source.vectors(self._texts, progress)
            self._places = {content_hash: row for row, content_hash in enumerate(self._texts["content_hash"])}
        rows = [self._places.get(content_hash, -1) for content_hash in frame["content_hash"]]
        return self._source.vectors(frame, progress) if -1 in rows else self._vectors[rows]
