"""The champion's label for every live record, and for texts from anywhere else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from annotation_pipelines.distillation.embedding import Embedder, Progress, Uncached
from annotation_pipelines.distillation.encoder import Encoder
from annotation_pipelines.distillation.registry import Model, ModelRegistry
from annotation_pipelines.distillation.students.base import Predicted, Student, TextVectors
from annotation_pipelines.distillation.students.files import read_model
from annotation_pipelines.errors import TrainingError
from annotation_pipelines.project import Project
from annotation_pipelines.store.database import Store
from annotation_pipelines.store.schema import UNPARTITIONED
from annotation_pipelines.tasks.base import Task

_CHUNK = 5_000
_TEXTS = pl.Schema({"content_hash": pl.String(), "content": pl.String()})

_STALE = """
FROM records r LEFT JOIN predictions p USING (record_id)
WHERE r.deleted_at IS NULL AND (p.record_id IS NULL OR p.content_hash <> r.content_hash
      OR p.model_version <> $version OR p.partition_key <> r.partition_key)
"""
_GONE = "FROM predictions WHERE record_id NOT IN (SELECT record_id FROM records WHERE deleted_at IS NULL)"


@dataclass(frozen=True)
class PredictionCounts:
    """What happened to the live records; `predicted` and `reused` sum to `predictions`.

    Attributes:
        predictions: Live records with a prediction of the champion; 0 without a champion.
        predicted: Predicted now: new, changed, moved, or predicted by an earlier champion.
        reused: Nothing to do.
        removed: Predictions of records that the source no longer has.
        model_version: The champion; None where there is none.
    """

    predictions: int
    predicted: int
    reused: int
    removed: int
    model_version: str | None

    def facts(self) -> dict[str, int | str | None]:
        """The counts by name."""
        return dict(vars(self))


@dataclass(frozen=True)
class ReadyModel:
    """A student with the source of the vectors that it was trained on."""

    version: str
    student: Student
    vectors: TextVectors

    def predict(self, frame: pl.DataFrame, progress: Progress | None = None) -> Predicted:
        """What the student says of the rows of a frame of content_hash and content."""
        return self.student.predict(frame, self.vectors, progress)


def load_model(registry: ModelRegistry, model: Model, task: Task, embedder: Embedder) -> ReadyModel:
    """Read a model's files.

    Args:
        embedder: The declared one; a model trained on another encoder gets its own.

    Raises:
        StoreCorrupted: The files are missing or damaged.
        TrainingError: The encoder of that name is not the one any more that the model was trained on.
    """
    student, card = read_model(registry.folder(model.version), task)
    if not student.own_encoder and card["encoder_id"] != embedder.encoder.id:
        encoder = Encoder(card["encoder"])
        if encoder.id != card["encoder_id"]:
            raise TrainingError(
                f"model {model.version} was trained on the vectors of {card['encoder_id']}, which is now {encoder.id}",
                where=registry.folder(model.version),
                todo="Materialize distilled_model and model_evaluation to train on the encoder as it is",
            )
        embedder = Embedder(registry.store.home, encoder)
    return ReadyModel(model.version, student, embedder)


def predict(
    store: Store,
    project: Project,
    embedder: Embedder,
    *,
    progress: Progress | None = None,
    run_id: str | None = None,
) -> PredictionCounts:
    """Bring the champion's predictions of all live records up to date; only what changed is predicted.

    Chunks are written as they are ready: a run that is stopped goes on from there. Without a champion nothing is
    predicted.

    Raises:
        StoreCorrupted: The champion's files are missing or damaged.
        TrainingError: The champion's encoder is not there any more.
    """
    registry = ModelRegistry(store)
    champion = registry.champion()
    predicted, least = 0, project.declaration.distillation.abstain_below
    if champion is not None:
        params = {"version": champion.version}
        todo = int(store.query(f"SELECT count(*) AS n {_STALE}", params)["n"][0])
        ready = load_model(registry, champion, project.task, embedder) if todo else None
        while ready is not None and predicted < todo:
            rows = store.query(
                f"SELECT r.record_id, r.content_hash, r.partition_key, r.content {_STALE} "
                f"ORDER BY r.partition_key, r.record_id LIMIT {_CHUNK}",
                params,
            )
            if rows.is_empty():
                break
            said = ready.predict(rows.select("content_hash", "content"))
            predicted += rows.height
            with store.transaction() as con:
                store.upsert(con, "predictions", _prediction_rows(rows, said, least, champion.version))
            if progress is not None:
                progress(predicted, max(todo, predicted))
    with store.transaction() as con:
        removed = store.frame(con, f"SELECT count(*) AS n {_GONE}")["n"][0]
        con.execute(f"DELETE {_GONE}")
        version = champion.version if champion else None
        there = store.frame(con, "SELECT count(*) AS n FROM predictions WHERE model_version = ?", [version])["n"][0]
        counts = PredictionCounts(int(there), predicted, int(there) - predicted, int(removed), version)
        store.record_stage(con, "predictions", UNPARTITIONED, counts.facts(), run_id)
    return counts


def champion_probabilities(store: Store, project: Project, records: pl.DataFrame) -> pl.DataFrame | None:
    """How sure the champion is of each record: record_id, label, confidence; None without a champion.

    Args:
        records: record_id, content_hash, content.
    """
    registry = ModelRegistry(store)
    champion = registry.champion()
    if champion is None:
        return None
    ready = load_model(registry, champion, project.task, Embedder.for_project(project, store))
    predicted = ready.predict(records.select("content_hash", "content"))
    return pl.DataFrame(
        {
            "record_id": records["record_id"],
            "label": pl.Series(predicted.labels, dtype=pl.String),
            "confidence": pl.Series(predicted.confidence, dtype=pl.Float64),
        }
    )


def predict_texts(store: Store, project: Project, texts: Sequence[str]) -> pl.DataFrame:
    """Label texts with the project's champion; nothing of them is kept.

    Returns:
        text, label, confidence; in the order of the texts.

    Raises:
        TrainingError: There is no champion.
        StoreCorrupted: The champion's files are missing or damaged.
    """
    registry = ModelRegistry(store)
    champion = registry.champion()
    if champion is None:
        raise TrainingError(
            "there is no champion to predict with",
            where=project.name,
            todo=f"Train one with: annotation-pipelines run {project.name}",
        )
    ready = load_model(registry, champion, project.task, Embedder.for_project(project, store))
    rows = pl.DataFrame({"content_hash": [""] * len(texts), "content": list(texts)}, schema=_TEXTS)
    predicted = ready.student.predict(rows, Uncached(ready.vectors.encoder))
    return pl.DataFrame(
        {
            "text": pl.Series(list(texts), dtype=pl.String),
            "label": pl.Series(predicted.labels, dtype=pl.String),
            "confidence": pl.Series(predicted.confidence, dtype=pl.Float64),
        }
    )


def _prediction_rows(rows: pl.DataFrame, predicted: Predicted, least: float, version: str) -> pl.DataFrame:
    confidence = pl.Series(predicted.confidence, dtype=pl.Float64)
    return rows.select(
        "record_id",
        "content_hash",
        "partition_key",
        label=pl.Series(predicted.labels, dtype=pl.String),
        confidence=confidence,
        model_version=pl.lit(version),
        predicted_at=pl.lit(datetime.now(UTC)),
        state=pl.Series(["abstained" if sure < least else "predicted" for sure in confidence], dtype=pl.String),
    )
