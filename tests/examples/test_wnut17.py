"""WNUT-17: entities of noisy texts, found on this machine, and by a model that gives surfaces back in its own way."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from annotation_pipelines.content import Content
from annotation_pipelines.errors import SourceError
from annotation_pipelines.tasks.metrics.bootstrap import Metric
from annotation_pipelines.tasks.spans import labelled_spans, places
from tests.examples.example import EXAMPLES, Example
from tests.mock_endpoint import Act, Call, MockEndpoint, completion
from tests.workspaces import openai_annotator

NAME = "wnut17"


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")


def cut(example: Example, sentences: int) -> None:
    """Leave the first sentences of each file."""
    for file in (example.folder / "data").iterdir():
        kept, seen = [], 0
        for line in file.read_text(encoding="utf-8").split("\n"):
            kept.append(line)
            seen += not line.strip() and bool(kept[:-1]) and bool(kept[-2].strip())
            if seen == sentences:
                break
        file.write_text("\n".join(kept) + "\n", encoding="utf-8")


def records(example: Example) -> pl.DataFrame:
    return example.store.query("SELECT * FROM records ORDER BY record_id")


def test_every_sentence_is_read_with_its_entities_and_its_dirt(tmp_path: Path) -> None:
    example = Example(tmp_path, NAME)
    counts = example.read()
    read = records(example)
    assert (counts["new"], read.height, read["gold"].null_count()) == (1800, 1800, 0)
    raw = "".join(file.read_text(encoding="utf-8") for file in sorted((example.folder / "data").iterdir()))
    named = Counter(span.type for label in read["gold"] for span in labelled_spans(label))
    assert named == Counter(line.split("\tB-")[1] for line in raw.split("\n") if "\tB-" in line)
    assert named.total() == 1285
    assert read.height - read["content"].n_unique() == 31
    assert read.filter(pl.col("content").str.contains("&(amp|lt|gt);")).height > 50
    assert read.filter(pl.col("content").str.contains("[\U0001f000-\U0001ffff]")).height > 10
    for content, label in read.select("content", "gold").iter_rows():
        assert example.project.task.problem(label, Content.read(content)) is None


def test_a_line_of_another_form_is_refused_with_its_place(tmp_path: Path) -> None:
    example = Example(tmp_path, NAME)
    file = example.folder / "data" / "dev.conll"
    lines = file.read_text(encoding="utf-8").split("\n")
    lines[6] = "word person"
    file.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(SourceError, match=r"expected token, tab and tag.*dev.conll line 7"):
        example.read()


def test_the_embedded_annotator_finds_entities_that_it_was_shown_the_like_of(tmp_path: Path) -> None:
    example = Example(tmp_path, NAME, demonstrations={"pool": 150}, evaluation={"share": 0.1})
    cut(example, 120)
    example.read()
    counts = example.annotate()
    assert set(counts.states) == {"labelled"}
    found = example.annotations()
    metrics = {m.metric: m.value for m in measured(example, found) if not m.label}
    # Nothing found: 0. Every run of capitalised words, with the most frequent type: below 0.15.
    assert (metrics["f1"] or 0) > 0.2
    assert (metrics["exact_f1"] or 0) > 0.35
    surer = found.sort("confidence", descending=True).head(found.height // 2)
    assert (surer["gold"] == surer["label"]).mean() > (found["gold"] == found["label"]).mean()  # type: ignore[operator]
    again = example.annotate()
    assert (again.called, again.unchanged) == (0, counts.selected)


def measured(example: Example, found: pl.DataFrame) -> list[Metric]:
    return example.project.task.measure(found["gold"].to_list(), found["label"].to_list())


def copyist(example: Example, manner: Callable[[str], str]) -> Callable[[Call], Act]:
    """A model that knows the entities, counts only where it must, and writes them in a manner of its own."""
    task = example.project.task
    gold = dict(records(example).select("content", "gold").iter_rows())

    def behave(call: Call) -> Act:
        text = call.text
        if text not in gold:
            raise AssertionError(f"asked about {text!r}")
        answer = task.answer(gold[text], Content.read(text), confidence=True)
        for entity in answer["entities"]:
            entity["text"] = manner(entity["text"])
            if len(places(text, entity["text"])) == 1:
                del entity["occurrence"]
        return completion("Here you are:\n```json\n" + json.dumps(answer) + "\n```")

    return behave


@pytest.mark.parametrize(
    ("manner", "least"),
    [(str, 1.0), (str.upper, 0.98), (lambda text: f" {text.replace(' ', chr(0xA0))}\n", 1.0)],
    ids=["as it stands", "upper case", "other blanks"],
)
def test_a_model_that_copies_in_its_own_way_is_understood(
    tmp_path: Path, manner: Callable[[str], str], least: float
) -> None:
    behave: list[Callable[[Call], Act]] = []
    with MockEndpoint(lambda call: behave[0](call)) as mock:
        example = Example(tmp_path, NAME, annotators=openai_annotator(mock.url), demonstrations=None)
        cut(example, 60)
        example.read()
        behave.append(copyist(example, manner))
        counts = example.annotate()
    assert counts.states["labelled"] >= least * counts.selected
    found = example.annotations()
    metrics = {m.metric: m.value for m in measured(example, found) if not m.label}
    assert (metrics["f1"] or 0) >= least


def test_a_model_that_makes_entities_up_is_asked_again_and_ends_without_a_label(tmp_path: Path) -> None:
    made_up = json.dumps({"entities": [{"text": "Atlantis", "type": "location", "occurrence": 1}], "confidence": 1})
    with MockEndpoint(lambda call: completion(made_up)) as mock:
        example = Example(tmp_path, NAME, annotators=openai_annotator(mock.url), demonstrations=None, evaluation=None)
        cut(example, 10)
        example.read()
        counts = example.annotate()
        assert len(mock.calls) > counts.selected
        repair = max(mock.calls, key=lambda call: call.number).body["messages"][-1]["content"]
    assert "entity 1 is not in the text" in repair
    assert set(counts.states) == {"invalid"}
    assert example.annotations()["problem"].str.contains("'Atlantis'").all()


def test_the_slice_is_as_it_was_released() -> None:
    sizes = {file.name: file.stat().st_size for file in (EXAMPLES / NAME / "data").iterdir()}
    assert sizes == {"train.conll": 134621, "dev.conll": 33359, "test.conll": 90677}
