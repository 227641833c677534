"""What every student offers: it learns from labelled records, labels others, says how sure it is, and is saved as data.

What a student is made of is declared in two words: what becomes of the encoder (`distillation: student`) and what is
predicted (`task`). `registry` says which class serves both.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from annotation_pipelines.distillation.encoder import Encoder
from annotation_pipelines.project import Distillation
from annotation_pipelines.tasks.base import Task

Progress = Callable[[int, int], None]
Array = NDArray[np.float64]
Vectors = NDArray[np.float32]

EXAMPLE_COLUMNS = pl.Schema(
    {
        "record_id": pl.String(),
        "content_hash": pl.String(),
        "content": pl.String(),
        "label": pl.String(),
        "origin": pl.String(),
        "weight": pl.Float64(),
        "scores": pl.String(),
    }
)
AUDIT_COLUMNS = pl.Schema(
    {
        "content_hash": pl.String(),
        "content": pl.String(),
        "label": pl.String(),
        "given": pl.String(),
        "confidence": pl.Float64(),
        "scores": pl.String(),
    }
)


class TextVectors(Protocol):
    """Where students get sentence vectors: `Embedder`, with its cache, or `Uncached`."""

    @property
    def encoder(self) -> Encoder: ...

    def vectors(self, frame: pl.DataFrame, progress: Progress | None = None) -> Vectors: ...


@dataclass(frozen=True)
class Examples:
    """What there is to learn from.

    Attributes:
        rows: record_id, content_hash, content, label, origin (gold or silver), weight (0 to 1), scores (JSON, label to
            the teacher's score, null where it gave none); n rows, in an order that depends on them alone.
        audit: What the teacher says of gold records that are not held out for evaluation: content_hash, content, label
            (people's), given (the teacher's, null where it gave none), confidence, scores. It tells how the teacher
            errs; nothing is trained on these rows themselves.
    """

    rows: pl.DataFrame
    audit: pl.DataFrame

    @classmethod
    def of(cls, rows: pl.DataFrame, audit: pl.DataFrame | None = None) -> Examples:
        """Examples of frames in which columns may be missing that are null everywhere."""
        return cls(_whole(rows, EXAMPLE_COLUMNS), _whole(audit, AUDIT_COLUMNS))

    @property
    def labels(self) -> list[str]:
        """n labels."""
        return self.rows["label"].to_list()

    @property
    def weights(self) -> Array:
        """Shape (n,)."""
        return self.rows["weight"].to_numpy().astype(np.float64)

    @property
    def gold(self) -> NDArray[np.bool_]:
        """Shape (n,): where people gave the label."""
        return (self.rows["origin"] == "gold").to_numpy()


def _whole(frame: pl.DataFrame | None, schema: pl.Schema) -> pl.DataFrame:
    if frame is None:
        return pl.DataFrame(schema=schema)
    missing = [pl.lit(None, dtype=schema[name]).alias(name) for name in schema if name not in frame.columns]
    return frame.with_columns(missing).select(pl.col(name).cast(dtype) for name, dtype in schema.items())


@dataclass(frozen=True)
class Predicted:
    """What a student says of n records.

    Attributes:
        labels: n canonical labels.
        confidence: Shape (n,): the probability, calibrated, that the label is right.
        probabilities: What it is unsure among: of every class, shape (n, k); or, where it decides token by token, one
            array of shape (tokens, k) for each record.
    """

    labels: list[str]
    confidence: Array
    probabilities: Array | Sequence[Array]


class Student(ABC):
    """One student, untrained until `fit` or `load`.

    Args:
        task: What it predicts.
        config: How it learns; its seed decides everything that is drawn.
    """

    kind: ClassVar[str]
    """Its name in `distillation: student`."""
    own_encoder: ClassVar[bool] = False
    """Whether it carries an encoder of its own; otherwise the project's encoder is needed to predict."""

    def __init__(self, task: Task, config: Distillation) -> None:
        self.task, self.config = task, config

    @abstractmethod
    def fit(self, examples: Examples, vectors: TextVectors, progress: Progress | None = None) -> Self:
        """Learn.

        Args:
            examples: Labels are canonical labels of the task; all have content.
            progress: Called now and then with what is done and all there is to do.

        Raises:
            TrainingError: The examples cannot teach anything: of one class only, for instance.
            DeclarationError: The encoder cannot be loaded, or does not serve this student.
        """

    @abstractmethod
    def predict(self, rows: pl.DataFrame, vectors: TextVectors, progress: Progress | None = None) -> Predicted:
        """The labels of n rows of content_hash and content, in their order; memory grows with n by the result alone."""

    @abstractmethod
    def save(self, folder: Path) -> dict[str, Any]:
        """Write its files into a folder that exists, as data; what else `load` needs, JSON-like, for the card."""

    @abstractmethod
    def load(self, folder: Path, facts: Mapping[str, Any]) -> Self:
        """Take over the files of a folder and what `save` gave.

        Raises:
            ValueError, KeyError, OSError: They are not what `save` wrote.
        """

    @abstractmethod
    def figures(self) -> dict[str, float | int | str | None]:
        """What is to be seen of its training, by name: chosen settings, cross-validated figures."""
