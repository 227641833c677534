"""Relations by the nearest demonstrated pairs of mentions, and by the types' descriptions."""

from __future__ import annotations

from collections import Counter, defaultdict
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from annotation_pipelines import project
from annotation_pipelines.annotators.embedded.similarity import (
    Array,
    Vectors,
    description_vectors,
    mixed_probabilities,
)
from annotation_pipelines.content import Content
from annotation_pipelines.distillation import mention_pairs
from annotation_pipelines.distillation.mention_pairs import MentionPair, between_vectors, pair_vectors
from annotation_pipelines.selection.demonstrations import same_record
from annotation_pipelines.tasks import spans
from annotation_pipelines.tasks.base import Invalid, Task
from annotation_pipelines.tasks.found_relations import ROLES, FoundRelationsTask
from annotation_pipelines.tasks.given_relations import GivenRelationsTask
from annotation_pipelines.tasks.marked_pair import MarkedPair
from annotation_pipelines.tasks.spans import Span

if TYPE_CHECKING:
    from annotation_pipelines.distillation.embedding import Embedder

METHOD = 1
"""Raised when the same record would get another answer: every label is stale then."""

_MOST_MENTIONS = 12
"""Of a text, the first ones: the pairs among them grow with the square."""

_FAR = 200
"""Characters between two mentions beyond which no relation is looked for."""

_Mention = tuple[Span, str]
"""Where a mention stands, and which known surface it is."""

_Class = tuple[str, bool] | None
"""A type, and whether the mention that comes first is its head; None for no relation."""


class RelationsAnswerer:
    """Gives a marked pair its likeliest relation; where pairs are to be found, those of mentions it knows."""

    def __init__(
        self, settings: project.EmbeddedAnnotator, task: Task, demonstrations: pl.DataFrame, embedder: Embedder
    ) -> None:
        self._inner: _Given | _Found
        if isinstance(task, GivenRelationsTask):
            self._inner = _Given(settings, task, demonstrations, embedder)
        elif isinstance(task, FoundRelationsTask):
            self._inner = _Found(settings, task, demonstrations, embedder)
        else:
            raise TypeError(f"expected a task of relations, found {task.kind}")
        self._version = {
            "method": METHOD,
            "pairs": mention_pairs.VERSION,
            "labels": list(task.labels.items()),
            "part": task.part,
            "directed": task.directed,
            "entity_types": list(task.entity_types or ()) if isinstance(task, FoundRelationsTask) else None,
        }

    @property
    def version(self) -> object:
        """Method, and what the task asks: the labels with their descriptions, and of which text."""
        return self._version

    def answers(self, records: pl.DataFrame) -> list[dict[str, Any]]:
        """The answer to every record; one that is a demonstration does not vote on itself."""
        return self._inner.answers(records)


class _Given:
    """The relation of a marked pair: a vote of the nearest demonstrations, mixed with the types' descriptions."""

    def __init__(
        self,
        settings: project.EmbeddedAnnotator,
        task: GivenRelationsTask,
        demonstrations: pl.DataFrame,
        embedder: Embedder,
    ) -> None:
        self._settings, self._task, self._embedder = settings, task, embedder
        self._demonstrations = demonstrations.filter(pl.col("label").is_in(list(task.labels)))
        # Descriptions are read as of a text in which e1 comes first.
        self._classes: list[_Class] = [_class_of(label, task, first="e1") for label in task.labels]

    def answers(self, records: pl.DataFrame) -> list[dict[str, Any]]:
        """label, confidence and scores of every record."""
        pairs = [self._pair(content) for content in records["content"]]
        marked = [row for row, pair in enumerate(pairs) if pair is not None]
        # A record without marks gets the last label: the parser says what it lacks, whatever the label.
        answers: list[dict[str, Any]] = [{"label": list(self._task.labels)[-1], "confidence": 0.0} for _ in pairs]
        if marked:
            found = self._probabilities(records[marked], [pair for pair in pairs if pair is not None])
            for row, probabilities in zip(marked, found, strict=True):
                answers[row] = self._answer(pairs[row], probabilities)
        return answers

    def _probabilities(self, records: pl.DataFrame, pairs: list[MarkedPair]) -> Array:
        asked = [MentionPair.of(pair.text, pair.e1, pair.e2) for pair in pairs]
        exclude = same_record(records, self._demonstrations)
        neighbours, weight = self._settings.neighbours, self._settings.demonstration_weight
        by_description = mixed_probabilities(
            between_vectors(asked, self._embedder),
            self._descriptions,
            between_vectors(self._shown, self._embedder, keep=True),
            self._votes,
            neighbours=neighbours,
            demonstration_weight=0.0,
            exclude=exclude,
        )
        if not self._shown or weight == 0:
            return by_description
        vote = _voted(pair_vectors(asked, self._embedder), self._vectors, self._votes, neighbours, exclude)
        share = np.where(exclude.all(axis=1, keepdims=True), 0.0, weight)
        mixed: Array = (1 - share) * by_description + share * vote
        return mixed

    def _answer(self, pair: MarkedPair | None, probabilities: Array) -> dict[str, Any]:
        first = "e2" if pair is not None and pair.e2 < pair.e1 else "e1"
        by_class = dict(zip(self._classes, probabilities, strict=True))
        scores = {
            label: round(float(by_class[_class_of(label, self._task, first=first)]), 6) for label in self._task.labels
        }
        label = max(scores, key=lambda name: scores[name])
        return {"label": label, "confidence": min(scores[label], 1.0), "scores": scores}

    def _pair(self, content: str) -> MarkedPair | None:
        try:
            return self._task.pair(Content.read(content))
        except Invalid:
            return None

    @cached_property
    def _marked(self) -> list[tuple[MarkedPair, str]]:
        """Every demonstration, all of which mark a pair, and its label."""
        return [
            (self._task.pair(Content.read(content)), label)
            for content, label in self._demonstrations.select("content", "label").iter_rows()
        ]

    @cached_property
    def _shown(self) -> list[MentionPair]:
        return [MentionPair.of(pair.text, pair.e1, pair.e2) for pair, _ in self._marked]

    @cached_property
    def _vectors(self) -> Vectors:
        return pair_vectors(self._shown, self._embedder, keep=True)

    @cached_property
    def _votes(self) -> Array:
        said = [_class_of(label, self._task, first="e2" if pair.e2 < pair.e1 else "e1") for pair, label in self._marked]
        return _votes(said, self._classes)

    @cached_property
    def _descriptions(self) -> Vectors:
        return description_vectors(self._embedder, self._task.labels)


class _Found:
    """Relations among mentions whose words a demonstration has: what no demonstration mentions is not found.

    Where texts share their mentions, as reports on the same companies do, this serves. Where nearly every mention is a
    new word, next to nothing is found: on SemEval-2010 Task 8 without its marks F1 is 0.01 with 300 demonstrations.
    """

    def __init__(
        self,
        settings: project.EmbeddedAnnotator,
        task: FoundRelationsTask,
        demonstrations: pl.DataFrame,
        embedder: Embedder,
    ) -> None:
        self._settings, self._task, self._embedder = settings, task, embedder
        self._demonstrations = demonstrations
        self._pairs: list[MentionPair] = []
        self._said: list[_Class] = []
        self._rows: list[int] = []
        self._types: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._where: defaultdict[str, set[int]] = defaultdict(set)
        shown = [
            (task.text(Content.read(content)), task.relations(label) or [])
            for content, label in demonstrations.select("content", "label").iter_rows()
        ]
        for row, (_, relations) in enumerate(shown):
            self._meet(row, relations)
        itself = np.eye(len(shown), dtype=np.bool_)
        for row, (text, relations) in enumerate(shown):
            self._learn(row, text, relations, self._mentions(text, itself[row]))

    def answers(self, records: pl.DataFrame) -> list[dict[str, Any]]:
        """relations and confidence of every record."""
        same = same_record(records, self._demonstrations)
        asked: list[tuple[int, MentionPair, tuple[_Mention, _Mention]]] = []
        texts = [self._text(content) for content in records["content"]]
        for row, text in enumerate(texts):
            for one, other in combinations(self._mentions(text, same[row]), 2):
                pair = MentionPair.of(text, (one[0].start, one[0].end), (other[0].start, other[0].end))
                if len(pair.between) <= _FAR:
                    asked.append((row, pair, (one, other)))
        sure: list[list[float]] = [[] for _ in texts]
        found: list[list[dict[str, Any]]] = [[] for _ in texts]
        if asked:
            probabilities = _voted(
                pair_vectors([pair for _, pair, _ in asked], self._embedder),
                self._vectors,
                self._votes,
                self._settings.neighbours,
                same[[row for row, _, _ in asked]][:, self._rows],
            )
            for (row, _, mentions), chances in zip(asked, probabilities, strict=True):
                best = int(chances.argmax())
                sure[row].append(float(chances[best]))
                kind = self._classes[best]
                if kind is not None and chances[best] > 0:
                    found[row].append(self._relation(kind, texts[row], mentions))
        empty = sum(kind is None for kind in self._said) / max(1, len(self._said))
        return [
            {"relations": relations, "confidence": round(min(1.0, float(np.mean(each)) if each else empty), 6)}
            for relations, each in zip(found, sure, strict=True)
        ]

    def _meet(self, row: int, relations: list[dict[str, Any]]) -> None:
        """Learn the mentions of a demonstration."""
        for relation in relations:
            for role in ROLES:
                surface = relation[role]["text"].casefold()
                self._where[surface].add(row)
                self._types[surface][relation[role].get("type", "")] += 1

    def _learn(self, row: int, text: str, relations: list[dict[str, Any]], others: list[_Mention]) -> None:
        """Learn the pairs of a demonstration: those that it relates, and those it could relate and does not."""
        said: defaultdict[tuple[tuple[int, int], tuple[int, int]], set[tuple[str, bool]]] = defaultdict(set)
        for relation in relations:
            head, tail = ((relation[role]["start"], relation[role]["end"]) for role in ROLES)
            said[min(head, tail), max(head, tail)].add((relation["type"], head < tail))
        mentions = {span for pair in said for span in pair}
        mentions |= {
            (other.start, other.end)
            for other, _ in others
            if not any(other.start < end and start < other.end for start, end in mentions)
        }
        nearby = set(combinations(sorted(mentions)[:_MOST_MENTIONS], 2))
        for one, other in sorted(nearby | said.keys()):
            kinds: list[_Class] = [*sorted(said.get((one, other), ()))] or [None]
            for kind in kinds:
                self._pairs.append(MentionPair.of(text, one, other))
                self._said.append(kind)
                self._rows.append(row)

    def _mentions(self, text: str, same: NDArray[np.bool_]) -> list[_Mention]:
        """The places of known surfaces, the longer of two that overlap; without what only the record itself told."""
        folded = text.casefold()
        known = [s for s, rows in self._where.items() if s in folded and not all(same[row] for row in rows)]
        taken: list[_Mention] = []
        for surface in sorted(known, key=lambda s: (-len(s), s)):
            for span in spans.places(text, surface):
                if not any(span.overlaps(other) for other, _ in taken):
                    taken.append((span, surface))
        return sorted(taken)[:_MOST_MENTIONS]

    def _relation(self, kind: tuple[str, bool], text: str, mentions: tuple[_Mention, _Mention]) -> dict[str, Any]:
        head, tail = mentions if kind[1] else mentions[::-1]
        relation: dict[str, Any] = {"type": kind[0]}
        for role, (span, surface) in zip(ROLES, (head, tail), strict=True):
            relation[role] = span.of(text)
            relation[f"{role}_occurrence"] = spans.occurrence_of(text, span)
            if self._task.entity_types is not None:
                relation[f"{role}_type"] = self._types[surface].most_common(1)[0][0]
        return relation

    def _text(self, content: str) -> str:
        try:
            return self._task.text(Content.read(content))
        except Invalid:
            return ""

    @cached_property
    def _classes(self) -> list[_Class]:
        return [None, *((name, way) for name in self._task.labels for way in (True, False))]

    @cached_property
    def _vectors(self) -> Vectors:
        return pair_vectors(self._pairs, self._embedder, keep=True)

    @cached_property
    def _votes(self) -> Array:
        return _votes(self._said, self._classes)


def _class_of(label: str, task: GivenRelationsTask, *, first: str) -> _Class:
    """What a label says of a text in which `first` (e1 or e2) comes first."""
    name = task.type_of[label]
    if name is None:
        return None
    return name, not task.directed or label == f"{name}({first},{'e2' if first == 'e1' else 'e1'})"


def _votes(said: list[_Class], classes: list[_Class]) -> Array:
    """Which class each demonstrated pair is of, shape (m, classes), one 1 a row."""
    position = {kind: index for index, kind in enumerate(classes)}
    votes = np.zeros((len(said), len(classes)))
    votes[np.arange(len(said)), [position[kind] for kind in said]] = 1.0
    return votes


def _voted(vectors: Vectors, shown: Vectors, votes: Array, neighbours: int, exclude: NDArray[np.bool_]) -> Array:
    """The vote of the nearest demonstrated pairs alone, shape (n, classes); even where none may vote."""
    nowhere = np.zeros((votes.shape[1], vectors.shape[1]), dtype=np.float32)
    return mixed_probabilities(
        vectors, nowhere, shown, votes, neighbours=neighbours, demonstration_weight=1.0, exclude=exclude
    )
