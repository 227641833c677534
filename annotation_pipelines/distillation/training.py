"""Train the student on the trusted labels. The same labels give the same version, and nothing is trained again."""

from __future__ import annotations

import logging
import os
import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import polars as pl

from annotation_pipelines.distillation.embedding import Embedder, Progress
from annotation_pipelines.distillation.linear import LinearStudent
from annotation_pipelines.distillation.registry import ModelRegistry
from annotation_pipelines.errors import StoreCorrupted, StoreError, TrainingError
from annotation_pipelines.project import Project, digest
from annotation_pipelines.store.database import Store
from annotation_pipelines.store.schema import UNPARTITIONED

METHOD = 1
"""Raised when the same labels would give another model."""

TRAINING_FILE = "training.parquet"
_TRAINING_COLUMNS = ["record_id", "content_hash", "label", "origin", "weight"]

# A label counts for the content that it was given for. Gold that people brought may stand for texts that the source
# does not have.
_TRUSTED = """
SELECT t.record_id, t.content_hash, t.label, t.origin, t.weight,
       CASE WHEN r.record_id IS NULL THEN h.content
            WHEN r.deleted_at IS NULL AND r.content_hash = t.content_hash THEN r.content END AS content,
       coalesce(h.role = 'evaluation', false) AS held_out
FROM trusted_labels t
LEFT JOIN records r ON r.record_id = t.record_id
LEFT JOIN human_labels h ON h.record_id = t.record_id
    AND (h.content_hash = t.content_hash OR h.role = 'evaluation')
ORDER BY t.content_hash, t.label, t.record_id
"""
_EVALUATION_TEXTS = "SELECT content FROM human_labels WHERE role = 'evaluation'"


@dataclass(frozen=True)
class TrainingRows:
    """What there is to learn from.

    Attributes:
        rows: record_id, content_hash, content, label, origin, weight; in an order that depends on them alone.
        leaked: Labels left out because their record, or a text that reads the same, is held out for evaluation.
        outdated: Labels left out because the record has another content by now, or is gone.
        unknown: Labels left out because the task does not have them.
    """

    rows: pl.DataFrame
    leaked: int
    outdated: int
    unknown: int


@dataclass(frozen=True)
class TrainedModel:
    """The student of the present trusted labels.

    Attributes:
        path: The folder with model.safetensors, card.json and training.parquet.
        trained: Whether it was trained now; otherwise this version was there.
        status: As in the table models.
    """

    version: str
    path: Path
    trained: bool
    status: str
    silver: int
    gold: int
    leaked: int
    outdated: int
    unknown: int
    student: LinearStudent

    def facts(self) -> dict[str, float | int | str | None]:
        """Counts and cross-validated figures by name."""
        return {
            "version": self.version,
            "status": self.status,
            "silver": self.silver,
            "gold": self.gold,
            "leaked": self.leaked,
            "outdated": self.outdated,
            "unknown_label": self.unknown,
            "classes": len(self.student.classes_),
            "cv_agreement": self.student.cv_accuracy_,
            "cv_log_loss": self.student.cv_log_loss_,
        }


def train(
    store: Store,
    project: Project,
    embedder: Embedder,
    *,
    run_id: str | None = None,
    progress: Progress | None = None,
) -> TrainedModel:
    """Train a student on the trusted labels of all partitions and enter it in the registry as the candidate.

    The version is a hash of contents, labels, weights, settings and encoder. Where a model of that version is there,
    with whole files, it is taken as it is.

    Raises:
        TrainingError: There are fewer labels than distillation: min_labels, or of one class only.
        DeclarationError: The encoder cannot be loaded.
        StoreError: The store or the model cannot be written.
    """
    declaration = project.declaration
    config = declaration.distillation
    with store.transaction() as con:
        trusted = store.frame(con, _TRUSTED)
        evaluation_texts = store.frame(con, _EVALUATION_TEXTS)["content"]
    found = training_rows(trusted, evaluation_texts, list(project.task.labels))
    _check_enough(found, config.min_labels)
    registry = ModelRegistry(store)
    version = version_of(found.rows, config.model_dump(mode="json", include={"student", "seed"}), embedder.encoder.id)
    folder = registry.folder(version)
    student = _load_whole(folder)
    trained = student is None
    origins = Counter(found.rows["origin"])
    if student is None:
        vectors = embedder.vectors(found.rows.select("content_hash", "content"), progress)
        student = LinearStudent(random_state=config.seed).fit(
            vectors,
            found.rows["label"].to_list(),
            found.rows["weight"].to_numpy(),
            gold=(found.rows["origin"] == "gold").to_numpy(),
        )
        card = {
            "version": version,
            "project": project.name,
            "encoder": embedder.encoder.name,
            "encoder_id": embedder.encoder.id,
            "dimension": vectors.shape[1],
            "trained_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "silver": origins["silver"],
            "gold": origins["gold"],
            "labels": dict(sorted(Counter(found.rows["label"]).items())),
            "seed": config.seed,
        }
        _write(student, card, found.rows, folder)
    row = registry.register(
        version,
        student=config.student,
        encoder=config.encoder,
        silver=origins["silver"],
        gold=origins["gold"],
        run_id=run_id,
    )
    model = TrainedModel(
        version=version,
        path=folder,
        trained=trained,
        status=row.status,
        silver=row.silver,
        gold=row.gold,
        leaked=found.leaked,
        outdated=found.outdated,
        unknown=found.unknown,
        student=student,
    )
    with store.transaction() as con:
        facts = {"trained": int(trained), **model.facts()}
        store.record_stage(con, "distilled_model", UNPARTITIONED, facts, run_id)
    return model


def training_rows(trusted: pl.DataFrame, evaluation_texts: Iterable[str], labels: Iterable[str]) -> TrainingRows:
    """Leave out what must not be learned from: held-out texts, outdated and unknown labels.

    Args:
        trusted: record_id, content_hash, content (null: outdated), label, origin, weight, held_out.
        evaluation_texts: The texts of held-out gold; a training text that reads the same but for case and blanks
            leaks.
        labels: The labels that the task has.
    """
    held_out = {normalised(text) for text in evaluation_texts}
    current = trusted.filter(pl.col("content").is_not_null())
    leaks = current["held_out"] | pl.Series(
        [normalised(text) in held_out for text in current["content"]], dtype=pl.Boolean
    )
    clean = current.filter(~leaks)
    known = clean.filter(pl.col("label").is_in(list(labels)))
    return TrainingRows(
        known.select("content", *_TRAINING_COLUMNS),
        leaked=int(leaks.sum()),
        outdated=trusted.height - current.height,
        unknown=clean.height - known.height,
    )


def trained_on(folder: Path) -> pl.DataFrame | None:
    """What the model in a folder was trained on: record_id, content_hash, label, origin, weight.

    None where the file is missing: a model that was trained before it was kept.

    Raises:
        StoreCorrupted: The file is damaged.
    """
    path = folder / TRAINING_FILE
    if not path.exists():
        return None
    try:
        return pl.read_parquet(path.read_bytes(), columns=_TRAINING_COLUMNS)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise StoreCorrupted(
            f"what the model was trained on cannot be read ({error.__class__.__name__}: {error})",
            where=path,
            todo="Materialize distilled_model and model_evaluation: a damaged model is trained again",
        ) from None


def normalised(text: str) -> str:
    """A text without regard to case and blanks."""
    return " ".join(text.casefold().split())


def version_of(rows: pl.DataFrame, config: dict[str, Any], encoder_id: str) -> str:
    """Twelve hexadecimal digits for a set of training rows, a configuration and an encoder."""
    labels = rows.select("content_hash", "label", "origin", pl.col("weight").round(6)).rows()
    return digest({"method": METHOD, "config": config, "encoder": encoder_id, "labels": labels})[:12]


def _check_enough(found: TrainingRows, least: int) -> None:
    left_out = (("held out for evaluation", found.leaked), ("outdated", found.outdated), ("unknown", found.unknown))
    aside = "; ".join(f"{number} left out: {why}" for why, number in left_out if number)
    beside = f" ({aside})" if aside else ""
    if found.rows.height < least:
        raise TrainingError(
            f"expected {least} trusted labels or more, found {found.rows.height}{beside}",
            where="table trusted_labels",
            todo="Materialize more partitions, or lower distillation: min_labels",
        )
    classes = found.rows.filter(pl.col("weight") > 0)["label"].unique().sort().to_list()
    if len(classes) < 2:
        raise TrainingError(
            f"expected labels of two classes or more, found only {classes[0] if classes else 'none with a weight'}"
            f"{beside}",
            where="table trusted_labels",
            todo="Materialize more partitions, or look at the labels' descriptions",
        )


def _load_whole(folder: Path) -> LinearStudent | None:
    """The model in a folder, or None where there is none or its files are damaged."""
    if not folder.exists():
        return None
    try:
        student, _ = LinearStudent.load(folder)
        trained_on(folder)
    except StoreCorrupted as error:
        logging.getLogger(__name__).warning("%s; it is trained again now", error.problem)
        return None
    return student


def _write(student: LinearStudent, card: dict[str, Any], rows: pl.DataFrame, folder: Path) -> None:
    """Write a model beside its place and move it there whole."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True, exist_ok=True)
        student.save(temporary, card)
        # By way of memory: polars reports a full disk as an error of the format.
        buffer = BytesIO()
        rows.select(_TRAINING_COLUMNS).write_parquet(buffer)
        (temporary / TRAINING_FILE).write_bytes(buffer.getvalue())
        if folder.exists():
            shutil.rmtree(folder)
        temporary.rename(folder)
    except OSError as error:
        raise StoreError(
            f"the model cannot be written ({error.strerror or error})",
            where=folder,
            todo="Free the disk or make the folder writable, and run again",
        ) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
