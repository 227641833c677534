"""A student whose encoder learns too: through the store and back, for labels and for marked pairs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from annotation_pipelines.content import Content
from annotation_pipelines.distillation.embedding import Embedder, Uncached
from annotation_pipelines.distillation.encoder import Encoder
from annotation_pipelines.distillation.prediction import load_model
from annotation_pipelines.distillation.registry import ModelRegistry
from annotation_pipelines.distillation.students.base import Examples
from annotation_pipelines.distillation.students.files import read_model
from annotation_pipelines.distillation.students.fine_tuned import FineTunedStudent
from annotation_pipelines.distillation.training import train
from annotation_pipelines.errors import DeclarationError, StoreCorrupted, TrainingError
from annotation_pipelines.project import Declaration, Distillation, Project
from annotation_pipelines.store.database import Store
from annotation_pipelines.tasks.classification import Classification
from annotation_pipelines.tasks.given_relations import GivenRelationsTask
from tests.distillation.fine_tuning.tiny import write_encoder
from tests.distillation.stars import NOW

LABELS = Classification(labels=["weather", "sky"]).make()
PAIRS = GivenRelationsTask(types={"Cause": ""}, none="Other", none_description="", directed=True, part=None)
FAST: dict[str, Any] = {"learning_rate": 5e-3, "head_learning_rate": 2e-2, "epochs": 4, "batch": 8, "max_tokens": 24}
KINDS = {"weather": ("storm", "rain", "flood"), "sky": ("sun", "moon", "star")}
CAUSES, EFFECTS, OTHERS = ("storm", "fire", "rain"), ("damage", "smoke", "flood"), ("cat", "dog", "bird")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("encoders") / "tiny")


def rows(texts: list[tuple[str, str]], *, origin: str = "gold", weight: float = 1.0) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "record_id": [f"{origin}{index}" for index in range(len(texts))],
            "content_hash": [f"{origin}{index}" for index in range(len(texts))],
            "content": [text for text, _ in texts],
            "label": [label for _, label in texts],
            "origin": [origin] * len(texts),
            "weight": [weight] * len(texts),
        }
    )


def sentences(n: int, seed: int = 0) -> list[tuple[str, str]]:
    """Texts whose kind one of their words tells."""
    generator = np.random.default_rng(seed)
    fill = ("the cat", "a dog and", "was on", "is in the", ".")
    drawn = [("weather", "sky")[index % 2] for index in range(n)]
    return [
        (f"{generator.choice(fill)} {generator.choice(KINDS[kind])} {' '.join(generator.choice(fill, 3))}", kind)
        for kind in drawn
    ]


def pairs(n: int, seed: int = 0) -> list[tuple[str, str]]:
    """Marked texts whose direction only the marks tell."""
    generator = np.random.default_rng(seed)
    found = []
    for index in range(n):
        cause, effect, other = (generator.choice(words) for words in (CAUSES, EFFECTS, OTHERS))
        label, e1, e2 = (
            ("Cause(e1,e2)", cause, effect),
            ("Cause(e2,e1)", effect, cause),
            ("Other", other, generator.choice(OTHERS)),
        )[index % 3]
        found.append((f"the {other} on <e1>{e1}</e1> of the {cause} and <e2>{e2}</e2> .", label))
    return found


def student(task: Any, *, seed: int = 0, robust: dict[str, Any] | None = None, **tuning: Any) -> FineTunedStudent:
    config = Distillation(seed=seed, fine_tuning={**FAST, **tuning}, robust=robust or {}, device="cpu")
    return FineTunedStudent(task, config)


def fit(task: Any, frame: pl.DataFrame, folder: Path, **how: Any) -> FineTunedStudent:
    return student(task, **how).fit(Examples.of(frame), Uncached(Encoder(str(folder))))


def agreement(found: FineTunedStudent, folder: Path, texts: list[tuple[str, str]]) -> float:
    said = found.predict(rows(texts).select("content_hash", "content"), Uncached(Encoder(str(folder))))
    return float(np.mean([label == truth for label, (_, truth) in zip(said.labels, texts, strict=True)]))


def project_of(folder: Path, encoder: Path, task: dict[str, Any], **fine_tuning: Any) -> tuple[Store, Project]:
    declaration = {
        "source": {"csv": "records.csv", "gold": "label"},
        "task": task,
        "distillation": {
            "student": "fine_tuned",
            "encoder": str(encoder),
            "fine_tuning": {**FAST, **fine_tuning},
            "device": "cpu",
        },
    }
    return Store(folder / "store"), Project("tuned", folder, Declaration.model_validate(declaration))


def trust(store: Store, frame: pl.DataFrame) -> None:
    known = {"partition_key": pl.lit("all"), "first_seen": pl.lit(NOW), "updated_at": pl.lit(NOW)}
    with store.transaction() as con:
        store.append(con, "records", frame.select("record_id", "content_hash", "content").with_columns(**known))
        trusted = frame.drop("content").with_columns(partition_key=pl.lit("all"), trusted_at=pl.lit(NOW))
        store.upsert(con, "trusted_labels", trusted)


@pytest.mark.parametrize("objective", ["cross_entropy", "contrastive"])
def test_a_project_trains_it_keeps_it_as_data_and_predicts_with_it(
    folder: Path, tmp_path: Path, objective: str
) -> None:
    task = {"classification": {"labels": ["weather", "sky"]}}
    store, project = project_of(tmp_path, folder, task, objective=objective)
    trust(store, rows(sentences(80), origin="silver", weight=0.9))
    embedder = Embedder.for_project(project, store)
    told: list[tuple[int, int]] = []
    model = train(store, project, embedder, progress=lambda done, total: told.append((done, total)))
    assert told[-1][0] == told[-1][1]
    written = {path.suffix for path in model.path.rglob("*") if path.is_file()}
    assert written <= {".json", ".md", ".parquet", ".safetensors"}

    registry = ModelRegistry(store)
    row = registry.get(model.version)
    assert row.student == "fine_tuned"
    ready = load_model(registry, row, project.task, embedder)
    fresh = rows(sentences(40, seed=1)).select("content_hash", "content")
    said, again = model.student.predict(fresh, embedder), ready.predict(fresh)
    assert again.labels == said.labels
    np.testing.assert_allclose(again.confidence, said.confidence, atol=1e-6)
    assert np.mean([label == truth for label, (_, truth) in zip(said.labels, sentences(40, 1), strict=True)]) > 0.9
    assert not train(store, project, embedder).trained
    assert ready.student.figures() == model.student.figures()


def test_only_the_marks_tell_the_direction_and_it_learns_it(folder: Path) -> None:
    found = fit(PAIRS, rows(pairs(120)), folder, epochs=8)
    assert agreement(found, folder, pairs(60, seed=1)) > 0.9
    assert found.figures()["best_epoch"] != 0


def test_a_text_without_marks_is_answered_without_confidence(folder: Path) -> None:
    found = fit(PAIRS, rows(pairs(60)), folder, epochs=1)
    frame = pl.DataFrame({"content_hash": ["a", "b"], "content": ["no marks", pairs(1)[0][0]]})
    said = found.predict(frame, Uncached(Encoder(str(folder))))
    assert said.labels[0] in PAIRS.labels
    assert said.confidence[0] == pytest.approx(1 / 3)
    assert said.confidence[1] > said.confidence[0]


def test_the_same_seed_gives_the_same_student_and_leaves_other_draws_alone(folder: Path) -> None:
    import torch

    frame = rows(sentences(60), origin="silver", weight=0.8)
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    found = [fit(LABELS, frame, folder, epochs=2, seed=seed).network.state() for seed in (1, 1, 2)]
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())
    assert not all(torch.equal(value, found[2][name]) for name, value in found[0].items())


def test_a_row_is_labelled_alike_wherever_it_stands(folder: Path) -> None:
    found = fit(LABELS, rows(sentences(60)), folder, epochs=1)
    frame = rows([*sentences(30, seed=2), ("", "sky"), ("sun " * 500, "sky")])
    vectors = Uncached(Encoder(str(folder)))
    told: list[tuple[int, int]] = []
    together = found.predict(frame, vectors, lambda done, total: told.append((done, total)))
    alone = [found.predict(frame[index], vectors) for index in range(frame.height)]
    assert told == [(32, 32)]
    assert isinstance(together.probabilities, np.ndarray)
    np.testing.assert_allclose(
        together.probabilities, np.concatenate([each.probabilities for each in alone]), atol=1e-5
    )
    np.testing.assert_allclose(together.probabilities.sum(axis=1), 1)
    np.testing.assert_array_equal(together.confidence, together.probabilities.max(axis=1))
    assert found.predict(frame[:0], vectors).labels == []


def test_contents_of_several_parts_are_read_as_people_read_them(folder: Path) -> None:
    found = fit(LABELS, rows(sentences(60)), folder, epochs=1)
    contents = [Content.of_parts({"title": "the cat", "body": text}) for text, _ in sentences(9, seed=1)]
    stored, text = (
        found.predict(pl.DataFrame({"content_hash": texts, "content": texts}), Uncached(Encoder(str(folder))))
        for texts in ([content.stored for content in contents], [content.text for content in contents])
    )
    np.testing.assert_array_equal(stored.confidence, text.confidence)
    assert stored.labels == text.labels


def doubtful() -> pl.DataFrame:
    """Silver labels of which a sixth is wrong, one way, and some gold ones."""
    silver = sentences(90, seed=3)
    wrong = [(text, "sky" if index % 3 == 0 else label) for index, (text, label) in enumerate(silver)]
    return pl.concat([rows(wrong, origin="silver", weight=0.7), rows(sentences(48, seed=4))])


@pytest.mark.parametrize(
    "robust",
    [{"reweight": True}, {"co_teaching": True}, {"label_smoothing": 0.2}],
    ids=lambda robust: next(iter(robust)),
)
def test_it_withstands_wrong_silver_labels(folder: Path, robust: dict[str, Any]) -> None:
    # Learned weights swing with the classes: they want smaller steps.
    tuning = {"learning_rate": 2e-3, "head_learning_rate": 5e-3, "epochs": 6, "patience": 6, "batch": 12}
    found = fit(LABELS, doubtful(), folder, robust=robust, **tuning)
    assert found.figures()["best_epoch"] != 0
    assert agreement(found, folder, sentences(60, seed=5)) > 0.9


def test_two_networks_may_learn_weights_too(folder: Path) -> None:
    found = fit(LABELS, doubtful(), folder, robust={"reweight": True, "co_teaching": True}, epochs=1)
    assert found.figures()["epochs"] == 1
    assert agreement(found, folder, sentences(60, seed=5)) > 0.6


def test_weights_are_not_learned_without_gold(folder: Path) -> None:
    frame = rows(sentences(60), origin="silver")
    with pytest.raises(TrainingError, match="expected gold labels to learn weights by, found none"):
        fit(LABELS, frame, folder, robust={"reweight": True})


def test_few_labels_are_all_learned_from(folder: Path) -> None:
    for objective in ("cross_entropy", "contrastive"):
        found = fit(LABELS, rows(sentences(24)), folder, objective=objective, epochs=6, batch=4)
        assert (found.figures()["validated_on"], found.figures()["best_epoch"]) == (0, 6)
        assert agreement(found, folder, sentences(24)) > 0.9


def test_one_class_teaches_nothing(folder: Path) -> None:
    with pytest.raises(TrainingError, match="two classes or more to train on, found sky"):
        fit(LABELS, rows([(text, "sky") for text, _ in sentences(30)]), folder)


def test_an_encoder_that_cannot_be_loaded_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match=r"distillation: encoder: the sentence encoder .* cannot be loaded"):
        fit(LABELS, rows(sentences(30)), tmp_path)


def test_a_damaged_file_is_found(folder: Path, tmp_path: Path) -> None:
    store, project = project_of(tmp_path, folder, {"classification": {"labels": ["weather", "sky"]}}, epochs=1)
    trust(store, rows(sentences(40)))
    path = train(store, project, Embedder.for_project(project, store)).path
    weights = path / "encoder" / "model.safetensors"
    whole = weights.read_bytes()
    for damaged in (whole[:-4], whole[:-4] + bytes(byte ^ 1 for byte in whole[-4:])):
        weights.write_bytes(damaged)
        with pytest.raises(StoreCorrupted, match="the model cannot be read"):
            read_model(path, project.task)
    weights.write_bytes(whole)
    student_, _ = read_model(path, project.task)
    assert student_.own_encoder


def test_importing_it_costs_no_heavy_package() -> None:
    code = (
        "import sys, annotation_pipelines.distillation.students.fine_tuned\n"
        "print({'torch', 'transformers', 'sentence_transformers', 'scipy', 'safetensors'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "set()", done.stderr
