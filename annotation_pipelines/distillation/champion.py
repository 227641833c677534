"""The champion, for texts from anywhere: files, standard input, requests. Nothing of them is kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from annotation_pipelines.distillation.embedding import Embedder, Progress, Uncached
from annotation_pipelines.distillation.fast.way import FastestWay
from annotation_pipelines.distillation.prediction import own_embedder
from annotation_pipelines.distillation.registry import Model, ModelRegistry
from annotation_pipelines.distillation.students.base import Student, TextVectors
from annotation_pipelines.distillation.students.files import read_model
from annotation_pipelines.errors import TrainingError
from annotation_pipelines.project import Project
from annotation_pipelines.store.database import Store

_ROWS = pl.Schema({"content_hash": pl.String(), "content": pl.String()})


class Champion:
    """A champion that is loaded.

    Attributes:
        model: Its row of the table models.
        card: Its card.json.
        student: The student.
        abstain_below: With less confidence it abstains.
    """

    def __init__(
        self, model: Model, card: dict[str, Any], student: Student, vectors: TextVectors, way: FastestWay | None
    ) -> None:
        self.model, self.card, self.student = model, card, student
        self._vectors, self._way = vectors, way
        self.abstain_below = 0.0

    @classmethod
    def open(cls, store: Store, project: Project, *, wanted: int = 0) -> Champion:
        """Load the project's champion.

        Args:
            wanted: How many texts are expected: with very many a faster way to encode is tried first.

        Raises:
            TrainingError: There is no champion, or its encoder is not there any more.
            StoreCorrupted: Its files are missing or damaged.
        """
        registry = ModelRegistry(store)
        model = registry.champion()
        if model is None:
            raise TrainingError(
                "there is no champion to predict with",
                where=project.name,
                todo=f"Train one with: annotation-pipelines run {project.name}",
            )
        student, card = read_model(registry.folder(model.version), project.task)
        embedder = own_embedder(registry, model.version, student, card, Embedder.for_project(project, store))
        config, way = project.declaration.distillation, None
        if not student.own_encoder and config.fast == "auto":
            way = FastestWay(store, model.version, student, embedder, lambda texts: max(texts, wanted))
        champion = cls(model, card, student, Uncached(embedder.encoder, way), way)
        champion.abstain_below = config.abstain_below
        return champion

    def predict(self, contents: Sequence[str], progress: Progress | None = None) -> pl.DataFrame:
        """What it says of contents.

        Args:
            contents: n contents, as records have them.

        Returns:
            label, confidence, abstained; n rows, in their order.
        """
        rows = pl.DataFrame({"content_hash": [""] * len(contents), "content": list(contents)}, schema=_ROWS)
        if rows.is_empty():
            return pl.DataFrame(schema={"label": pl.String(), "confidence": pl.Float64(), "abstained": pl.Boolean()})
        said = self.student.predict(rows, self._vectors, progress)
        confidence = pl.Series("confidence", said.confidence, pl.Float64)
        return pl.DataFrame(
            [
                pl.Series("label", said.labels, pl.String),
                confidence,
                (confidence < self.abstain_below).alias("abstained"),
            ]
        )

    @property
    def encoded_by(self) -> str | None:
        """How texts are encoded, in words; None before the first, or where the student has an encoder of its own."""
        choice = self._way.choice if self._way is not None else None
        return None if choice is None else f"{choice.way}: {choice.why}"
