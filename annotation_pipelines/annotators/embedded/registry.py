"""How the embedded annotator answers, for every kind of task that it serves: one line each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import polars as pl

from annotation_pipelines import project
from annotation_pipelines.annotators.embedded.classification import ClassificationAnswerer
from annotation_pipelines.annotators.embedded.entities import EntitiesAnswerer
from annotation_pipelines.annotators.embedded.multilabel import MultilabelAnswerer
from annotation_pipelines.annotators.embedded.rating import RatingAnswerer
from annotation_pipelines.annotators.embedded.relations import RelationsAnswerer
from annotation_pipelines.tasks.base import Task

if TYPE_CHECKING:
    from annotation_pipelines.distillation.embedding import Embedder


class Answerer(Protocol):
    """Answers about records of one kind of task.

    Args:
        settings: The annotator's part of the declaration.
        demonstrations: Gold records: record_id, content_hash, content, label; sorted by record_id, may be empty.
        embedder: Gives the vectors.
    """

    def __init__(
        self, settings: project.EmbeddedAnnotator, task: Task, demonstrations: pl.DataFrame, embedder: Embedder
    ) -> None: ...

    @property
    def version(self) -> object:
        """JSON-like: beside settings, encoder and demonstrations, everything that changes an answer."""

    def answers(self, records: pl.DataFrame) -> list[dict[str, Any]]:
        """The answer to every row of a frame with record_id, content_hash and content, as the task's parser reads it.

        A record that is among the demonstrations must not be told its own label.
        """


ANSWERERS: dict[str, type[Answerer]] = {
    "classification": ClassificationAnswerer,
    "multilabel": MultilabelAnswerer,
    "entities": EntitiesAnswerer,
    "rating": RatingAnswerer,
    "relations": RelationsAnswerer,
}
"""Kind of task to its answerer."""
