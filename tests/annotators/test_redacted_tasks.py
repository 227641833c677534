"""Personal data that is taken out of records stays out of all that is sent, and comes back into what is stored."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from annotation_pipelines.annotators.privacy.redaction import Redactor
from annotation_pipelines.content import Content
from annotation_pipelines.project import Privacy
from annotation_pipelines.tasks.base import canonical_json
from annotation_pipelines.tasks.entities import Entities
from annotation_pipelines.tasks.extraction import Extraction
from tests.annotators.label_scene import KEY, Scene, frame
from tests.mock_endpoint import MockEndpoint, completion

ENTITIES = Entities.model_validate({"types": ["person", "address"]}).make()
SHOWN = "Write to ann.lee@example.org, says Ann."
ASKED = "Bob wrote to carl@example.com and again to carl@example.com."


@pytest.fixture
def mock(monkeypatch: pytest.MonkeyPatch) -> Iterator[MockEndpoint]:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with MockEndpoint() as endpoint:
        yield endpoint


@pytest.fixture
def redactor(tmp_path: Path) -> Redactor:
    return Redactor(Privacy(redact=["email"]), tmp_path)


def spans(text: str, *found: tuple[str, str, int]) -> str:
    """The canonical label with these words, types and starts."""
    listed = [{"start": start, "end": start + len(words), "text": words, "type": kind} for words, kind, start in found]
    return canonical_json(listed)


def sent(mock: MockEndpoint) -> str:
    return "".join(json.dumps(call.body, ensure_ascii=False) for call in mock.calls)


def test_a_span_that_was_taken_out_is_found_in_the_record_as_it_is_stored(
    tmp_path: Path, mock: MockEndpoint, redactor: Redactor
) -> None:
    said = {"entities": [{"text": "[EMAIL_1]", "type": "address", "occurrence": 2}], "confidence": 0.8}
    mock.behave = lambda call: completion(json.dumps(said))
    scene = Scene(tmp_path / "shop", mock.url)
    scene.label({"r1": ASKED}, scene.annotator(task=ENTITIES, redactor=redactor))
    assert scene.rows("label") == [(spans(ASKED, ("carl@example.com", "address", ASKED.rindex("carl"))),)]
    assert "carl@" not in sent(mock)


def test_the_answers_of_demonstrations_are_redacted_like_their_texts(
    tmp_path: Path, mock: MockEndpoint, redactor: Redactor
) -> None:
    mock.behave = lambda call: completion('{"entities": [], "confidence": 1}')
    label = spans(SHOWN, ("ann.lee@example.org", "address", 9), ("Ann", "person", SHOWN.rindex("Ann")))
    pool = frame([SHOWN]).with_columns(label=pl.lit(label))
    scene = Scene(tmp_path / "shop", mock.url)
    shown = scene.annotator(
        task=ENTITIES, redactor=redactor, demonstrations=pool, choose=lambda records: np.zeros((len(records), 1), int)
    )
    scene.label({"r1": "Nobody."}, shown)
    assert "ann.lee" not in sent(mock)
    answer = json.loads(mock.calls[0].body["messages"][2]["content"])
    assert [found["text"] for found in answer["entities"]] == ["[EMAIL_1]", "Ann"]


def test_a_demonstration_whose_answer_needs_what_was_taken_out_is_left_out(
    tmp_path: Path, mock: MockEndpoint, redactor: Redactor
) -> None:
    mock.behave = lambda call: completion('{"entities": [], "confidence": 1}')
    pool = frame([SHOWN]).with_columns(label=pl.lit(spans(SHOWN, ("ann.lee", "person", 9))))
    scene = Scene(tmp_path / "shop", mock.url)
    shown = scene.annotator(
        task=ENTITIES, redactor=redactor, demonstrations=pool, choose=lambda records: np.zeros((len(records), 1), int)
    )
    scene.label({"r1": "Nobody."}, shown)
    assert [message["role"] for message in mock.calls[0].body["messages"]] == ["system", "user"]
    assert "ann.lee" not in sent(mock)


def test_fields_and_parts_get_their_values_back(tmp_path: Path, mock: MockEndpoint, redactor: Redactor) -> None:
    task = Extraction.model_validate(
        {"schema": {"type": "object", "properties": {"from": {"type": "string"}, "to": {"type": "string"}}}}
    ).make()
    content = Content.of_parts(
        {"head": "from: ann@example.org", "body": "Dear dan@example.org, ann@example.org writes."}
    )
    said = {"extracted": {"from": "[EMAIL_1]", "to": "[EMAIL_2]"}, "confidence": 1}
    mock.behave = lambda call: completion(json.dumps(said))
    scene = Scene(tmp_path / "shop", mock.url)
    scene.label({"r1": content.stored}, scene.annotator(task=task, redactor=redactor))
    assert scene.rows("label") == [('{"from":"ann@example.org","to":"dan@example.org"}',)]
    assert "@" not in sent(mock)
    assert "<body>\nDear [EMAIL_2], [EMAIL_1] writes.\n</body>" in mock.calls[0].body["messages"][-1]["content"]
