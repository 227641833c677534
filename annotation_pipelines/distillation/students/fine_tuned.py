"""A student whose encoder learns too, with a linear head of its own: for labels, and for the relation of a marked pair.

It carries its encoder along, as data. How it learns is declared in `distillation: fine_tuning`; `fine_tuning/course.py`
tells the order of things.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl

from annotation_pipelines.distillation.fine_tuning.course import Course, train
from annotation_pipelines.distillation.fine_tuning.encoder import TrainableEncoder, device_of
from annotation_pipelines.distillation.fine_tuning.network import Network
from annotation_pipelines.distillation.fine_tuning.reading import reads_pairs, tokens_of
from annotation_pipelines.distillation.robust.targets import make_targets
from annotation_pipelines.distillation.softmax import softmax
from annotation_pipelines.distillation.students.base import Array, Examples, Predicted, Progress, Student, TextVectors
from annotation_pipelines.errors import TrainingError
from annotation_pipelines.project import Distillation
from annotation_pipelines.tasks.base import Task

_ENCODER_FOLDER = "encoder"
_HEAD_FILE = "head.safetensors"
_CHUNK = 2_048


class FineTunedStudent(Student):
    """An encoder and a linear head, trained together.

    Attributes:
        network: Set by `fit` and `load`.
        classes: The labels that it tells apart, sorted.
        temperature: What logits are divided by.
    """

    kind = "fine_tuned"
    own_encoder = True
    network: Network
    classes: list[str]
    temperature: float

    def __init__(self, task: Task, config: Distillation) -> None:
        super().__init__(task, config)
        self._figures: dict[str, float | int | str | None] = {}
        # The tokenizer cannot be used by two threads at once.
        self._lock = threading.Lock()

    def fit(self, examples: Examples, vectors: TextVectors, progress: Progress | None = None) -> Self:
        """Learn; see `Student.fit`."""
        examples = Examples(examples.rows.filter(pl.col("weight") > 0), examples.audit)
        self.classes = sorted(set(examples.labels))
        if len(self.classes) < 2:
            raise TrainingError(
                f"expected labels of two classes or more to train on, found {', '.join(self.classes) or 'none'}"
            )
        config, tuning = self.config, self.config.fine_tuning
        device = device_of(config.device, training=True)
        targets = make_targets(
            examples, self.classes, config.robust, features=lambda rows: vectors.vectors(rows), seed=config.seed
        )
        name = vectors.encoder.name
        encoder = TrainableEncoder.named(name)
        encoder.window = min(encoder.window, tuning.max_tokens)
        contents = examples.rows["content"].gather(targets.rows).to_list()
        tokens = tokens_of(self.task, contents, encoder, encoder.window)
        spare = [encoder]

        def make() -> Network:
            taken = spare.pop() if spare else TrainableEncoder.named(name)
            taken.window = encoder.window
            return self._network(taken, device)

        self.network, course = train(make, tokens, targets, tuning, config.robust, seed=config.seed, progress=progress)
        self.temperature = course.held_out.temperature if course.held_out else 1.0
        self._figures = {"classes": len(self.classes), **_figures(course), **targets.figures, "device": device}
        return self

    def predict(self, rows: pl.DataFrame, vectors: TextVectors, progress: Progress | None = None) -> Predicted:
        """The most probable label of every row; a text that marks no pair gives all labels the same probability."""
        contents = rows["content"].to_list()
        order = np.argsort([-len(text) for text in contents], kind="stable")
        probabilities = np.zeros((len(contents), len(self.classes)))
        with self._lock:
            for start in range(0, len(order), _CHUNK):
                chosen = order[start : start + _CHUNK]
                encoder = self.network.encoder
                tokens = tokens_of(self.task, [contents[row] for row in chosen], encoder, encoder.window)
                found = softmax(self.network.predict(tokens) / self.temperature)
                found[~tokens.read] = 1 / len(self.classes)
                probabilities[chosen] = found
                if progress is not None:
                    progress(start + len(chosen), len(contents))
        return _predicted(probabilities, self.classes)

    def save(self, folder: Path) -> dict[str, Any]:
        """Write the encoder into a folder of its own, as transformers does, and the head beside it."""
        from safetensors.numpy import save

        coef, intercept = self.network.linear()
        (folder / _ENCODER_FOLDER).mkdir()
        encoder = self.network.encoder.save(folder / _ENCODER_FOLDER)
        (folder / _HEAD_FILE).write_bytes(save({"coef": coef, "intercept": intercept}))
        return {
            "classes": self.classes,
            "temperature": self.temperature,
            "encoder": encoder,
            "figures": self._figures,
        }

    def load(self, folder: Path, facts: Mapping[str, Any]) -> Self:
        """Read encoder and head."""
        from safetensors.numpy import load

        arrays = load((folder / _HEAD_FILE).read_bytes())
        self.classes, self.temperature = [str(label) for label in facts["classes"]], float(facts["temperature"])
        self._figures = dict(facts["figures"])
        encoder = TrainableEncoder.read(folder / _ENCODER_FOLDER, facts["encoder"])
        self.network = self._network(encoder, device_of(self.config.device, training=False))
        shape = (len(self.classes), self.network.dimension)
        if arrays["coef"].shape != shape or arrays["intercept"].shape != shape[:1]:
            raise ValueError(f"the head has the shape {arrays['coef'].shape}, expected {shape}")
        self.network.set_linear(arrays["coef"], arrays["intercept"])
        return self

    def figures(self) -> dict[str, float | int | str | None]:
        """Classes, epochs, the kept one, and agreement and log-loss on the rows that were held out."""
        return dict(self._figures)

    def _network(self, encoder: TrainableEncoder, device: str) -> Network:
        return Network(
            encoder,
            len(self.classes),
            pairs=reads_pairs(self.task),
            device=device,
            precision=self.config.fine_tuning.precision,
        )


def _predicted(probabilities: Array, classes: list[str]) -> Predicted:
    best = probabilities.argmax(axis=1)
    return Predicted([classes[index] for index in best], probabilities[np.arange(len(best)), best], probabilities)


def _figures(course: Course) -> dict[str, float | int | str | None]:
    held = course.held_out
    return {
        "epochs": course.epochs,
        "best_epoch": course.best,
        "validated_on": course.validated,
        "validation_agreement": None if held is None else round(held.agreement, 4),
        "validation_log_loss": None if held is None else round(held.loss, 4),
        "temperature": None if held is None else round(held.temperature, 3),
        "steps_passed_by": course.passed,
    }
