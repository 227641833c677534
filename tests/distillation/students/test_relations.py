"""The student of relations: it reads pairs as they stand in the text, and the default encoder tells causes apart."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from annotation_pipelines.content import Content
from annotation_pipelines.distillation import pair_features
from annotation_pipelines.distillation.embedding import Uncached
from annotation_pipelines.distillation.encoder import Encoder
from annotation_pipelines.distillation.pair_features import cut
from annotation_pipelines.distillation.students.base import Examples
from annotation_pipelines.distillation.students.files import read_model
from annotation_pipelines.distillation.students.registry import student_class
from annotation_pipelines.distillation.students.relations import RelationStudent
from annotation_pipelines.distillation.training import train
from annotation_pipelines.errors import TrainingError
from annotation_pipelines.project import Distillation
from annotation_pipelines.tasks.marked_pair import MarkedPair
from annotation_pipelines.tasks.relations import Relations
from tests.distillation.fine_tuning.tiny import write_encoder
from tests.distillation.students.scene import Scene

TYPES = {"Cause-Effect": "", "Content-Container": ""}
TASK = Relations(types=TYPES).make()
THINGS = ("storm", "virus", "leak", "strike", "spark", "rumour", "drought", "mistake")
EFFECTS = ("damage", "fever", "flood", "delay", "fire", "panic", "famine", "loss")
BOXES = ("box", "drawer", "bottle", "jar", "bag", "chest", "tin", "basket")
TAUGHT = [
    sentence
    for thing, effect, box in list(zip(THINGS, EFFECTS, BOXES, strict=True))[:6]
    for sentence in (
        (f"The <e1>{thing}</e1> caused the <e2>{effect}</e2>.", "Cause-Effect(e1,e2)"),
        (f"The <e1>{effect}</e1> was caused by the <e2>{thing}</e2>.", "Cause-Effect(e2,e1)"),
        (f"There was a <e1>coin</e1> inside the <e2>{box}</e2>.", "Content-Container(e1,e2)"),
        (f"The <e1>{thing}</e1> and the <e2>{box}</e2> were seen.", "Other"),
    )
]
ASKED = [
    ("The <e1>mistake</e1> caused the <e2>loss</e2>.", "Cause-Effect(e1,e2)"),
    ("The <e1>famine</e1> was caused by the <e2>drought</e2>.", "Cause-Effect(e2,e1)"),
    ("There was a <e1>key</e1> inside the <e2>basket</e2>.", "Content-Container(e1,e2)"),
    ("The <e1>drought</e1> and the <e2>tin</e2> were seen.", "Other"),
]


def frame(sentences: list[tuple[str, str]], **columns: object) -> pl.DataFrame:
    rows = pl.DataFrame(
        {
            "record_id": [f"r{place}" for place in range(len(sentences))],
            "content_hash": [text for text, _ in sentences],
            "content": [text for text, _ in sentences],
            "label": [label for _, label in sentences],
        }
    )
    return rows.with_columns(
        origin=pl.lit("gold"), weight=pl.lit(1.0), **{name: pl.lit(value) for name, value in columns.items()}
    )


def renamed(text: str) -> str:
    """The same text with e1 called e2, and the other way round."""
    return text.replace("e1>", "e0>").replace("e2>", "e1>").replace("e0>", "e2>")


@pytest.fixture(scope="module")
def vectors() -> Uncached:
    return Uncached(Encoder())


@pytest.fixture(scope="module")
def student(vectors: Uncached) -> RelationStudent:
    return RelationStudent(TASK, Distillation()).fit(Examples.of(frame(TAUGHT)), vectors)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Uncached:
    return Uncached(Encoder(str(write_encoder(tmp_path_factory.mktemp("tiny") / "encoder"))))


def test_new_sentences_get_the_relation_that_stands_between_their_mentions(
    student: RelationStudent, vectors: Uncached
) -> None:
    said = student.predict(frame(ASKED), vectors)
    assert said.labels == [label for _, label in ASKED]
    assert np.allclose(np.asarray(said.probabilities).sum(axis=1), 1)
    assert np.allclose(said.confidence, np.asarray(said.probabilities).max(axis=1))


def test_names_of_the_mentions_turn_the_direction_and_change_nothing_else(
    student: RelationStudent, vectors: Uncached
) -> None:
    there = student.predict(frame(ASKED), vectors)
    back = student.predict(frame([(renamed(text), label) for text, label in ASKED]), vectors)
    assert back.labels == [student.swapped(label) for label in there.labels]
    assert back.labels[:2] == ["Cause-Effect(e2,e1)", "Cause-Effect(e1,e2)"]
    assert np.array_equal(back.confidence, there.confidence)


def test_pairs_whose_second_mention_comes_first_teach_the_same(student: RelationStudent, vectors: Uncached) -> None:
    turned = [
        (renamed(text), student.swapped(label)) if place % 3 == 0 else (text, label)
        for place, (text, label) in enumerate(TAUGHT)
    ]
    other = RelationStudent(TASK, Distillation()).fit(Examples.of(frame(turned)), vectors)
    assert other.predict(frame(ASKED), vectors).labels == student.predict(frame(ASKED), vectors).labels


def test_what_the_teacher_says_is_turned_with_the_label(vectors: Uncached) -> None:
    student = RelationStudent(TASK, Distillation())
    scores = json.dumps({"Cause-Effect(e1,e2)": 0.75, "Other": 0.25})
    rows = frame([(renamed(TAUGHT[0][0]), "Cause-Effect(e2,e1)"), TAUGHT[1]], scores=scores)
    turned = student._in_text_order(rows)
    assert turned["label"].to_list() == ["Cause-Effect(e1,e2)", "Cause-Effect(e2,e1)"]
    assert json.loads(turned["scores"][0]) == {"Cause-Effect(e2,e1)": 0.75, "Other": 0.25}
    assert json.loads(turned["scores"][1]) == json.loads(scores)


def test_an_undirected_relation_has_no_direction_to_turn(tiny: Uncached) -> None:
    task = Relations(types=TYPES, directed=False).make()
    taught = [(text, label.split("(")[0]) for text, label in TAUGHT]
    student = RelationStudent(task, Distillation()).fit(Examples.of(frame(taught)), tiny)
    asked = frame([(renamed(text), label) for text, label in taught])
    assert student.predict(asked, tiny).labels == student.predict(frame(taught), tiny).labels
    assert set(student.head.classes_) == {"Cause-Effect", "Content-Container", "Other"}


def test_a_text_without_marks_is_not_known_and_teaches_nothing(student: RelationStudent, vectors: Uncached) -> None:
    rows = frame([*ASKED, ("No marks at all.", "Other")])
    said = student.predict(rows, vectors)
    probabilities = np.asarray(said.probabilities)
    assert np.allclose(probabilities[-1], 1 / probabilities.shape[1])
    assert said.labels[:-1] == [label for _, label in ASKED]
    with pytest.raises(TrainingError, match="mark a pair with <e1> and <e2>"):
        RelationStudent(TASK, Distillation()).fit(Examples.of(frame([("No marks.", "Other")])), vectors)


def test_training_is_reproducible_and_what_is_saved_predicts_the_same(tiny: Uncached, tmp_path: Path) -> None:
    examples = Examples.of(frame(TAUGHT))
    one = RelationStudent(TASK, Distillation(seed=3)).fit(examples, tiny)
    two = RelationStudent(TASK, Distillation(seed=3)).fit(examples, tiny)
    loaded = RelationStudent(TASK, Distillation(seed=3)).load(tmp_path, one.save(tmp_path))
    expected = np.asarray(one.predict(frame(ASKED), tiny).probabilities)
    assert np.array_equal(np.asarray(two.predict(frame(ASKED), tiny).probabilities), expected)
    assert np.array_equal(np.asarray(loaded.predict(frame(ASKED), tiny).probabilities), expected)
    assert loaded.figures() == one.figures()


def test_features_do_not_depend_on_what_stands_beside_them_or_was_asked_before(
    tiny: Uncached, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = [TASK.pair(Content.read(text)) for text, _ in TAUGHT]  # type: ignore[attr-defined]
    together = pair_features.pair_features(tiny.encoder, pairs)
    again = pair_features.pair_features(tiny.encoder, pairs[::-1])[::-1]
    monkeypatch.setattr(pair_features, "_memory", type(pair_features._memory)())
    apart = np.concatenate([pair_features.pair_features(tiny.encoder, [pair]) for pair in pairs])
    assert np.array_equal(together, again)
    assert np.allclose(together, apart, atol=1e-5)
    assert together.shape == (len(pairs), 3 * tiny.encoder.dimension + 2048)


def test_no_more_pairs_are_remembered_than_allowed(tiny: Uncached, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair_features, "_memory", type(pair_features._memory)())
    monkeypatch.setattr(pair_features, "_REMEMBERED", 5)
    pairs = [TASK.pair(Content.read(text)) for text, _ in TAUGHT]  # type: ignore[attr-defined]
    first = pair_features.pair_features(tiny.encoder, pairs)
    assert len(pair_features._memory) == 5
    assert np.allclose(pair_features.pair_features(tiny.encoder, pairs), first, atol=1e-5)


@pytest.mark.parametrize("between", [20, 5_000])
def test_both_mentions_of_a_long_text_are_read(between: int) -> None:
    before, gap, after = "x" * 3_000, " y" * (between // 2), "z" * 3_000
    pair = MarkedPair.read(f"{before} <e2>first</e2>{gap} <e1>second</e1> {after}")
    text, (first, middle, second) = cut(pair)
    assert (text[slice(*first)], text[slice(*second)]) == ("first", "second")
    assert text[slice(*middle)].replace(" ", "").strip("y") == ""
    assert len(text) < 2_000


def test_a_mention_within_the_other_is_read(tiny: Uncached) -> None:
    pair = MarkedPair.read("the <e1>storm <e2>damage</e2></e1> of the flood")
    text, spans = cut(pair)
    assert [text[slice(*span)] for span in spans] == ["storm damage", "", "damage"]
    assert np.isfinite(pair_features.pair_features(tiny.encoder, [pair])).all()


def test_a_project_of_relations_trains_this_student_and_reads_it_back(tmp_path: Path) -> None:
    encoder = write_encoder(tmp_path / "encoder")
    scene = Scene(tmp_path, {"relations": {"types": TYPES}}, encoder=str(encoder))
    rows = scene.add([text for text, _ in TAUGHT])
    scene.trust(rows, [label for _, label in TAUGHT])
    model = train(scene.store, scene.project, scene.embedder)
    student, card = read_model(model.path, scene.project.task)
    assert student_class(scene.project.task, None) is RelationStudent
    assert isinstance(student, RelationStudent)
    assert (card["student"], card["silver"]) == ("linear", len(TAUGHT))
    expected = np.asarray(model.student.predict(rows, scene.embedder).probabilities)
    assert np.array_equal(np.asarray(student.predict(rows, scene.embedder).probabilities), expected)


def test_confusions_turn_silver_labels_that_the_teacher_gets_wrong_in_one_way(vectors: Uncached) -> None:
    gold = frame(TAUGHT[:16])
    wrong = {"Cause-Effect(e1,e2)": "Cause-Effect(e2,e1)", "Cause-Effect(e2,e1)": "Cause-Effect(e1,e2)"}
    silver = frame([(text, wrong.get(label, label)) for text, label in TAUGHT[16:]]).with_columns(
        origin=pl.lit("silver"), weight=pl.lit(0.9)
    )
    audit = gold.select(
        "content_hash", "content", "label", given=pl.col("label").replace(wrong), confidence=pl.lit(0.9)
    )
    robust = {"soft_labels": "confusion"}
    student = RelationStudent(TASK, Distillation.model_validate({"robust": robust}))
    student.fit(Examples.of(pl.concat([gold, silver]), audit), vectors)
    assert student.predict(frame(ASKED), vectors).labels == [label for _, label in ASKED]
    assert student.figures()["relabelled"] == sum(label in wrong for _, label in TAUGHT[16:])
