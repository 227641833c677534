"""Entities by a frozen encoder: token vectors in context, what is seen of the words, and dynamic programming.

What is learned of entities that overlap or stand within others: of each group the longest, side by side; so strict
recall has a ceiling below 1 where gold is nested. Texts that are longer than the encoder's window are read in windows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from annotation_pipelines.content import Content
from annotation_pipelines.distillation.encoder import Encoder
from annotation_pipelines.distillation.students.base import Array, Examples, Predicted, Progress, Student, TextVectors
from annotation_pipelines.distillation.tagging.held_out import Certainty, Chosen, choose, held_out
from annotation_pipelines.distillation.tagging.robust import Audited, Figures, check_robust, robust_lessons
from annotation_pipelines.distillation.tagging.span_tagger import Lessons, SpanTagger
from annotation_pipelines.distillation.tagging.text_units import TextUnits
from annotation_pipelines.errors import TrainingError
from annotation_pipelines.project import Distillation
from annotation_pipelines.tasks.base import Invalid
from annotation_pipelines.tasks.entities import EntitiesTask
from annotation_pipelines.tasks.spans import TypedSpan, check, labelled_spans, spans_label

_FILE = "model.safetensors"
_CHUNK = 512
_MOST_HELD_OUT = 1_200
"""So many texts choose the settings at most: more make no difference that could be told."""


class TaggerStudent(Student):
    """A span tagger on the vectors of tokens; labels are canonical lists of entities.

    `Predicted.probabilities` has for each record an array of shape (units, 1 + types): the probability of each word (or
    character of a script without borders between words) to be outside of all entities, and to be in one of each type.
    """

    kind = "linear"
    tagger: SpanTagger
    certainty: Certainty
    task: EntitiesTask

    def fit(self, examples: Examples, vectors: TextVectors, progress: Progress | None = None) -> Self:
        """Learn; see `Student.fit`.

        Memory grows by about 1.2 KB with each word, for its vector and what is seen of it.
        """
        lessons, made = lessons_of(self.task, examples, self.config, vectors.encoder, progress)
        groups = examples.rows["content_hash"].to_list()
        tagger = SpanTagger.learn(lessons)
        chosen = self._choose(lessons, groups, examples, tagger.span_scale)
        self.tagger, self.certainty = replace(tagger, settings=chosen.settings), chosen.certainty
        self._facts = {
            "types": len(tagger.kinds),
            "units": int(lessons.units.lengths.sum()),
            "entities": int((lessons.spans > 0).sum()),
            "cv_f1": chosen.f1,
            "cv_log_loss": chosen.log_loss,
            **made,
        }
        return self

    def predict(self, rows: pl.DataFrame, vectors: TextVectors, progress: Progress | None = None) -> Predicted:
        """The entities of every row; none, without confidence, where the record has no such part."""
        labels: list[str] = []
        certainty: list[float] = []
        probabilities: list[Array] = []
        for first in range(0, rows.height, _CHUNK):
            contents = rows["content"][first : first + _CHUNK].to_list()
            texts = [text_or_none(self.task, content) for content in contents]
            units = TextUnits.read(vectors.encoder, [text or "" for text in texts])
            for text, guess in zip(texts, self.tagger.guess(units), strict=True):
                labels.append(label_of(text or "", guess.entities))
                certainty.append(-np.inf if text is None else guess.certainty)
                probabilities.append(guess.units)
            if progress is not None:
                progress(len(labels), rows.height)
        confidence = self.certainty.of(np.array(certainty, dtype=np.float64))
        confidence[np.isneginf(certainty)] = 0.0
        return Predicted(labels, confidence, probabilities)

    def save(self, folder: Path) -> dict[str, Any]:
        """Write the arrays."""
        from safetensors.numpy import save

        (folder / _FILE).write_bytes(save(self.tagger.arrays()))
        return {
            **self.tagger.facts(),
            "slope": self.certainty.slope,
            "offset": self.certainty.offset,
            "figures": self._facts,
        }

    def load(self, folder: Path, facts: Mapping[str, Any]) -> Self:
        """Read the arrays."""
        from safetensors.numpy import load

        self.tagger = SpanTagger.of_arrays(load((folder / _FILE).read_bytes()), facts)
        self.certainty = Certainty(float(facts["slope"]), float(facts["offset"]))
        self._facts = dict(facts["figures"])
        return self

    def figures(self) -> dict[str, float | int | str | None]:
        """Types, units and entities that were learned from; strict F1 and log-loss of units in cross-validation."""
        return {
            **self._facts,
            "outside_penalty": self.tagger.settings.outside_penalty,
            "temperature": self.tagger.settings.temperature,
        }

    def _choose(self, lessons: Lessons, groups: Sequence[str], examples: Examples, span_scale: float) -> Chosen:
        texts = _sampled(examples.gold, examples.weights > 0, self.config.seed)
        found = held_out(lessons, groups, texts, span_scale=span_scale, seed=self.config.seed)
        if found is None:
            return Chosen()
        right = np.where(examples.gold, 1.0, np.minimum(examples.weights, 1.0))
        return choose(lessons, found, shares_of_say(examples.gold, examples.weights, texts), right)


def lessons_of(
    task: EntitiesTask,
    examples: Examples,
    config: Distillation,
    encoder: Encoder | None,
    progress: Progress | None = None,
) -> tuple[Lessons, Figures]:
    """What examples teach, as `distillation: robust` declares, and what was done for it, by name.

    Args:
        encoder: Gives the vectors of units; None: they have none.

    Raises:
        TrainingError: No entity is taught.
        DeclarationError: What is declared cannot be done for entities, or the encoder cannot be loaded.
    """
    check_robust(config.robust)
    texts = [text_of(task, content) for content in examples.rows["content"]]
    units = TextUnits.cut(texts) if encoder is None else TextUnits.read(encoder, texts, progress, dtype=np.float16)
    weights = examples.weights
    if config.robust.weights == "none":
        weights = np.where(~examples.gold & (weights > 0), 1.0, weights)
    entities = [labelled_spans(label) for label in examples.rows["label"]]
    lessons = Lessons.of(units, entities, weights, list(task.labels))
    if not (lessons.spans > 0).any():
        raise TrainingError(
            "expected entities to learn from, found none that whole words make up among labels with a weight",
            where="table trusted_labels",
            todo="Materialize more partitions, or look at the guideline: the annotator finds no entities",
        )
    groups = examples.rows["content_hash"].to_list()
    return robust_lessons(lessons, examples.gold, groups, audited(task, examples), config.robust, config.seed)


def text_of(task: EntitiesTask, content: str) -> str:
    """The text of a stored content in which entities stand.

    Raises:
        Invalid: It does not have the part.
    """
    return task.text(Content.read(content))


def audited(task: EntitiesTask, examples: Examples) -> list[Audited]:
    """What the teacher says of gold texts, where it says anything."""
    return [
        Audited(text_of(task, content), labelled_spans(label), labelled_spans(given))
        for content, label, given in examples.audit.select("content", "label", "given").iter_rows()
        if given is not None and task.problem(given, Content.read(content)) is None
    ]


def label_of(text: str, entities: Sequence[TypedSpan]) -> str:
    """The canonical label of entities; those that would cut a character, which odd texts bring about, are left out."""
    kept = []
    for entity in entities:
        try:
            check(text, entity)
        except Invalid:
            continue
        kept.append(entity)
    return spans_label(text, kept)


def shares_of_say(gold: NDArray[np.bool_], weights: Array, texts: NDArray[np.int64]) -> Array:
    """How much each example counts in choosing, shape (n,): gold and silver half each, where both are there.

    Args:
        texts: Which examples take part; the others count nothing.
    """
    say = np.zeros(len(gold))
    sides = [texts[gold[texts]], texts[~gold[texts]]]
    for side in sides:
        if len(side) and weights[side].sum() > 0:
            say[side] = weights[side] / weights[side].sum()
    return say / say.sum() if say.sum() > 0 else say


def text_or_none(task: EntitiesTask, content: str) -> str | None:
    """The text of a stored content in which entities stand; None where it does not have the part."""
    try:
        return text_of(task, content)
    except Invalid:
        return None


def _sampled(gold: NDArray[np.bool_], weighty: NDArray[np.bool_], seed: int) -> NDArray[np.int64]:
    """At most as many examples as are needed to choose by; gold goes before silver."""
    drawn = np.random.default_rng(seed).permutation(len(gold))
    drawn = drawn[weighty[drawn]]
    return np.sort(np.concatenate([drawn[gold[drawn]], drawn[~gold[drawn]]])[:_MOST_HELD_OUT])
