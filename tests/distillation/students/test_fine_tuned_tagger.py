"""The student for entities whose encoder learns too: trained, saved, read back, and beyond its window."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from annotation_pipelines.content import Content
from annotation_pipelines.distillation.embedding import Uncached
from annotation_pipelines.distillation.encoder import Encoder
from annotation_pipelines.distillation.fine_tuning.encoder import TrainableEncoder
from annotation_pipelines.distillation.fine_tuning.token_network import TokenNetwork
from annotation_pipelines.distillation.fine_tuning.token_windows import token_windows
from annotation_pipelines.distillation.students.base import Examples
from annotation_pipelines.distillation.students.files import read_model
from annotation_pipelines.distillation.students.fine_tuned_tagger import FineTunedTagger
from annotation_pipelines.distillation.tagging.words import units
from annotation_pipelines.distillation.training import train
from annotation_pipelines.errors import TrainingError
from annotation_pipelines.project import Distillation
from annotation_pipelines.tasks.entities import Entities, EntitiesTask
from annotation_pipelines.tasks.spans import labelled_spans
from tests.distillation.fine_tuning.tiny import write_encoder
from tests.distillation.students.scene import Scene, asked, examples

TASK = EntitiesTask(Entities(types=["animal", "weather"]))
FAST: dict[str, Any] = {"learning_rate": 5e-3, "head_learning_rate": 2e-2, "epochs": 5, "batch": 8, "max_tokens": 24}
KINDS = {"animal": ("cat", "dog", "bird"), "weather": ("storm", "rain", "flood")}
FILL = ("the", "a", "was on", "is in the", ".", "and")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("encoders") / "tiny")


def sentences(n: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """Texts with an animal or a kind of weather in each, and their labels."""
    generator = np.random.default_rng(seed)
    texts, labels = [], []
    for index in range(n):
        kind = ("animal", "weather")[index % 2]
        words = [*generator.choice(FILL, 2), str(generator.choice(KINDS[kind])), *generator.choice(FILL, 3)]
        text = " ".join(words)
        start = len(" ".join(words[:2])) + 1
        texts.append(text)
        span = {"start": start, "end": start + len(words[2]), "type": kind}
        labels.append(TASK.canonical(json.dumps([span]), Content.of_text(text)))
    return texts, labels


def config(**robust: object) -> Distillation:
    return Distillation.model_validate(
        {"student": "fine_tuned", "fine_tuning": FAST, "device": "cpu", "robust": robust}
    )


@pytest.fixture(scope="module")
def student(folder: Path) -> FineTunedTagger:
    return FineTunedTagger(TASK, config()).fit(examples(*sentences(60)), Uncached(Encoder(str(folder))))


def test_it_finds_what_it_learned_in_new_texts(student: FineTunedTagger, folder: Path) -> None:
    texts, labels = sentences(30, seed=1)
    said = student.predict(asked(texts), Uncached(Encoder(str(folder))))
    assert (TASK.measure(labels, said.labels)[0].value or 0) > 0.8
    assert [array.shape for array in said.probabilities] == [(len(units(text)), 3) for text in texts]
    assert all(array.sum(axis=1) == pytest.approx(np.ones(len(array))) for array in said.probabilities)
    assert ((said.confidence > 0) & (said.confidence < 1)).all()
    figures = student.figures()
    assert (figures["entities"], figures["validated_on"]) == (60, 20)


def test_entities_beyond_the_window_are_found_and_every_unit_is_read_once(
    student: FineTunedTagger, folder: Path
) -> None:
    dull = "and the was on . " * 15
    text = f"{dull}a the cat is in the . {dull}a the storm is in the . {dull}"
    encoder = TrainableEncoder.named(str(folder))
    windows = token_windows([text, "", "a dog"], [units(t) for t in (text, "", "a dog")], encoder, 24)
    assert max(windows.lengths) <= 24
    assert len(windows.ids) > 5
    owned = np.concatenate([np.unique(owners[owners >= 0]) for owners in windows.owners])
    assert sorted(owned.tolist()) == list(range(len(units(text)) + 2))
    said = student.predict(asked([text, ""]), Uncached(Encoder(str(folder))))
    found = {(span.of(text), span.type) for span in labelled_spans(said.labels[0])}
    assert {("cat", "animal"), ("storm", "weather")} <= found
    assert said.labels[1] == "[]"


def test_a_unit_of_several_tokens_has_the_mean_of_their_states(folder: Path) -> None:
    encoder = TrainableEncoder.named(str(folder))
    network = TokenNetwork(encoder, 7, device="cpu", precision="float32")
    text = "the cat and dogcat"
    windows = token_windows([text], [units(text)], encoder, 24)
    vectors = network.unit_vectors(windows, len(units(text)))
    import torch

    with torch.inference_mode():
        states = encoder.model(torch.tensor(windows.ids[0][None].astype(np.int64))).last_hidden_state[0].numpy()
    for unit in range(len(units(text))):
        mean = states[windows.owners[0] == unit].mean(axis=0)
        assert vectors[unit] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-5)


def test_the_same_seed_gives_the_same_student_and_weights_decide(folder: Path, student: FineTunedTagger) -> None:
    vectors = Uncached(Encoder(str(folder)))
    texts, labels = sentences(60)
    again = FineTunedTagger(TASK, config()).fit(examples(texts, labels), vectors)
    rows = asked(sentences(10, seed=2)[0])
    one, other = (s.predict(rows, vectors) for s in (student, again))
    assert one.labels == other.labels
    assert one.confidence == pytest.approx(other.confidence, abs=1e-6)
    with pytest.raises(TrainingError, match="expected entities"):
        FineTunedTagger(TASK, config()).fit(examples(texts, labels, weights=[0.0] * 60), vectors)


def test_what_is_doubted_teaches_less_and_switches_reach_its_units(folder: Path) -> None:
    texts, labels = sentences(50)
    silver = [place % 2 == 1 for place in range(50)]
    missed = ["[]" if one else label for one, label in zip(silver, labels, strict=True)]
    asked_about, truth = sentences(20, seed=3)

    def weather_found(weight: float, **robust: object) -> tuple[float, FineTunedTagger]:
        told = examples(
            texts, missed, gold=[not one for one in silver], weights=[weight if one else 1.0 for one in silver]
        )
        told = Examples(pl.concat([told.rows, examples(texts[1:8:2], labels[1:8:2]).rows]), told.audit)
        taught = FineTunedTagger(TASK, config(**robust)).fit(told, Uncached(Encoder(str(folder))))
        said = taught.predict(asked(asked_about), Uncached(Encoder(str(folder)))).labels
        named = [metric.value for metric in TASK.measure(truth, said) if metric.label == "weather"]
        return named[0] or 0.0, taught

    doubted, trusted = weather_found(0.02)[0], weather_found(1.0)[0]
    assert doubted > trusted
    figures = weather_found(0.5, reweight=True, label_smoothing=0.1)[1].figures()
    assert "reweighted_away" in figures


def test_through_the_store_and_back(folder: Path, tmp_path: Path) -> None:
    scene = Scene(
        tmp_path,
        {"entities": {"types": ["animal", "weather"]}},
        student="fine_tuned",
        encoder=str(folder),
        fine_tuning=FAST,
        device="cpu",
        min_labels=10,
    )
    texts, labels = sentences(40)
    rows = scene.add(texts)
    scene.trust(rows, labels)
    model = train(scene.store, scene.project, scene.embedder)
    written = [path for path in model.path.rglob("*") if path.is_file()]
    assert {path.suffix for path in written} <= {".json", ".md", ".parquet", ".safetensors"}
    assert {"head.safetensors", "model.safetensors"} <= {path.name for path in written}
    before = model.student.predict(asked(texts), Uncached(Encoder(str(folder))))
    read, _ = read_model(model.path, scene.project.task)
    after = read.predict(asked(texts), Uncached(Encoder(str(folder))))
    assert after.labels == before.labels
    assert after.confidence == pytest.approx(before.confidence, abs=1e-6)
