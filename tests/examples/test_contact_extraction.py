"""Contact data is extracted over HTTP: strictly asked for, read as the schema was meant, measured field by field."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from annotation_pipelines.content import Content
from tests.annotators.label_scene import KEY
from tests.examples.example import EXAMPLES, Example, values
from tests.mock_endpoint import Act, Call, MockEndpoint, completion
from tests.workspaces import openai_annotator

TEXTS = json.loads((EXAMPLES / "contact_extraction" / "data" / "presidio.json").read_text(encoding="utf-8"))


def odd(text: str) -> int:
    """Which texts the endpoint below stumbles over, and how."""
    return zlib.crc32(text.encode()) % 10


@pytest.fixture(scope="module")
def mock() -> Iterator[MockEndpoint]:
    """An endpoint that finds what is marked in the texts, with some errors, all of them null where nothing is."""
    marked = {text["full_text"].strip(): text["spans"] for text in TEXTS}

    def behave(call: Call) -> Act:
        found: dict[str, Any] = {"people": [], "organizations": [], "phones": []}
        found |= {"email": None, "website": None, "age": None}
        lists = {"PERSON": "people", "ORGANIZATION": "organizations", "PHONE_NUMBER": "phones"}
        single = {"EMAIL_ADDRESS": "email", "DOMAIN_NAME": "website", "AGE": "age"}
        for span in sorted(marked[call.text], key=lambda span: span["start_position"]):
            kind, value = span["entity_type"], span["entity_value"]
            if kind in lists and value not in found[lists[kind]]:
                found[lists[kind]].append(value)
            elif kind in single:
                found[single[kind]] = int(value) if kind == "AGE" else value
        if odd(call.text) == 0 and call.attempt == 0:
            found["age"] = 200  # against the schema: has to be repaired
        if odd(call.text) in (1, 2, 3):
            found["people"] = [name.upper() for name in found["people"]]
        return completion(json.dumps({"extracted": found, "confidence": 0.9}, ensure_ascii=False))

    with pytest.MonkeyPatch.context() as patch, MockEndpoint(behave) as endpoint:
        patch.setenv("OPENAI_API_KEY", KEY)
        yield endpoint


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory, mock: MockEndpoint) -> Example:
    folder = tmp_path_factory.mktemp("contacts")
    example = Example(
        folder, "contact_extraction", annotators=openai_annotator(mock.url), demonstrations={"pool": 5, "per_prompt": 1}
    )
    facts = example.read()
    assert (facts["rows"], facts["new"]) == (len(TEXTS), len(TEXTS))
    example.annotate()
    return example


def test_gold_is_valid_for_every_text_and_texts_that_are_there_twice_are_counted(extracted: Example) -> None:
    rows = extracted.store.query("SELECT gold, attributes FROM records")
    assert rows["gold"].null_count() == 0
    twice = sum(json.loads(row)["earlier_equals"] != "0" for row in rows["attributes"])
    assert twice == len(TEXTS) - len({text["full_text"] for text in TEXTS}) > 0
    assert sum(json.loads(gold)["people"] == [] for gold in rows["gold"]) > 10


def test_what_is_sent_is_a_strict_schema_that_the_demonstrations_follow(extracted: Example, mock: MockEndpoint) -> None:
    body = mock.calls[0].body
    sent = body["response_format"]["json_schema"]
    assert sent["strict"] is True
    fields = sent["schema"]["properties"]["extracted"]
    assert fields["required"] == list(fields["properties"])
    assert fields["properties"]["age"]["type"] == ["integer", "null"]
    (shown,) = [json.loads(message["content"]) for message in body["messages"] if message["role"] == "assistant"]
    Draft202012Validator(sent["schema"]).validate(shown)


def test_every_text_ends_in_an_object_of_the_schema(extracted: Example) -> None:
    rows = extracted.annotations()
    assert set(rows["state"]) == {"labelled"}
    task = extracted.project.task
    for label, content in rows.select("label", "content").iter_rows():
        assert task.problem(label, Content.read(content)) is None
        assert None not in json.loads(label).values()


def test_what_broke_the_schema_was_repaired(extracted: Example, mock: MockEndpoint) -> None:
    asked = {call.text for call in mock.calls}
    repairs = [call for call in mock.calls if "age: 200 is greater than the maximum of 150" in json.dumps(call.body)]
    assert len(repairs) == sum(odd(text) == 0 for text in asked) > 0


def test_fields_are_measured_exactly_and_by_their_words(extracted: Example) -> None:
    evaluation = extracted.evaluate()
    whole, people, phones = values(evaluation), values(evaluation, "people"), values(evaluation, "phones")
    assert evaluation.headline == "score"
    assert 0.9 < whole["exact"] < 1
    assert people["exact"] < people["fuzzy"] == people["score"] == 1
    assert phones["exact"] == phones["f1"] == 1
    assert whole["record_exact"] == pytest.approx(people["exact"])
    assert whole["score"] == 1
