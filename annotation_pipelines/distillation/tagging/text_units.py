"""Texts cut into units, with the encoder's vector of each unit in its context, and what entities make of the units."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annotation_pipelines.distillation.encoder import Encoder
from annotation_pipelines.distillation.tagging.paths import BEGIN, END, INSIDE, OUTSIDE, SINGLE, Tags
from annotation_pipelines.distillation.tagging.words import units
from annotation_pipelines.distillation.token_vectors import span_vectors
from annotation_pipelines.tasks.spans import Span, TypedSpan

_CHUNK = 256

Place = tuple[int, int]
"""The first and the last unit of a span."""


@dataclass(frozen=True)
class TextUnits:
    """n texts with the vectors of their units.

    Attributes:
        texts: What they say.
        lengths: How many units each has, shape (n,).
        vectors: The encoder's vector of each unit, text after text, shape (units, d).
    """

    texts: Sequence[str]
    lengths: NDArray[np.int64]
    vectors: NDArray[np.floating[Any]]

    @classmethod
    def read(
        cls,
        encoder: Encoder,
        texts: Sequence[str],
        progress: Callable[[int, int], None] | None = None,
        *,
        dtype: type[np.floating[Any]] = np.float32,
    ) -> TextUnits:
        """Cut texts and read them with an encoder; without vectors (d = 0) where it does not say where tokens stand.

        Args:
            dtype: Of the vectors; float16 takes half of the memory.

        Raises:
            DeclarationError: The encoder cannot be loaded.
        """
        lengths = np.zeros(len(texts), dtype=np.int64)
        parts = [np.zeros((0, 0), dtype=dtype)]
        for first in range(0, len(texts), _CHUNK):
            chunk = texts[first : first + _CHUNK]
            cut = [units(text) for text in chunk]
            lengths[first : first + len(chunk)] = [len(spans) for spans in cut]
            vectors = np.concatenate(span_vectors(encoder, chunk, cut)).astype(dtype)
            parts = [*(part.reshape(-1, vectors.shape[1]) for part in parts if len(part)), vectors]
            if progress is not None:
                progress(first + len(chunk), len(texts))
        return cls(texts, lengths, np.concatenate(parts))

    @classmethod
    def cut(cls, texts: Sequence[str]) -> TextUnits:
        """Texts without vectors (d = 0)."""
        lengths = np.array([len(units(text)) for text in texts], dtype=np.int64)
        return cls(texts, lengths, np.zeros((int(lengths.sum()), 0), dtype=np.float32))

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def starts(self) -> NDArray[np.int64]:
        """Where the units of each text begin among all, shape (n + 1,)."""
        return np.cumsum([0, *self.lengths], dtype=np.int64)

    def rows(self, texts: NDArray[np.int64]) -> NDArray[np.int64]:
        """The units of some texts, text after text."""
        starts = self.starts
        return np.concatenate(
            [np.zeros(0, dtype=np.int64), *(np.arange(starts[text], starts[text + 1]) for text in texts)]
        )


@dataclass(frozen=True)
class Taught:
    """What the entities of a text teach about its units.

    Attributes:
        tags: The tag of each unit, shape (units,).
        known: False where nothing is known of a unit: it stands in an entity that no whole units make up.
        places: The entities that are taught: first and last unit, and type.
    """

    tags: Tags
    known: NDArray[np.bool_]
    places: list[tuple[int, int, str]]


def taught(spans: Sequence[Span], entities: Sequence[TypedSpan]) -> Taught:
    """What entities teach about units.

    Of entities that overlap the longest teaches, then the first; an inner one is a part of it. One that begins or ends
    within a unit teaches nothing, nor does a unit that is covered by it, or by an overlapping one, alone.

    Args:
        spans: The units, in order.
        entities: In any order.
    """
    starts = {unit.start: place for place, unit in enumerate(spans)}
    ends = {unit.end: place for place, unit in enumerate(spans)}
    tags, known = np.full(len(spans), OUTSIDE), np.ones(len(spans), dtype=np.bool_)
    kept = []
    for entity in sorted(entities, key=lambda entity: (entity.start - entity.end, entity)):
        first, last = starts.get(entity.start), ends.get(entity.end)
        if first is None or last is None or (tags[first : last + 1] != OUTSIDE).any():
            known[[place for place, unit in enumerate(spans) if unit.overlaps(entity)]] = False
            continue
        tags[first : last + 1] = INSIDE
        tags[first], tags[last] = BEGIN, END
        if first == last:
            tags[first] = SINGLE
        kept.append((first, last, entity.type))
    return Taught(tags, known | (tags != OUTSIDE), kept)


def places_of(tags: Sequence[int] | Tags) -> list[Place]:
    """The spans that a whole sequence of tags makes."""
    found = []
    first = 0
    for place, tag in enumerate(tags):
        if tag in (BEGIN, SINGLE):
            first = place
        if tag in (END, SINGLE):
            found.append((first, place))
    return found
