"""The fastest way for one model of a project, chosen when the first texts come."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

import polars as pl

from annotation_pipelines.distillation.embedding import Embedder, Progress, ReadOnly, TextEncoder, Uncached
from annotation_pipelines.distillation.encoder import Vectors
from annotation_pipelines.distillation.fast.choice import Choice, Ways, choose
from annotation_pipelines.distillation.students.base import Predicted, Student
from annotation_pipelines.store.database import Store

# Gold first, and of both so many; the order of the hashes is one by lot. Nothing that is held out.
_POOL = """
WITH known AS (
    SELECT r.content_hash, r.content, h.label AS gold
    FROM records r LEFT JOIN human_labels h USING (record_id, content_hash)
    WHERE r.deleted_at IS NULL AND coalesce(h.role, '') <> 'evaluation'
      AND r.content NOT IN (SELECT content FROM human_labels WHERE role = 'evaluation')
)
(SELECT * FROM known WHERE gold IS NOT NULL ORDER BY content_hash LIMIT 300)
UNION ALL (SELECT * FROM known WHERE gold IS NULL ORDER BY content_hash LIMIT 500)
"""


class FastestWay:
    """Encodes for a student in the fastest way that is no worse for it; see `choice`.

    Args:
        store: The project's store: its records are what ways are tried on.
        version: The model's version.
        student: It predicts from sentence vectors.
        embedder: With the encoder that the model was trained on.
        wanted: From how many texts the first call has, how many there will be in all.
    """

    def __init__(
        self, store: Store, version: str, student: Student, embedder: Embedder, wanted: Callable[[int], int]
    ) -> None:
        self._store, self._version, self._student = store, version, student
        self._embedder, self._wanted = embedder, wanted
        self._lock = threading.Lock()
        self.choice: Choice | None = None

    @property
    def id(self) -> str:
        """The encoder's, or that of the way that was chosen."""
        return self._embedder.encoder.id if self.choice is None else self.choice.by.id

    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors:
        """The vectors of n texts: float32, shape (n, dimension), rows of length 1."""
        return self.chosen(len(texts)).by.encode(texts, progress)

    def chosen(self, texts: int) -> Choice:
        """The way, chosen now if it was not yet.

        Args:
            texts: How many texts the first call has.
        """
        with self._lock:
            if self.choice is None:
                self.choice = choose(
                    Ways(self._store.home, self._embedder.encoder, self._store.announce),
                    self._version,
                    lambda: self._store.query(_POOL),
                    self._predicted,
                    wanted=self._wanted(texts),
                )
                logging.getLogger(__name__).info("texts are encoded by %s: %s", self.choice.way, self.choice.why)
            return self.choice

    def _predicted(self, rows: pl.DataFrame, by: TextEncoder | None) -> Predicted:
        source = ReadOnly(self._embedder) if by is None else Uncached(self._embedder.encoder, by)
        return self._student.predict(rows.select("content_hash", "content"), source)
