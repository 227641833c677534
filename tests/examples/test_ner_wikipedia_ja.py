"""Japanese Wikipedia: entities of a language without blanks between words, with types in Japanese."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from annotation_pipelines.content import Content
from annotation_pipelines.tasks.spans import TypedSpan, labelled_spans
from annotation_pipelines.tasks.tokens import bio_tags, character_tokens, tagged_entities
from tests.examples.example import EXAMPLES, Example
from tests.mock_endpoint import Act, Call, MockEndpoint, completion
from tests.workspaces import openai_annotator

NAME = "ner_wikipedia_ja"
DATA = Path("data") / "ner.jsonl"


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")


def cut(example: Example, records: int) -> None:
    """Leave the first records in the file."""
    lines = (example.folder / DATA).read_text(encoding="utf-8").split("\n")
    (example.folder / DATA).write_text("\n".join(lines[:records]) + "\n", encoding="utf-8")


def gold(example: Example) -> dict[str, str]:
    """Content to gold of all records."""
    return dict(example.store.query("SELECT content, gold FROM records").iter_rows())


def test_every_record_is_read_with_its_entities_at_the_offsets_of_the_file(tmp_path: Path) -> None:
    example = Example(tmp_path, NAME)
    assert example.read()["new"] == 748
    read = gold(example)
    rows = [json.loads(line) for line in (EXAMPLES / NAME / DATA).read_text(encoding="utf-8").split("\n") if line]
    named: Counter[str] = Counter()
    for row in rows:
        spans = labelled_spans(read[row["text"]])
        assert [(s.of(row["text"]), s.start, s.end, s.type) for s in spans] == [
            (e["name"], *e["span"], e["type"]) for e in sorted(row["entities"], key=lambda e: e["span"])
        ]
        named.update(span.type for span in spans)
    assert named.keys() == example.project.task.labels.keys()
    assert sum(label == "[]" for label in read.values()) == 59


def test_real_entities_become_tags_of_characters_and_come_back(tmp_path: Path) -> None:
    example = Example(tmp_path, NAME)
    cut(example, 200)
    example.read()
    for text, label in gold(example).items():
        tokens = character_tokens(text)
        tagged = bio_tags(labelled_spans(label), tokens)
        assert (tagged.unaligned, tagged.overlapping) == ((), ())
        # Two entities without a character between them stay two.
        assert tagged_entities(tagged.tags, tokens) == [
            TypedSpan(s.start, s.end, s.type) for s in labelled_spans(label)
        ]


def test_the_embedded_annotator_finds_japanese_entities_too(tmp_path: Path) -> None:
    example = Example(tmp_path, NAME, demonstrations={"pool": 120}, evaluation={"share": 0.2})
    cut(example, 240)
    example.read()
    counts = example.annotate()
    assert set(counts.states) == {"labelled"}
    found = example.annotations()
    task = example.project.task
    metrics = {
        m.metric: m.value for m in task.measure(found["gold"].to_list(), found["label"].to_list()) if not m.label
    }
    # Every run of katakana or kanji, with the most frequent type: below 0.1.
    assert (metrics["f1"] or 0) > 0.15
    assert (metrics["exact_f1"] or 0) > 0.4
    assert example.annotate().called == 0


MANNERS: dict[str, Callable[[str], str]] = {
    "as it stands": str,
    "half and full width": lambda text: "".join(
        chr(ord(letter) + 0xFEE0) if "!" <= letter <= "~" else letter for letter in text
    ),
    "decomposed": lambda text: unicodedata.normalize("NFD", text),
    "a blank between": lambda text: re.sub("(?<=[ぁ-鿿])(?=[ぁ-鿿])", " ", text),
}


@pytest.mark.parametrize("manner", MANNERS)
def test_a_model_that_copies_in_its_own_way_is_understood(tmp_path: Path, manner: str) -> None:
    behave: list[Callable[[Call], Act]] = []
    with MockEndpoint(lambda call: behave[0](call)) as mock:
        example = Example(tmp_path, NAME, annotators=openai_annotator(mock.url), demonstrations=None)
        cut(example, 120)
        example.read()
        task, labels = example.project.task, gold(example)

        def copied(call: Call) -> Act:
            answer = task.answer(labels[call.text], Content.read(call.text), confidence=True)
            for entity in answer["entities"]:
                entity["text"] = MANNERS[manner](entity["text"])
            return completion(json.dumps(answer, ensure_ascii=False))

        behave.append(copied)
        counts = example.annotate()
    assert set(counts.states) == {"labelled"}
    assert counts.repairs == 0
    found = example.annotations()
    metrics = {
        m.metric: m.value for m in task.measure(found["gold"].to_list(), found["label"].to_list()) if not m.label
    }
    assert (metrics["f1"] or 0) > 0.99


def test_an_occurrence_beyond_those_there_are_is_repaired(tmp_path: Path) -> None:
    behave: list[Callable[[Call], Act]] = []
    with MockEndpoint(lambda call: behave[0](call)) as mock:
        example = Example(tmp_path, NAME, annotators=openai_annotator(mock.url), demonstrations=None, evaluation=None)
        cut(example, 30)
        example.read()
        task, labels = example.project.task, gold(example)

        def wrong_at_first(call: Call) -> Act:
            text = next(text for text in labels if any(text in m["content"] for m in call.body["messages"]))
            answer = task.answer(labels[text], Content.read(text), confidence=True)
            if not any(message["role"] == "assistant" for message in call.body["messages"][2:]):
                for entity in answer["entities"]:
                    entity["occurrence"] += 100
            return completion(json.dumps(answer, ensure_ascii=False))

        behave.append(wrong_at_first)
        counts = example.annotate()
    assert set(counts.states) == {"labelled"}
    assert counts.repairs == sum(label != "[]" for label in labels.values()) > 20
    found = example.annotations()
    assert found["label"].to_list() == found["gold"].to_list()
