"""Entities by what the demonstrations' entities look like: their surfaces, surroundings and vectors in context.

A tagger (`distillation.tagging`) is learned from all demonstrations. A record that is one itself, by id or by content,
is answered by a tagger that has not seen it. Entities are given side by side, also where they may be nested; without
demonstrations none are found.
"""

from __future__ import annotations

from collections import defaultdict
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from annotation_pipelines import project
from annotation_pipelines.content import Content
from annotation_pipelines.distillation.tagging.decoding import Guess
from annotation_pipelines.distillation.tagging.span_tagger import Lessons, SpanTagger
from annotation_pipelines.distillation.tagging.text_units import TextUnits
from annotation_pipelines.selection.demonstrations import same_record
from annotation_pipelines.tasks.base import Invalid, Task
from annotation_pipelines.tasks.entities import EntitiesTask
from annotation_pipelines.tasks.spans import TypedSpan, labelled_spans, occurrence_of

if TYPE_CHECKING:
    from annotation_pipelines.distillation.embedding import Embedder

METHOD = 2
"""Raised when the same record would get another answer: every label is stale then."""

FOLDS = 4
"""The demonstrations are cut into so many parts; a tagger for those of one part is learned from the others."""

DEMONSTRATIONS = 1_000
"""At most so many teach, those of the first record ids: learning takes longer than it is worth with more."""


class EntitiesAnswerer:
    """Finds the entities of every record; `neighbours` and `demonstration_weight` do not apply."""

    def __init__(
        self, settings: project.EmbeddedAnnotator, task: Task, demonstrations: pl.DataFrame, embedder: Embedder
    ) -> None:
        assert isinstance(task, EntitiesTask)
        self._task, self._embedder = task, embedder
        self._demonstrations = demonstrations.head(DEMONSTRATIONS)
        self._taggers: dict[frozenset[int], SpanTagger | None] = {}

    @property
    def version(self) -> object:
        """Method, types and part."""
        return {"method": METHOD, "types": list(self._task.labels), "part": self._task.part}

    def answers(self, records: pl.DataFrame) -> list[dict[str, Any]]:
        """entities and confidence of every record."""
        texts = [self._text(content) for content in records["content"]]
        alike = same_record(records, self._demonstrations)
        by_tagger: defaultdict[frozenset[int], list[int]] = defaultdict(list)
        for row in range(len(texts)):
            by_tagger[frozenset(self._folds[alike[row]].tolist())].append(row)
        answers: list[dict[str, Any]] = [{"entities": [], "confidence": 0.0}] * len(texts)
        for unseen, rows in by_tagger.items():
            if (tagger := self._tagger(unseen)) is not None:
                guesses = tagger.guess(TextUnits.read(self._embedder.encoder, [texts[row] for row in rows]))
                for row, guess in zip(rows, guesses, strict=True):
                    answers[row] = _answer(texts[row], guess)
        return answers

    def _text(self, stored: str) -> str:
        try:
            return self._task.text(Content.read(stored))
        except Invalid:
            return ""  # the parser says what is wrong with it

    @cached_property
    def _folds(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The part that each demonstration belongs to; those of one content share one."""
        hashes = sorted(set(self._demonstrations["content_hash"]))
        part = {content_hash: place % FOLDS for place, content_hash in enumerate(hashes)}
        return np.array([part[content_hash] for content_hash in self._demonstrations["content_hash"]], dtype=np.int64)

    @cached_property
    def _teaching(self) -> Lessons:
        texts = [self._text(content) for content in self._demonstrations["content"]]
        entities = [labelled_spans(label) for label in self._demonstrations["label"]]
        return Lessons.of(TextUnits.read(self._embedder.encoder, texts), entities)

    def _tagger(self, unseen: frozenset[int]) -> SpanTagger | None:
        """The tagger that has seen all parts but some; None where what is left has no entity."""
        if unseen not in self._taggers:
            left = np.flatnonzero([int(part) not in unseen for part in self._folds])
            lessons = self._teaching.take(left)
            self._taggers[unseen] = (
                SpanTagger.learn(lessons) if any(lesson.places for lesson in lessons.taught) else None
            )
        return self._taggers[unseen]


def _answer(text: str, guess: Guess) -> dict[str, Any]:
    found = []
    for span in guess.entities:
        occurrence = _occurrence(text, span)
        if occurrence is not None:
            found.append({"text": span.of(text), "type": span.type, "occurrence": occurrence})
    return {"entities": found, "confidence": round(guess.confidence, 6)}


def _occurrence(text: str, span: TypedSpan) -> int | None:
    """None where a unit ends within a character, which texts of odd marks bring about."""
    try:
        return occurrence_of(text, span)
    except Invalid:
        return None
