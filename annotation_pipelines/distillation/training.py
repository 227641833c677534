"""Train the student on the trusted labels. The same labels give the same version, and nothing is trained again."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from annotation_pipelines.distillation.card import write_card
from annotation_pipelines.distillation.embedding import Embedder, Progress
from annotation_pipelines.distillation.leakage import SAME, fingerprint, similarity_to
from annotation_pipelines.distillation.registry import ModelRegistry
from annotation_pipelines.distillation.students.base import Examples, Student
from annotation_pipelines.distillation.students.files import read_model, trained_on, write_model
from annotation_pipelines.distillation.students.registry import student_class
from annotation_pipelines.errors import StoreCorrupted, TrainingError
from annotation_pipelines.project import Distillation, Project, digest
from annotation_pipelines.quality.validity import are_labels
from annotation_pipelines.store.database import Store
from annotation_pipelines.store.schema import UNPARTITIONED
from annotation_pipelines.tasks.base import UNANSWERED, Task

METHOD = 3
"""Raised when the same labels would give another model."""

# A label counts for the content that it was given for. Gold that people brought may stand for texts that the source
# does not have.
_TRUSTED = """
SELECT t.record_id, t.content_hash, t.label, t.origin, t.weight,
       CASE WHEN t.origin = 'silver' THEN l.scores END AS scores,
       CASE WHEN r.record_id IS NULL THEN h.content
            WHEN r.deleted_at IS NULL AND r.content_hash = t.content_hash THEN r.content END AS content,
       coalesce(h.role = 'evaluation', false) AS held_out
FROM (SELECT * FROM trusted_labels WHERE partition_key <> $instead_of UNION ALL BY NAME SELECT * FROM instead) t
LEFT JOIN records r ON r.record_id = t.record_id
LEFT JOIN human_labels h ON h.record_id = t.record_id
    AND (h.content_hash = t.content_hash OR h.role = 'evaluation')
LEFT JOIN llm_labels l ON l.record_id = t.record_id AND l.content_hash = t.content_hash AND l.annotator = $annotator
ORDER BY t.content_hash, t.label, t.record_id
"""
_EVALUATION_TEXTS = "SELECT content FROM human_labels WHERE role = 'evaluation'"
_AUDIT = f"""
SELECT h.content_hash, h.content, h.label, l.label AS given, l.confidence, l.scores
FROM human_labels h JOIN llm_labels l USING (record_id, content_hash)
WHERE h.role <> 'evaluation' AND l.annotator = $annotator AND l.state NOT IN {UNANSWERED}
ORDER BY h.content_hash, h.label
"""


@dataclass(frozen=True)
class TrainingRows:
    """What there is to learn from.

    Attributes:
        examples: Rows in an order that depends on them alone, and what the teacher says of gold.
        leaked: Labels left out because their record, or a text that says the same or nearly the same, is held out for
            evaluation.
        alike: Those of them whose record is not held out, and whose text only nearly reads like a held-out one.
        held_out: A hash of the held-out texts.
        outdated: Labels left out because the record has another content by now, or is gone.
        unknown: Labels left out because the task does not have them.
    """

    examples: Examples
    leaked: int
    outdated: int
    unknown: int
    alike: int = 0
    held_out: str = ""


@dataclass(frozen=True)
class TrainedModel:
    """The student of the present trusted labels.

    Attributes:
        path: The folder with the student's files, card.json and training.parquet.
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
    student: Student
    alike: int = 0

    def facts(self) -> dict[str, float | int | str | None]:
        """Counts and cross-validated figures by name."""
        return {
            "version": self.version,
            "status": self.status,
            "silver": self.silver,
            "gold": self.gold,
            "leaked": self.leaked,
            "leaked_nearly": self.alike,
            "outdated": self.outdated,
            "unknown_label": self.unknown,
            **self.student.figures(),
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
    config, task = project.declaration.distillation, project.task
    found = read_examples(store, project)
    _check_enough(found, config.min_labels, exclusive=task.exclusive)
    rows = found.examples.rows
    registry = ModelRegistry(store)
    kind = student_class(task, config.student)
    of_data = data_fingerprint(found.examples)
    version = version_of(of_data, {"student": kind.kind, **_deciding(config)}, embedder.encoder.id)
    folder = registry.folder(version)
    student = _load_whole(folder, task)
    trained = student is None
    origins = Counter(rows["origin"])
    if student is None:
        start = time.monotonic()
        student = kind(task, config).fit(found.examples, embedder, progress)
        card = {
            "version": version,
            "project": project.name,
            "encoder": embedder.encoder.name,
            "encoder_id": embedder.encoder.id,
            "trained_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "data_fingerprint": of_data,
            "held_out": found.held_out,
            "seconds": round(time.monotonic() - start, 1),
            "silver": origins["silver"],
            "gold": origins["gold"],
            "labels": dict(sorted(Counter(rows["label"]).items())) if task.exclusive else {},
            "figures": student.figures(),
        }
        write_model(student, card, rows, folder)
    row = registry.register(
        version,
        student=kind.kind,
        encoder=config.encoder,
        silver=origins["silver"],
        gold=origins["gold"],
        data_fingerprint=of_data,
        config=config.model_dump_json(),
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
        alike=found.alike,
    )
    if trained:
        write_card(store, project, version)
    with store.transaction() as con:
        facts = {"trained": int(trained), **model.facts()}
        store.record_stage(con, "distilled_model", UNPARTITIONED, facts, run_id)
    return model


def read_examples(
    store: Store, project: Project, *, instead_of: str = "", instead: pl.DataFrame | None = None
) -> TrainingRows:
    """What the store holds to learn from, over all partitions.

    Args:
        instead_of: A partition whose trusted labels are not published yet, and are `instead`: rows of trusted_labels.

    Raises:
        StoreError: The store cannot be read.
    """
    from annotation_pipelines.annotators.factory import annotator_name

    annotator = {"annotator": annotator_name(project)}
    with store.transaction() as con:
        none = store.frame(con, "SELECT * FROM trusted_labels LIMIT 0")
        trusted = store.frame(
            con, _TRUSTED, {**annotator, "instead_of": instead_of}, instead=none if instead is None else instead
        )
        evaluation_texts = store.frame(con, _EVALUATION_TEXTS)["content"]
        audit = store.frame(con, _AUDIT, annotator)
    return training_rows(trusted, evaluation_texts, project.task, audit)


def training_rows(
    trusted: pl.DataFrame, evaluation_texts: Iterable[str], task: Task, audit: pl.DataFrame | None = None
) -> TrainingRows:
    """Leave out what must not be learned from: held-out texts, outdated labels, and those that the task does not have.

    Args:
        trusted: record_id, content_hash, content (null: outdated), label, origin, weight, held_out, and scores.
        evaluation_texts: The texts of held-out gold; a training text that is a near-duplicate of one leaks.
        audit: As in `Examples`.
    """
    held_out = list(evaluation_texts)
    current = trusted.filter(pl.col("content").is_not_null())
    similarity = similarity_to(current["content"].to_list(), held_out)
    leaks = current["held_out"] | similarity.is_not_null()
    clean = current.filter(~leaks)
    known = clean.filter(are_labels(task, clean["label"], clean["content"]))
    if audit is not None:
        audit = audit.filter(
            are_labels(task, audit["label"], audit["content"]),
            similarity_to(audit["content"].to_list(), held_out).is_null(),
        )
    return TrainingRows(
        Examples.of(known, audit),
        leaked=int(leaks.sum()),
        outdated=trusted.height - current.height,
        unknown=clean.height - known.height,
        alike=int((~current["held_out"] & (similarity < SAME)).sum()),
        held_out=fingerprint(held_out),
    )


def data_fingerprint(examples: Examples) -> str:
    """A hash of contents, labels, weights and scores, and of what tells how the teacher errs."""
    rows = examples.rows.select("content_hash", "label", "origin", pl.col("weight").round(6), "scores").rows()
    return digest({"labels": rows, "audit": examples.audit.drop("content").rows()})


def version_of(fingerprint: str, config: dict[str, Any], encoder_id: str) -> str:
    """Twelve hexadecimal digits for a set of training rows, a configuration and an encoder."""
    return digest({"method": METHOD, "config": config, "encoder": encoder_id, "data": fingerprint})[:12]


def _deciding(config: Distillation) -> dict[str, Any]:
    """What of the declaration decides the model; where it runs and how it is used leave it as it is."""
    unimportant = {"student", "encoder", "device", "fast", "abstain_below", "min_labels"}
    return config.model_dump(mode="json", exclude=unimportant)


def _check_enough(found: TrainingRows, least: int, *, exclusive: bool) -> None:
    rows = found.examples.rows
    left_out = (("held out for evaluation", found.leaked), ("outdated", found.outdated), ("unknown", found.unknown))
    aside = "; ".join(f"{number} left out: {why}" for why, number in left_out if number)
    beside = f" ({aside})" if aside else ""
    if rows.height < least:
        raise TrainingError(
            f"expected {least} trusted labels or more, found {rows.height}{beside}",
            where="table trusted_labels",
            todo="Materialize more partitions, or lower distillation: min_labels",
        )
    classes = rows.filter(pl.col("weight") > 0)["label"].unique().sort().to_list()
    if exclusive and len(classes) < 2:
        raise TrainingError(
            f"expected labels of two classes or more, found only {classes[0] if classes else 'none with a weight'}"
            f"{beside}",
            where="table trusted_labels",
            todo="Materialize more partitions, or look at the labels' descriptions",
        )


def _load_whole(folder: Path, task: Task) -> Student | None:
    """The model in a folder, or None where there is none or its files are damaged."""
    if not folder.exists():
        return None
    try:
        student, _ = read_model(folder, task)
        trained_on(folder)
    except StoreCorrupted as error:
        logging.getLogger(__name__).warning("%s; it is trained again now", error.problem)
        return None
    return student
