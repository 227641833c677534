"""Names of persons, found by a spaCy model where spaCy is installed."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from annotation_pipelines.annotators.privacy.redaction import Redactor
from annotation_pipelines.errors import DeclarationError, MissingExtra
from annotation_pipelines.project import Privacy

HAS_SPACY = find_spec("spacy") is not None
needs_spacy = pytest.mark.skipif(not HAS_SPACY, reason="spaCy is not installed")


def redactor(folder: Path, model: str = "names") -> Redactor:
    return Redactor(Privacy(redact=["person", "email"], spacy_model=model), folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project with a model that knows two names."""
    import spacy  # type: ignore[import-not-found, unused-ignore]

    pipeline = spacy.blank("en")
    ruler = pipeline.add_pipe("entity_ruler")
    ruler.add_patterns([{"label": "PERSON", "pattern": "Ana Bell"}, {"label": "ORG", "pattern": "Acme"}])
    pipeline.to_disk(tmp_path / "names")
    return tmp_path


@needs_spacy
def test_persons_are_taken_out_and_other_entities_left(folder: Path) -> None:
    redacted = redactor(folder).redact("Ana Bell of Acme \ud800 (ana@example.org). Yours, Ana Bell")
    assert redacted.text == "[PERSON_1] of Acme \ud800 ([EMAIL_1]). Yours, [PERSON_1]"


@needs_spacy
def test_another_model_makes_another_fingerprint(folder: Path) -> None:
    before = redactor(folder).fingerprint
    card = folder / "names" / "meta.json"
    card.write_text(card.read_text().replace("0.0.0", "0.0.1"))
    assert redactor(folder).fingerprint != before


@needs_spacy
def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match="spacy_model: the spaCy model 'no_such_model' cannot be loaded"):
        redactor(tmp_path, "no_such_model").redact("Ana Bell")


@pytest.mark.skipif(HAS_SPACY, reason="spaCy is installed")
def test_without_spacy_the_message_says_how_to_install_it(tmp_path: Path) -> None:
    with pytest.raises(MissingExtra, match=r"annotation-pipelines\[person\]"):
        redactor(tmp_path).redact("Ana Bell")
