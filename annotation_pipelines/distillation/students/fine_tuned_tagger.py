"""Entities by an encoder that learns too: a transformer's states of words, and dynamic programming.

The tags, what is learned of entities that overlap, the calibration and the switches of `distillation: robust` are those
of the tagger with a frozen encoder; weights that are learned against gold are learned on the frozen encoder's vectors.
A text that is longer than `fine_tuning: max_tokens` is read in windows.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from annotation_pipelines.distillation.fine_tuning.encoder import TrainableEncoder, device_of
from annotation_pipelines.distillation.fine_tuning.token_course import train_tagger
from annotation_pipelines.distillation.fine_tuning.token_network import TokenNetwork
from annotation_pipelines.distillation.fine_tuning.token_windows import token_windows
from annotation_pipelines.distillation.students.base import Array, Examples, Predicted, Progress, Student, TextVectors
from annotation_pipelines.distillation.students.tagger import (
    label_of,
    lessons_of,
    shares_of_say,
    text_or_none,
)
from annotation_pipelines.distillation.tagging.decoding import Guess, Settings, decoded
from annotation_pipelines.distillation.tagging.held_out import Certainty, Chosen, HeldOut, choose
from annotation_pipelines.distillation.tagging.paths import TAGS
from annotation_pipelines.distillation.tagging.softmax_regression import log_softmax
from annotation_pipelines.distillation.tagging.span_tagger import Lessons
from annotation_pipelines.distillation.tagging.text_units import Place
from annotation_pipelines.distillation.tagging.words import units
from annotation_pipelines.tasks.entities import EntitiesTask

_ENCODER_FOLDER = "encoder"
_HEAD_FILE = "head.safetensors"
_CHUNK = 512


class FineTunedTagger(Student):
    """An encoder with a linear head on words, trained together; `Predicted.probabilities` as of `TaggerStudent`."""

    kind = "fine_tuned"
    own_encoder = True
    task: EntitiesTask
    network: TokenNetwork
    settings: Settings
    certainty: Certainty
    shares: Array

    def fit(self, examples: Examples, vectors: TextVectors, progress: Progress | None = None) -> Self:
        """Learn; see `Student.fit`."""
        config = self.config
        robust = config.robust
        read = robust.reweight or robust.prune != "none"
        lessons, made = lessons_of(self.task, examples, config, vectors.encoder if read else None)
        encoder = TrainableEncoder.named(vectors.encoder.name)
        encoder.window = min(encoder.window, config.fine_tuning.max_tokens)
        self._build(encoder, device_of(config.device, training=True))
        windows = token_windows(lessons.units.texts, [units(t) for t in lessons.units.texts], encoder, encoder.window)
        course = train_tagger(
            self.network, windows, lessons, examples.gold, config.fine_tuning, seed=config.seed, progress=progress
        )
        self.shares = lessons.spans @ lessons.span_targets / lessons.spans.sum()
        chosen = self._choose(lessons, examples, course.held_out)
        self.settings, self.certainty = chosen.settings, chosen.certainty
        self._figures: dict[str, float | int | str | None] = {
            "types": len(lessons.kinds),
            "units": int(lessons.units.lengths.sum()),
            "entities": int((lessons.spans > 0).sum()),
            "epochs": course.epochs,
            "best_epoch": course.best,
            "validated_on": len(course.held_out),
            "validation_f1": chosen.f1,
            "validation_log_loss": chosen.log_loss,
            "outside_penalty": chosen.settings.outside_penalty,
            "temperature": chosen.settings.temperature,
            "device": self.network.device,
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
            known = [text or "" for text in texts]
            lengths, borders, types = self._read(known)
            for text, guess in zip(texts, self._decode(known, lengths, borders, types, self.settings), strict=True):
                labels.append(label_of(text or "", guess.entities))
                certainty.append(-np.inf if text is None else guess.certainty)
                probabilities.append(guess.units)
            if progress is not None:
                progress(len(labels), rows.height)
        confidence = self.certainty.of(np.array(certainty, dtype=np.float64))
        confidence[np.isneginf(certainty)] = 0.0
        return Predicted(labels, confidence, probabilities)

    def save(self, folder: Path) -> dict[str, Any]:
        """Write the encoder into a folder of its own, as transformers does, and the head beside it."""
        from dataclasses import asdict

        from safetensors.numpy import save

        coef, intercept = self.network.linear()
        (folder / _ENCODER_FOLDER).mkdir()
        encoder = self.network.encoder.save(folder / _ENCODER_FOLDER)
        arrays = {"coef": coef, "intercept": intercept, "shares": self.shares}
        (folder / _HEAD_FILE).write_bytes(save(arrays))
        return {
            "kinds": list(self.task.labels),
            "settings": asdict(self.settings),
            "certainty": asdict(self.certainty),
            "encoder": encoder,
            "figures": self._figures,
        }

    def load(self, folder: Path, facts: Mapping[str, Any]) -> Self:
        """Read encoder and head."""
        from safetensors.numpy import load

        if list(facts["kinds"]) != list(self.task.labels):
            raise ValueError(f"it knows the types {facts['kinds']}, the task has {list(self.task.labels)}")
        arrays = load((folder / _HEAD_FILE).read_bytes())
        self.settings = Settings(**{name: float(value) for name, value in facts["settings"].items()})
        self.certainty = Certainty(**{name: float(value) for name, value in facts["certainty"].items()})
        self.shares, self._figures = arrays["shares"], dict(facts["figures"])
        encoder = TrainableEncoder.read(folder / _ENCODER_FOLDER, facts["encoder"])
        self._build(encoder, device_of(self.config.device, training=False))
        if arrays["coef"].shape != (TAGS + len(self.task.labels), self.network.dimension):
            raise ValueError(f"the head has the shape {arrays['coef'].shape}")
        self.network.set_linear(arrays["coef"], arrays["intercept"])
        return self

    def figures(self) -> dict[str, float | int | str | None]:
        """What was learned from, epochs, the kept one, and strict F1 and log-loss on the texts that were held out."""
        return dict(self._figures)

    def _build(self, encoder: TrainableEncoder, device: str) -> None:
        self._lock = threading.Lock()
        classes = TAGS + len(self.task.labels)
        self.network = TokenNetwork(encoder, classes, device=device, precision=self.config.fine_tuning.precision)

    def _read(self, texts: Sequence[str]) -> tuple[list[int], Array, Array]:
        """How many units each text has, and the log-probabilities of tags and the logits of types of all units."""
        cut = [units(text) for text in texts]
        lengths = [len(found) for found in cut]
        with self._lock:
            windows = token_windows(texts, cut, self.network.encoder, self.network.encoder.window)
            vectors = self.network.unit_vectors(windows, sum(lengths))
            coef, intercept = self.network.linear()
        logits = (vectors @ coef.T + intercept).astype(np.float64)
        return lengths, log_softmax(logits[:, :TAGS]), logits[:, TAGS:]

    def _decode(
        self, texts: Sequence[str], lengths: Sequence[int], borders: Array, types: Array, settings: Settings
    ) -> list[Guess]:
        of_spans = partial(_type_odds, types, lengths)
        return decoded(texts, lengths, borders, of_spans, list(self.task.labels), self.shares, settings)

    def _choose(self, lessons: Lessons, examples: Examples, held: NDArray[np.int64]) -> Chosen:
        left = lessons.take(held)
        if not len(held) or not (left.spans > 0).any():
            return Chosen()
        lengths, borders, types = self._read(left.units.texts)
        places = [[(first, last) for first, last, _ in lesson.places] for lesson in left.taught]
        decode = partial(self._decode, left.units.texts, lengths, borders, types)
        found = HeldOut(held, borders, _type_odds(types, lengths, places), [(held, decode)])
        right = np.where(examples.gold, 1.0, np.minimum(examples.weights, 1.0))
        return choose(lessons, found, shares_of_say(examples.gold, examples.weights, held), right)


def _type_odds(types: Array, lengths: Sequence[int], places: Sequence[Sequence[Place]]) -> Array:
    """The log-probability of each type of each span, from the mean of its units' logits: shape (spans, types)."""
    starts = np.cumsum([0, *lengths])
    means = [
        types[starts[row] + first : starts[row] + last + 1].mean(axis=0)
        for row, found in enumerate(places)
        for first, last in found
    ]
    return log_softmax(np.array(means).reshape(-1, types.shape[1]))
