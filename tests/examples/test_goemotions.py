"""goemotions: comments with one emotion or several out of 28, from a file without header that holds numbers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from annotation_pipelines.content import Content
from annotation_pipelines.errors import SourceError
from annotation_pipelines.tasks.choices import CHOICES
from annotation_pipelines.tasks.multilabel import MultilabelTask
from tests.examples.example import Example
from tests.examples.oracle import oracle
from tests.mock_endpoint import Act, Call, MockEndpoint, completion
from tests.workspaces import openai_annotator

NAME = "goemotions"
DATA = Path("data") / "train.tsv"


def cut(example: Example, lines: int) -> None:
    """Leave the first lines of the file."""
    kept = (example.folder / DATA).read_bytes().split(b"\n")[:lines]
    (example.folder / DATA).write_bytes(b"\n".join(kept) + b"\n")


@pytest.fixture
def mock(monkeypatch: pytest.MonkeyPatch) -> Iterator[MockEndpoint]:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-a-key")
    with MockEndpoint() as endpoint:
        yield endpoint


def task(example: Example) -> MultilabelTask:
    made = example.project.task
    assert isinstance(made, MultilabelTask)
    return made


def test_every_line_becomes_a_record_with_names_for_numbers(tmp_path: Path) -> None:
    example = Example(tmp_path, NAME)
    raw = (example.folder / DATA).read_text(encoding="utf-8")
    read = example.read()
    assert read["records"] == read["rows"] == raw.count("\n") == 900
    assert len(raw.encode()) < 300_000
    records = example.store.query("SELECT record_id, content, gold FROM records ORDER BY record_id")
    made = task(example)
    named = [set(made.named(gold)) for gold in records["gold"]]
    assert set().union(*named) == set(made.labels)
    assert max(map(len, named)) >= 4
    assert all(made.problem(gold, Content.of_text("")) is None for gold in records["gold"])
    first = raw.split("\n")[0].split("\t")
    places = [list(made.labels)[int(place)] for place in first[1].split(",")]
    assert records.filter(pl.col("record_id") == first[2])["gold"].item() == made.ordered(places)


def test_quotation_marks_are_those_of_the_comment(tmp_path: Path) -> None:
    example = Example(tmp_path, NAME)
    quoted = [line for line in (example.folder / DATA).read_text(encoding="utf-8").split("\n") if line.startswith('"')]
    assert len(quoted) > 5
    example.read()
    contents = dict(example.store.query("SELECT record_id, content FROM records").iter_rows())
    for line in quoted:
        text, _, comment = line.rsplit("\t", 2)
        assert contents[comment] == text[1:-1].replace('""', '"').strip()


def test_a_number_without_a_name_is_reported_with_its_line(tmp_path: Path) -> None:
    example = Example(tmp_path, NAME)
    cut(example, 3)
    with (example.folder / DATA).open("a", encoding="utf-8") as file:
        file.write("Fine.\t28\tabc\n")
    with pytest.raises(SourceError, match=r"train\.tsv:4: expected numbers below 28, found '28'"):
        example.read()


def test_the_embedded_annotator_beats_the_most_frequent_label_without_a_key(tmp_path: Path) -> None:
    example = Example(tmp_path, NAME)
    cut(example, 450)
    example.read()
    counts = example.annotate()
    assert counts.states["labelled"] == counts.selected == 250
    rows = example.annotations()
    gold, given = rows["gold"].to_list(), rows["label"].to_list()
    made = task(example)
    found = {m.metric: m.value or 0.0 for m in made.measure(gold, given) if m.label == ""}
    constant = {m.metric: m.value or 0.0 for m in made.measure(gold, ['["neutral"]'] * len(gold)) if m.label == ""}
    assert found["micro_f1"] > constant["micro_f1"]
    assert found["macro_f1"] > 3 * constant["macro_f1"]
    assert all(1 <= len(made.named(label)) <= 5 for label in given)


def test_what_a_model_answers_is_read_and_mended(tmp_path: Path, mock: MockEndpoint) -> None:
    example = Example(tmp_path, NAME, annotators=openai_annotator(mock.url), demonstrations={"pool": 20})
    cut(example, 60)
    right = oracle(example.project)
    odd = {1: "joy, love", 2: {"labels": ["Joy", "JOY"]}, 3: {"labels": "anger; none"}, 4: {"labels": []}}

    def behave(call: Call) -> Act:
        said = odd.get(call.number)
        if said is None:
            return right(call)
        return completion(said if isinstance(said, str) else json.dumps(said))

    mock.behave = behave
    example.read()
    counts = example.annotate()
    assert counts.states["labelled"] == counts.selected == 40
    assert counts.repairs == 2, "a label that is not there, and none where one must be"
    rows = example.annotations()
    wrong = rows.filter(pl.col("gold") != pl.col("label"))
    assert set(wrong["label"]) <= {'["joy","love"]', '["joy"]'}
    assert len(wrong) <= 2
    system = mock.calls[0].body["messages"][0]["content"]
    assert all(f'"{name}"' in system for name in task(example).labels)
    enumerated = mock.calls[0].body["response_format"]["json_schema"]["schema"]["properties"]["labels"]["items"]["enum"]
    assert enumerated == list(task(example).labels)


def test_candidates_shorten_the_prompts_of_sets_of_labels(tmp_path: Path, mock: MockEndpoint) -> None:
    labels = dict(Example(tmp_path / "declared", NAME).project.task.labels)
    sent = {}
    for name, count in (("all", None), ("eight", 8)):
        settings = {"labels": labels, "min_labels": 1, "candidates": count}
        example = Example(
            tmp_path / name,
            NAME,
            annotators=openai_annotator(mock.url),
            demonstrations={"pool": 20, "per_prompt": 2},
            task={"multilabel": settings},
        )
        cut(example, 50)
        mock.behave = oracle(example.project)
        before = len(mock.calls)
        example.read()
        assert example.annotate().states["labelled"] == 30
        sent[name] = mock.calls[before:]
    size = {name: sum(len(json.dumps(call.body)) for call in calls) / len(calls) for name, calls in sent.items()}
    assert size["eight"] < 0.75 * size["all"]
    for call in sent["eight"]:
        listed = call.body["messages"][-1]["content"].partition("\n\n<record")[0]
        assert listed.startswith(CHOICES)
        assert listed.count("\n- ") == 8
        shown = [json.loads(m["content"])["labels"] for m in call.body["messages"] if m["role"] == "assistant"]
        assert all(f'- "{name}"' in listed for names in shown for name in names)
