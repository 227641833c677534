"""Names of persons, found by a spaCy model that is installed on this machine. Nothing is downloaded."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path

from annotation_pipelines.annotators.privacy.findings import Finding, Recognizer
from annotation_pipelines.errors import DeclarationError, MissingExtra

_LABELS = frozenset({"PERSON", "PER", "PRS", "persName"})  # what models of different languages call a person
_SURROGATES = dict.fromkeys(range(0xD800, 0xE000), "\ufffd")  # they cannot be encoded, and spaCy encodes


def person_recognizer(model: str, folder: Path) -> Recognizer:
    """Finds persons with a spaCy model.

    Args:
        model: An installed model, such as en_core_web_sm, or a folder.
        folder: Where a relative path begins.

    Raises:
        MissingExtra: spaCy is not installed.
        DeclarationError: There is no such model, or it cannot be loaded.
    """
    if find_spec("spacy") is None:
        raise MissingExtra("spacy", "person", "redact: person")
    where = folder / model
    try:
        pipeline = import_module("spacy").load(where if where.is_dir() else model)
    except Exception as error:  # whatever a model's own code raises
        raise DeclarationError(
            f"the spaCy model {model!r} cannot be loaded ({type(error).__name__})",
            where="privacy: spacy_model",
            todo="Install it in this environment, or name its folder",
        ) from error

    def persons(text: str) -> Iterator[Finding]:
        pipeline.max_length = max(pipeline.max_length, len(text) + 1)
        for entity in pipeline(text.translate(_SURROGATES)).ents:
            if entity.label_ in _LABELS:
                yield Finding(entity.start_char, entity.end_char, "person")

    return persons


def model_version(model: str, folder: Path) -> str:
    """What changes when the model does, without loading it; '' where there is none."""
    card = folder / model / "meta.json"
    if card.is_file():
        return card.read_text(encoding="utf-8", errors="replace")
    try:
        return metadata.version(model)
    except (metadata.PackageNotFoundError, ValueError):
        return ""
