"""The student for entities: it learns from spans, finds them in others, and says how sure it is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from annotation_pipelines.content import Content
from annotation_pipelines.distillation.embedding import Uncached
from annotation_pipelines.distillation.encoder import Encoder
from annotation_pipelines.distillation.evaluate import evaluate
from annotation_pipelines.distillation.prediction import predict
from annotation_pipelines.distillation.students.files import read_model, write_model
from annotation_pipelines.distillation.students.registry import student_class
from annotation_pipelines.distillation.students.tagger import TaggerStudent, shares_of_say
from annotation_pipelines.distillation.tagging.held_out import Certainty
from annotation_pipelines.distillation.tagging.robust import robust_lessons
from annotation_pipelines.distillation.tagging.span_tagger import Lessons
from annotation_pipelines.distillation.tagging.text_units import TextUnits
from annotation_pipelines.distillation.training import train
from annotation_pipelines.errors import DeclarationError, TrainingError
from annotation_pipelines.project import Distillation, Robust
from annotation_pipelines.tasks.entities import Entities, EntitiesTask
from annotation_pipelines.tasks.spans import labelled_spans
from tests.distillation.fine_tuning.tiny import write_encoder
from tests.distillation.students.scene import Scene, asked, examples, part_content, source_rows

TYPES = ["corporation", "creative-work", "group", "location", "person", "product"]
TASK = EntitiesTask(Entities(types=dict.fromkeys(TYPES, "a name")))
VECTORS = Uncached(Encoder())


@cache
def sentences() -> tuple[list[str], list[str]]:
    """60 sentences of WNUT-17 of which half name something, with canonical labels."""
    rows = [row for row in source_rows("wnut17") if len(row["text"]) < 100]
    named, empty = ([row for row in rows if bool(row["entities"]) == there][:30] for there in (True, False))
    mixed = [row for pair in zip(named, empty, strict=True) for row in pair]
    texts = [row["text"] for row in mixed]
    labels = [TASK.canonical(json.dumps(row["entities"]), Content.of_text(row["text"])) for row in mixed]
    return texts, labels


@cache
def student() -> TaggerStudent:
    texts, labels = sentences()
    return TaggerStudent(TASK, Distillation()).fit(examples(texts[:40], labels[:40]), VECTORS)


def label(text: str, *entities: tuple[str, str]) -> str:
    spans = [{"start": text.index(name), "end": text.index(name) + len(name), "type": kind} for name, kind in entities]
    return TASK.canonical(json.dumps(spans), Content.of_text(text))


def places(*names: str) -> tuple[list[str], list[str]]:
    texts = [f"Yesterday Ms. Smith went to {name} by train" for name in names]
    return texts, [label(t, (n, "location"), ("Smith", "person")) for t, n in zip(texts, names, strict=True)]


NAMES = ["Paris", "New York", "Oslo", "Kyoto", "San Jose", "Lima", "Accra", "Turin", "Bern", "Hanoi", "Riga", "Split"]


def test_what_it_says_is_canonical_and_its_probabilities_are_of_words() -> None:
    texts, _ = sentences()
    said = student().predict(asked(texts[40:]), VECTORS)
    assert len(said.labels) == len(said.probabilities) == 20
    for text, given, units in zip(texts[40:], said.labels, said.probabilities, strict=True):
        assert TASK.problem(given, Content.of_text(text)) is None
        assert units.shape[1] == 1 + len(TYPES)
        assert units.sum(axis=1) == pytest.approx(np.ones(len(units)))
    assert ((said.confidence > 0) & (said.confidence < 1)).all()


def test_it_finds_what_it_learned_and_is_surer_where_nothing_is_new() -> None:
    texts, labels = sentences()
    again = student().predict(asked(texts[:40]), VECTORS)
    assert (TASK.measure(labels[:40], again.labels)[0].value or 0) > 0.8
    new = TaggerStudent(TASK, Distillation()).fit(examples(*places(*NAMES)), VECTORS)
    easy = "Yesterday Ms. Smith went to Lagos by train"
    [known, odd] = new.predict(
        asked([easy, "Smith & Sons of Riga sold Oslo Blue to Mr. Kyoto in Bern"]), VECTORS
    ).confidence
    assert labelled_spans(new.predict(asked([easy]), VECTORS).labels[0]) == labelled_spans(
        label(easy, ("Lagos", "location"), ("Smith", "person"))
    )
    assert known > odd


def test_it_is_saved_as_data_and_says_the_same_when_it_is_read(tmp_path: Path) -> None:
    texts, labels = sentences()
    rows = examples(texts[:40], labels[:40]).rows
    write_model(student(), {}, rows, tmp_path / "model")
    assert sorted(path.suffix for path in (tmp_path / "model").iterdir()) == [".json", ".parquet", ".safetensors"]
    read, _ = read_model(tmp_path / "model", TASK)
    before, after = (one.predict(asked(texts), VECTORS) for one in (student(), read))
    assert before.labels == after.labels
    assert before.confidence == pytest.approx(after.confidence)
    assert read.figures() == student().figures()
    card = (tmp_path / "model" / "card.json").read_text()
    assert not any(span.of(texts[0]) in card for span in labelled_spans(labels[0]))


def test_the_same_examples_give_the_same_student() -> None:
    texts, labels = sentences()
    again = TaggerStudent(TASK, Distillation()).fit(examples(texts[:40], labels[:40]), VECTORS)
    one, other = (s.predict(asked(texts[40:]), VECTORS) for s in (student(), again))
    assert one.labels == other.labels
    assert one.confidence == pytest.approx(other.confidence)


def test_weights_decide_what_silver_teaches() -> None:
    texts, labels = places(*NAMES)
    wrong = ["[]"] * len(texts)
    doubted = examples(texts + texts, labels + wrong, gold=[False] * 24, weights=[1.0] * 12 + [0.05] * 12)
    trusted = examples(texts + texts, labels + wrong, gold=[False] * 24, weights=[0.05] * 12 + [1.0] * 12)
    seen = ["Yesterday Ms. Smith went to Lagos by train"]
    one, other = (
        TaggerStudent(TASK, Distillation()).fit(given, VECTORS).predict(asked(seen), VECTORS).labels[0]
        for given in (doubted, trusted)
    )
    assert len(labelled_spans(one)) == 2
    assert other == "[]"


def test_entities_far_beyond_the_window_are_found() -> None:
    texts, labels = places(*NAMES)
    dull = "it was cold and the road was long and nothing was said . "
    taught = TaggerStudent(TASK, Distillation()).fit(examples([*texts, dull * 2], [*labels, "[]"]), VECTORS)
    far = dull * 40 + texts[0]
    spans = labelled_spans(taught.predict(asked([far]), VECTORS).labels[0])
    assert [span.of(far) for span in spans if span.start > 2_000] == ["Smith", "Paris"]


def test_a_record_without_the_part_has_no_entities_and_no_confidence() -> None:
    task = EntitiesTask(Entities(types=["location", "person"], part="body"))
    texts, labels = places(*NAMES[:6])
    contents = [part_content(title="t", body=text) for text in texts]
    taught = TaggerStudent(task, Distillation()).fit(examples(contents, labels), VECTORS)
    said = taught.predict(asked([contents[0], part_content(title="only this", other="x"), ""]), VECTORS)
    assert labelled_spans(said.labels[0])
    assert said.labels[1:] == ["[]", "[]"]
    assert said.confidence[1:].tolist() == [0.0, 0.0]


def test_nested_gold_teaches_its_longest_entities_side_by_side() -> None:
    task = EntitiesTask(Entities(types=["location", "group"], nested=True))
    texts = [f"she works for the {name} University team" for name in NAMES]
    labels = []
    for text, name in zip(texts, NAMES, strict=True):
        start = text.index(name)
        spans = [
            {"start": start, "end": start + len(name), "type": "location"},
            {"start": start, "end": start + len(name) + len(" University"), "type": "group"},
        ]
        labels.append(task.canonical(json.dumps(spans), Content.of_text(text)))
    taught = TaggerStudent(task, Distillation()).fit(examples(texts, labels), VECTORS)
    [given] = taught.predict(asked(["she works for the Lagos University team"]), VECTORS).labels
    assert [(span.type, span.start) for span in labelled_spans(given)] == [("group", 18)]


def test_without_entities_there_is_nothing_to_learn() -> None:
    texts, _ = sentences()
    with pytest.raises(TrainingError, match="expected entities to learn from"):
        TaggerStudent(TASK, Distillation()).fit(examples(texts[:20], ["[]"] * 20), VECTORS)


@pytest.mark.parametrize("robust", [{"soft_labels": "scores"}, {"soft_labels": "none", "co_teaching": True}])
def test_what_does_not_apply_to_entities_is_refused(robust: dict[str, object]) -> None:
    texts, labels = places(*NAMES)
    config = Distillation.model_validate({"robust": robust})
    with pytest.raises(DeclarationError, match="does not apply to task: entities"):
        TaggerStudent(TASK, config).fit(examples(texts, labels), VECTORS)


def misled(names: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """Texts with people's labels, and those of a teacher that takes each place for a group."""
    texts, labels = places(*names)
    wrong = [label(t, (n, "group"), ("Smith", "person")) for t, n in zip(texts, names, strict=True)]
    return texts, labels, wrong


@pytest.mark.parametrize(
    "robust", [{"soft_labels": "corrected"}, {"weights": "audit", "soft_labels": "corrected", "label_smoothing": 0.1}]
)
def test_what_people_say_of_the_teacher_corrects_its_types(robust: dict[str, object]) -> None:
    texts, labels, wrong = misled(NAMES)
    audit = pl.DataFrame({"content_hash": texts, "content": texts, "label": labels, "given": wrong})
    silver = [False] * len(texts)
    lost = ["Yesterday Ms. Smith went to Lagos by train"]

    def types(config: Distillation, checked: pl.DataFrame | None) -> list[str]:
        taught = TaggerStudent(TASK, config).fit(examples(texts, wrong, gold=silver, audit=checked), VECTORS)
        return [span.type for span in labelled_spans(taught.predict(asked(lost), VECTORS).labels[0])]

    config = Distillation.model_validate({"robust": robust})
    plain = Distillation.model_validate({"robust": {"soft_labels": "none"}})
    assert types(plain, audit) == types(config, None) == ["person", "group"]
    assert types(config, audit) == ["person", "location"]


@pytest.mark.parametrize("switch", [{"reweight": True}, {"prune": "confident_learning"}])
def test_words_whose_tag_contradicts_gold_weigh_less_than_the_others_of_their_text(switch: dict[str, object]) -> None:
    texts, labels = places(*NAMES)
    missed = [label(text, ("Smith", "person")) for text in texts[:4]]
    others = [text.replace("Yesterday", "Today") for text in texts]
    truth = [label(t, (n, "location"), ("Smith", "person")) for t, n in zip(others, NAMES, strict=True)]
    given = [labelled_spans(one) for one in [*missed, *labels[4:], *truth]]
    lessons = Lessons.of(TextUnits.read(VECTORS.encoder, [*texts, *others], dtype=np.float16), given)
    gold = np.repeat([False, True], 12)
    groups = [str(place) for place in range(24)]
    made, figures = robust_lessons(lessons, gold, groups, [], Robust.model_validate(switch), seed=0)
    starts = lessons.units.starts
    wrong = np.concatenate([starts[row] + 6 + np.arange(len(NAMES[row].split())) for row in range(4)])
    right = np.setdiff1d(np.arange(starts[12]), wrong)
    assert made.weights[wrong].mean() < 0.5 * made.weights[right].mean()
    assert (made.weights[starts[12] :] == 1).all()
    assert figures


def test_gold_and_silver_have_half_of_the_say_each() -> None:
    say = shares_of_say(np.array([True, False, False]), np.array([1.0, 0.5, 0.5]), np.array([0, 1, 2]))
    assert say.tolist() == [0.5, 0.25, 0.25]
    assert shares_of_say(np.array([True, False]), np.array([1.0, 1.0]), np.array([1])).tolist() == [0.0, 1.0]


def test_certainty_is_put_right_by_what_turned_out_right() -> None:
    stated = np.log(np.full(400, 0.9))
    right = np.concatenate([np.ones(200), np.zeros(200)])
    assert Certainty.learn(stated, right, np.ones(400)).of(stated)[0] == pytest.approx(0.5, abs=0.02)
    assert Certainty().of(np.log(np.array([0.9])))[0] == pytest.approx(0.9)
    nothing = np.zeros(0)
    assert Certainty.learn(nothing, nothing, nothing) == Certainty()


def test_it_is_the_student_of_the_task_from_labels_to_predictions(tmp_path: Path) -> None:
    texts, labels = sentences()
    tiny = str(write_encoder(tmp_path / "tiny"))
    scene = Scene(tmp_path, {"entities": {"types": dict.fromkeys(TYPES, "a name")}}, encoder=tiny, min_labels=20)
    assert student_class(scene.project.task, None) is TaggerStudent
    rows = scene.add(texts)
    scene.trust(rows[:40], labels[:40])
    scene.hold_out(rows[40:], labels[40:])
    model = train(scene.store, scene.project, scene.embedder)
    assert (model.trained, model.silver + model.leaked) == (True, 40)
    assert not train(scene.store, scene.project, scene.embedder).trained
    evaluation = evaluate(scene.store, scene.project, scene.embedder)
    assert evaluation.champion == model.version
    assert evaluation.value(model.version, "f1") is not None
    assert predict(scene.store, scene.project, scene.embedder).predictions == 60
    given = scene.store.query("SELECT label, content FROM predictions JOIN records USING (record_id)")
    assert all(scene.project.task.problem(label, Content.of_text(text)) is None for label, text in given.iter_rows())
    assert any(label != "[]" for label in given["label"])


def test_japanese_is_read_by_characters(tmp_path: Path) -> None:
    rows = source_rows("ner_wikipedia_ja")[:30]
    types = sorted({entity["type"] for row in rows for entity in row["entities"]})
    task = EntitiesTask(Entities(types=types))
    texts = [row["text"] for row in rows]
    labels = [task.canonical(json.dumps(r["entities"]), Content.of_text(r["text"])) for r in rows]
    taught = TaggerStudent(task, Distillation()).fit(examples(texts[:22], labels[:22]), VECTORS)
    found = task.measure(labels[22:], taught.predict(asked(texts[22:]), VECTORS).labels)
    assert {metric.metric: metric.value for metric in found}["partial_f1"] > 0.3
