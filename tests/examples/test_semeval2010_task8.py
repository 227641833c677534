"""SemEval-2010 Task 8 with the embedded annotator: nineteen directed relations of marked pairs."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from annotation_pipelines.errors import SourceError
from annotation_pipelines.tasks.given_relations import GivenRelationsTask
from annotation_pipelines.tasks.marked_pair import MarkedPair
from tests.examples.example import EXAMPLES, Example

NAME = "semeval2010_task8"
DATA = "data/train_first_1200.txt"
N, POOL = 360, 120


@pytest.fixture(scope="module")
def source() -> ModuleType:
    spec = importlib.util.spec_from_file_location("semeval_source", EXAMPLES / NAME / "source.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def records(source: ModuleType) -> list[dict[str, str | None]]:
    read: Callable[[None, None], Iterator[dict[str, str | None]]] = source.records
    return list(read(None, None))


def cut(example: Example, records: int) -> None:
    """Leave the first records in the file."""
    file = example.folder / DATA
    lines = file.read_bytes().split(b"\r\n")
    file.write_bytes(b"\r\n".join(lines[: 4 * records]) + b"\r\n")


def test_every_record_of_the_file_is_read_without_its_line_ends_and_quotation_marks(
    records: list[dict[str, str | None]],
) -> None:
    raw = (EXAMPLES / NAME / DATA).read_bytes()
    assert raw.count(b"\r\n") == raw.count(b"\n") == 4 * 1200
    assert len(records) == 1200
    assert records[0] == {
        "id": "1",
        "text": "The system as described above has its greatest application in an arrayed <e1>configuration</e1> of "
        "antenna <e2>elements</e2>.",
        "relation": "Component-Whole(e2,e1)",
        "comment": "Not a collection: there is structure here, organisation.",
    }
    assert sum(record["comment"] is not None for record in records) == 373
    assert not any("\r" in (value or "") for record in records for value in record.values())


def test_every_text_marks_a_pair_and_every_relation_is_one_of_the_labels(
    tmp_path: Path, records: list[dict[str, str | None]]
) -> None:
    example = Example(tmp_path, NAME)
    task = example.project.task
    assert isinstance(task, GivenRelationsTask)
    assert len(task.labels) == 19
    seen = Counter(record["relation"] for record in records)
    assert seen.keys() <= task.labels.keys()
    # The one example of it in the whole training file comes later.
    assert task.labels.keys() - seen.keys() == {"Entity-Destination(e2,e1)"}
    for record in records:
        assert all(MarkedPair.read(record["text"] or "").mentions)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('1\t"A <e1>b</e1> <e2>c</e2>."\r\nOther\r\n\r\n\r\n', "expected a comment"),
        ('"no id"\r\nOther\r\nComment:\r\n\r\n', "line 1"),
    ],
)
def test_a_file_of_another_form_is_refused_with_the_line(tmp_path: Path, text: str, words: str) -> None:
    example = Example(tmp_path, NAME)
    (example.folder / DATA).write_text(text, encoding="utf-8", newline="")
    with pytest.raises(SourceError, match=words):
        example.read()


def test_a_record_without_marks_loses_its_gold_with_a_note(tmp_path: Path) -> None:
    example = Example(tmp_path, NAME)
    cut(example, 20)
    file = example.folder / DATA
    file.write_bytes(file.read_bytes().replace(b"<e1>child</e1>", b"child"))
    counts = example.read()
    assert (counts["rows"], counts["rejected_unknown_label"]) == (20, 1)


def test_the_embedded_annotator_labels_most_of_the_held_out_relations(tmp_path: Path) -> None:
    example = Example(tmp_path, NAME, demonstrations={"pool": POOL})
    cut(example, N)
    assert (example.read()["new"], example.read()["unchanged"]) == (N, N)
    counts = example.annotate()
    labelled = example.annotations()
    assert labelled.height == N - POOL == counts.states["labelled"]
    assert labelled["confidence"].is_between(0, 1).all()
    metrics = {
        metric.metric: metric.value
        for metric in example.project.task.measure(labelled["gold"].to_list(), labelled["label"].to_list())
        if not metric.label
    }
    # Always the most frequent relation: .16 and F1 .19. By chance: .05.
    assert (metrics["accuracy"] or 0) > 0.3
    assert (metrics["micro_f1"] or 0) > 0.33
    assert (metrics["macro_f1"] or 0) > 0.28
    surer = labelled.sort("confidence", descending=True).head(60)
    right = (surer["gold"] == surer["label"]).mean()
    assert isinstance(right, float)
    assert right > (metrics["accuracy"] or 1) + 0.1
    again = example.annotate()
    assert (again.called, again.unchanged) == (0, N - POOL)
