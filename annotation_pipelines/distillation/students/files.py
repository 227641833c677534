"""A model's folder: the student's files, training.parquet (what it was trained on), and card.json with their hashes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import polars as pl

from annotation_pipelines.distillation.students.base import Student
from annotation_pipelines.distillation.students.registry import student_class
from annotation_pipelines.errors import StoreCorrupted, StoreError
from annotation_pipelines.project import Distillation
from annotation_pipelines.tasks.base import Task

FORMAT = 2
CARD_FILE = "card.json"
TRAINING_FILE = "training.parquet"
TRAINING_COLUMNS = ["record_id", "content_hash", "label", "origin", "weight"]

_TODO = "Materialize distilled_model and model_evaluation: a damaged model is trained again"


def write_model(student: Student, card: Mapping[str, Any], rows: pl.DataFrame, folder: Path) -> None:
    """Write a model beside its place and move it there whole.

    Args:
        card: What is to be known about the model, JSON-like; the student's own part and the hashes are added.
        rows: What it was trained on: the columns of TRAINING_COLUMNS.

    Raises:
        StoreError: The folder cannot be written.
    """
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True, exist_ok=True)
        own = student.save(temporary)
        # By way of memory: polars reports a full disk as an error of the format.
        buffer = BytesIO()
        rows.select(TRAINING_COLUMNS).write_parquet(buffer)
        (temporary / TRAINING_FILE).write_bytes(buffer.getvalue())
        document = {
            "format": FORMAT,
            "student": student.kind,
            "task": student.task.kind,
            "config": student.config.model_dump(mode="json"),
            **card,
            "own": own,
            "files": {name: _digest(temporary / name) for name in _names(temporary)},
        }
        text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
        (temporary / CARD_FILE).write_text(text, encoding="utf-8")
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


def read_card(folder: Path) -> dict[str, Any]:
    """A model's card.

    Raises:
        StoreCorrupted: It is missing or damaged, or written by a later version.
    """
    try:
        card: dict[str, Any] = json.loads((folder / CARD_FILE).read_text(encoding="utf-8"))
        if card["format"] != FORMAT:
            raise ValueError(f"it has format {card['format']}, this package reads {FORMAT}")
    except Exception as error:
        raise _damaged(folder, error) from None
    return card


def read_model(folder: Path, task: Task) -> tuple[Student, dict[str, Any]]:
    """A model and its card; every file is held against its hash first.

    Raises:
        StoreCorrupted: A file is missing or damaged, or written by a later version.
    """
    card = read_card(folder)
    # Whatever a damaged file makes JSON, safetensors, pydantic and numpy raise.
    try:
        for name, digest in card["files"].items():
            if _digest(folder / name) != digest:
                raise ValueError(f"{name} is not what its card says")
        if card["task"] != task.kind:
            raise ValueError(f"it serves task {card['task']}, the project's is {task.kind}")
        config = Distillation.model_validate(card["config"])
        student = student_class(task, card["student"])(task, config).load(folder, card["own"])
    except Exception as error:
        raise _damaged(folder, error) from None
    return student, card


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
        return pl.read_parquet(path.read_bytes(), columns=TRAINING_COLUMNS)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise StoreCorrupted(
            f"what the model was trained on cannot be read ({error.__class__.__name__}: {error})",
            where=path,
            todo=_TODO,
        ) from None


def _names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _damaged(folder: Path, error: Exception) -> StoreCorrupted:
    return StoreCorrupted(f"the model cannot be read ({error.__class__.__name__}: {error})", where=folder, todo=_TODO)
