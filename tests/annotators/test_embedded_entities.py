"""The embedded annotator on entities: learned from demonstrations, never from the record's own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import polars as pl
import pytest

from annotation_pipelines import project
from annotation_pipelines.annotators.base import Turn
from annotation_pipelines.annotators.embedded.annotator import EmbeddedAnnotator
from annotation_pipelines.content import Content
from annotation_pipelines.distillation.embedding import Embedder
from annotation_pipelines.distillation.encoder import Encoder
from annotation_pipelines.tasks.base import Annotation
from annotation_pipelines.tasks.entities import Entities, EntitiesTask
from annotation_pipelines.tasks.spans import labelled_spans, spans_label
from annotation_pipelines.tasks.tokens import joined, tagged_entities
from tests.tasks.test_tokens import sentences

TYPES = ["corporation", "creative-work", "group", "location", "person", "product"]


def frame(task: EntitiesTask, rows: Sequence[tuple[str, list[dict[str, Any]]]]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "record_id": [f"r{place:04}" for place in range(len(rows))],
            "content_hash": [f"hash of {text}" for text, _ in rows],
            "content": [text for text, _ in rows],
            "label": [task.canonical(json.dumps(entities), Content.of_text(text)) for text, entities in rows],
        }
    )


def places(*names: str) -> list[tuple[str, list[dict[str, Any]]]]:
    """Sentences about a place and a person each."""
    rows = []
    for name in names:
        text = f"Yesterday Ms. Smith went to {name} by train"
        at = text.index(name)
        person = {"start": 14, "end": 19, "type": "person"}
        rows.append((text, [{"start": at, "end": at + len(name), "type": "location"}, person]))
    return rows


NAMES = ["Paris", "New York", "Oslo", "Kyoto", "San Jose", "Lima", "Accra", "Turin", "Bern", "Hanoi", "Riga", "Split"]


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedder]:
    yield Embedder(tmp_path_factory.mktemp("embedded") / "project", Encoder())


@pytest.fixture(scope="module")
def task() -> EntitiesTask:
    return EntitiesTask(Entities(types=dict.fromkeys(TYPES, "a name")))


def annotated(
    embedder: Embedder, task: EntitiesTask, shown: pl.DataFrame | None, records: pl.DataFrame
) -> list[Annotation]:
    annotator = EmbeddedAnnotator(project.EmbeddedAnnotator(), task, "", shown, embedder)
    found = []
    for reply in annotator.annotate(annotator.requests(records)):
        ended = annotator.proceed([Turn(reply.request, reply.status, reply.text)])
        assert isinstance(ended, Annotation)
        found.append(ended)
    return found


def test_entities_like_those_that_were_shown_are_found(embedder: Embedder, task: EntitiesTask) -> None:
    shown, asked = frame(task, places(*NAMES[:8])), frame(task, places(*NAMES[8:], "Rio de Janeiro"))
    asked = asked.with_columns(record_id="asked " + pl.col("record_id"))
    found = annotated(embedder, task, shown, asked)
    assert [annotation.label for annotation in found[:4]] == asked["label"].to_list()[:4]
    assert all(annotation.confidence is not None and annotation.confidence > 0.3 for annotation in found[:4])
    assert [span.type for span in labelled_spans(found[4].label or "")].count("person") == 1
    assert found == annotated(embedder, task, shown, asked)


def test_a_demonstration_is_not_told_its_own_entities(embedder: Embedder, task: EntitiesTask) -> None:
    # One demonstration calls things persons that none of the others does.
    odd = ("the of and to in", [{"start": 4, "end": 6, "type": "person"}])
    rows = [*places(*NAMES), odd]
    shown = frame(task, rows)
    same = frame(task, [odd]).with_columns(record_id=pl.lit("another"))
    own = shown.tail(1)
    assert [annotation.label for annotation in annotated(embedder, task, shown, pl.concat([own, same]))] == ["[]"] * 2
    changed = same.with_columns(record_id=shown["record_id"].tail(1))
    assert annotated(embedder, task, shown, changed)[0].label == "[]"


def test_without_demonstrations_or_entities_in_them_nothing_is_found(embedder: Embedder, task: EntitiesTask) -> None:
    asked = frame(task, places("Paris"))
    for shown in (None, frame(task, [("nothing here", [])]), frame(task, places("Paris"))):
        [annotation] = annotated(embedder, task, shown, asked)
        assert (annotation.state, annotation.label, annotation.confidence) == ("labelled", "[]", 0.0)


def test_texts_of_any_kind_get_a_valid_answer(embedder: Embedder, task: EntitiesTask) -> None:
    odd = [
        "",
        " ",
        "\n\u200b",
        "e\u0301a\u200d b",
        "👨‍👩‍👧🇩🇪",
        "שלום Paris",
        "Paris " * 400,
        "東京 パリ",
        "a\r\nb",
    ]
    asked = pl.DataFrame(
        {"record_id": odd, "content_hash": [f"odd {place}" for place in range(len(odd))], "content": odd}
    )
    found = annotated(embedder, task, frame(task, places(*NAMES)), asked)
    assert [annotation.state for annotation in found] == ["labelled"] * len(odd)
    for text, annotation in zip(odd, found, strict=True):
        assert task.problem(annotation.label or "", Content.of_text(text)) is None


def test_one_type_and_single_units_are_enough_to_learn_from(embedder: Embedder) -> None:
    single = EntitiesTask(Entities(types={"word": "a word"}))
    shown = frame(single, [("Paris", [{"start": 0, "end": 5, "type": "word"}])])
    asked = frame(single, [("Oslo", [])]).with_columns(record_id=pl.lit("asked"))
    assert single.named(annotated(embedder, single, shown, asked)[0].label or "") == ["word"]


def test_real_entities_are_found_better_than_by_capitals(embedder: Embedder, task: EntitiesTask) -> None:
    rows, capitals = [], []
    for words, tags in sentences()[::6]:
        text, tokens = joined(words)
        rows.append((text, [asdict(span) for span in tagged_entities(tags, tokens)]))
        runs = ["I-person" if word.istitle() else "O" for word in words]
        capitals.append(spans_label(text, tagged_entities(runs, tokens)))
    records = frame(task, rows)
    shown, asked = records.gather_every(2), records.gather_every(2, 1)
    assert (shown.height, asked.height) == (150, 150)

    def strict_f1(labels: Sequence[str | None]) -> float:
        return task.measure(asked["label"].to_list(), labels)[0].value or 0.0

    found = strict_f1([annotation.label for annotation in annotated(embedder, task, shown, asked)])
    assert found > 0.25
    assert found > 1.5 * strict_f1(capitals[1::2])
