"""The champion's label for every live record."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import polars as pl

from annotation_pipelines.distillation.embedding import Embedder, Progress, ReadOnly
from annotation_pipelines.distillation.encoder import Encoder
from annotation_pipelines.distillation.fast.way import FastestWay
from annotation_pipelines.distillation.registry import Model, ModelRegistry
from annotation_pipelines.distillation.students.base import Predicted, Student, TextVectors
from annotation_pipelines.distillation.students.files import read_model
from annotation_pipelines.errors import TrainingError
from annotation_pipelines.project import Project
from annotation_pipelines.store.database import Store
from annotation_pipelines.store.schema import UNPARTITIONED
from annotation_pipelines.tasks.base import Task

PREDICTED, ABSTAINED = "predicted", "abstained"

_CHUNK = 8_192  # records that are read, sorted by length, predicted and written together

_STALE = """
FROM records r LEFT JOIN predictions p USING (record_id)
WHERE r.deleted_at IS NULL AND (p.record_id IS NULL OR p.content_hash <> r.content_hash
      OR p.model_version <> $version OR p.partition_key <> r.partition_key)
"""
_GONE = "FROM predictions WHERE record_id NOT IN (SELECT record_id FROM records WHERE deleted_at IS NULL)"


# Another threshold makes other states of the same predictions.
_STATES = f"""
UPDATE predictions SET state = CASE WHEN confidence < $least THEN '{ABSTAINED}' ELSE '{PREDICTED}' END
WHERE state IS DISTINCT FROM CASE WHEN confidence < $least THEN '{ABSTAINED}' ELSE '{PREDICTED}' END
"""


@dataclass(frozen=True)
class PredictionCounts:
    """What happened to the live records; `predicted` and `reused` sum to `predictions`.

    Attributes:
        predictions: Live records with a prediction of the champion; 0 without a champion.
        predicted: Predicted now: new, changed, moved, or predicted by an earlier champion.
        reused: Nothing to do.
        removed: Predictions of records that the source no longer has.
        abstained: Of the predictions, those with less confidence than distillation: abstain_below.
        model_version: The champion; None where there is none.
        encoded_by: The way that texts without a vector were encoded, with the reason; None where all had one.
    """

    predictions: int
    predicted: int
    reused: int
    removed: int
    model_version: str | None
    abstained: int = 0
    encoded_by: str | None = None

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
    return ReadyModel(model.version, student, own_embedder(registry, model.version, student, card, embedder))


def own_embedder(
    registry: ModelRegistry, version: str, student: Student, card: dict[str, Any], embedder: Embedder
) -> Embedder:
    """The embedder of the encoder that a model was trained on: the declared one, mostly.

    Raises:
        TrainingError: The encoder of that name is not the one any more.
    """
    if student.own_encoder or card["encoder_id"] == embedder.encoder.id:
        return embedder
    encoder = Encoder(card["encoder"], device=embedder.encoder.device)
    if encoder.id != card["encoder_id"]:
        raise TrainingError(
            f"model {version} was trained on the vectors of {card['encoder_id']}, which is now {encoder.id}",
            where=registry.folder(version),
            todo="Materialize distilled_model and model_evaluation to train on the encoder as it is",
        )
    return Embedder(registry.store.home, encoder)


def predict(
    store: Store,
    project: Project,
    embedder: Embedder,
    *,
    progress: Progress | None = None,
    run_id: str | None = None,
) -> PredictionCounts:
    """Bring the champion's predictions of all live records up to date; only what changed is predicted.

    Records are read in chunks, and chunks are written as they are ready: memory does not grow with the records, and a
    run that is stopped goes on from there. Vectors come from the cache; what it lacks is encoded, in the fastest way
    that is no worse for the champion, and not kept. Without a champion nothing is predicted.

    Raises:
        StoreCorrupted: The champion's files are missing or damaged.
        TrainingError: The champion's encoder is not there any more.
    """
    config = project.declaration.distillation
    registry = ModelRegistry(store)
    champion = registry.champion()
    version = champion.version if champion else None
    predicted, encoded_by = 0, None
    if champion is not None:
        params = {"version": champion.version}
        todo = int(store.query(f"SELECT count(*) AS n {_STALE}", params)["n"][0])
        corpus = _Corpus.open(registry, champion, project, embedder, todo) if todo else None
        while corpus is not None and predicted < todo:
            # In the order in which the cache has its vectors.
            rows = store.query(
                f"SELECT r.record_id, r.content_hash, r.partition_key, r.content {_STALE} "
                f"ORDER BY r.partition_key, r.content_hash, r.record_id LIMIT {_CHUNK}",
                params,
            )
            if rows.is_empty():
                break
            said = corpus.predict(rows, _within(progress, predicted, rows.height, todo))
            predicted += rows.height
            with store.transaction() as con:
                store.upsert(con, "predictions", _prediction_rows(rows, said, config.abstain_below, champion.version))
            if progress is not None:
                progress(predicted, max(todo, predicted))
        encoded_by = corpus.encoded_by if corpus is not None else None
    with store.transaction() as con:
        removed = store.frame(con, f"SELECT count(*) AS n {_GONE}")["n"][0]
        con.execute(f"DELETE {_GONE}")
        con.execute(_STATES, {"least": config.abstain_below})
        there, abstained = store.frame(
            con,
            f"SELECT count(*), count(*) FILTER (state = '{ABSTAINED}') FROM predictions WHERE model_version = ?",
            [version],
        ).row(0)
        counts = PredictionCounts(
            int(there), predicted, int(there) - predicted, int(removed), version, int(abstained), encoded_by
        )
        store.record_stage(con, "predictions", UNPARTITIONED, counts.facts(), run_id)
    return counts


@dataclass(frozen=True)
class _Corpus:
    """The champion, ready for all records: vectors from the cache, gaps filled in the fastest way."""

    student: Student
    vectors: TextVectors
    way: FastestWay | None

    @classmethod
    def open(cls, registry: ModelRegistry, champion: Model, project: Project, embedder: Embedder, todo: int) -> _Corpus:
        student, card = read_model(registry.folder(champion.version), project.task)
        embedder = own_embedder(registry, champion.version, student, card, embedder)
        if student.own_encoder or project.declaration.distillation.fast == "never":
            return cls(student, ReadOnly(embedder), None)

        def wanted(texts: int) -> int:
            """Gaps in the cache are mostly whole partitions: what the first chunk lacks, the others will."""
            return texts * todo // min(todo, _CHUNK)

        way = FastestWay(registry.store, champion.version, student, embedder, wanted)
        return cls(student, ReadOnly(embedder, way), way)

    def predict(self, rows: pl.DataFrame, progress: Progress | None) -> Predicted:
        return self.student.predict(rows.select("content_hash", "content"), self.vectors, progress)

    @property
    def encoded_by(self) -> str | None:
        choice = self.way.choice if self.way is not None else None
        return None if choice is None else f"{choice.way}: {choice.why}"


def _within(progress: Progress | None, done: int, rows: int, todo: int) -> Progress | None:
    """Progress within a chunk, said of all chunks."""
    if progress is None:
        return None
    return lambda now, of: progress(done + rows * now // max(of, 1), max(todo, done + rows))


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
        state=pl.Series([ABSTAINED if sure < least else PREDICTED for sure in confidence], dtype=pl.String),
    )
