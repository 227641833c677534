"""The static student: it learns, and its folder is all that it needs to predict."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from annotation_pipelines.distillation.embedding import Embedder, Uncached
from annotation_pipelines.distillation.encoder import Encoder
from annotation_pipelines.distillation.students.base import Examples
from annotation_pipelines.distillation.students.files import read_model, write_model
from annotation_pipelines.distillation.students.registry import student_class
from annotation_pipelines.tasks.classification import Classification
from tests.distillation.fine_tuning.tiny import write_encoder

WORDS = {"pets": ["cat", "dog", "bird"], "sky": ["sun", "moon", "star"]}


def frame(n: int) -> pl.DataFrame:
    rows = []
    for number in range(n):
        label = ("pets", "sky")[number % 2]
        word = WORDS[label][number % 3]
        rows.append((f"r{number}", f"h{number}", f"the {word} was {'abcdefgh'[number % 8]}", label))
    return pl.DataFrame(rows, schema=["record_id", "content_hash", "content", "label"], orient="row")


def test_it_learns_is_saved_and_needs_no_encoder_to_predict(tmp_path: Path) -> None:
    task = Classification.model_validate({"labels": ["pets", "sky"]}).make()
    from annotation_pipelines.project import Distillation

    config = Distillation(student="static")
    embedder = Embedder(tmp_path / "home", Encoder(str(write_encoder(tmp_path / "encoder", layers=1))))
    rows = frame(48).with_columns(origin=pl.lit("gold"), weight=pl.lit(1.0))
    student = student_class(task, "static")(task, config).fit(Examples.of(rows), embedder)
    assert embedder.cache.shards() == []
    asked = frame(12).select("content_hash", "content")
    said = student.predict(asked, embedder)
    assert said.labels == frame(12)["label"].to_list()

    write_model(student, {}, Examples.of(rows).rows, tmp_path / "model")
    loaded, card = read_model(tmp_path / "model", task)
    assert card["student"] == "static"
    assert loaded.own_encoder
    nowhere = Uncached(Encoder(str(tmp_path / "none")))
    again = loaded.predict(asked, nowhere)
    assert again.labels == said.labels
    np.testing.assert_array_equal(again.confidence, said.confidence)
    assert loaded.figures()["tokens"] == student.figures()["tokens"]
