"""The review queue: what people should look at, and what comes back from them."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from annotation_pipelines.distillation.review import review_queue
from annotation_pipelines.errors import SourceError
from annotation_pipelines.export import export_review_queue
from annotation_pipelines.sources.person_labels import read_person_labels
from tests.distillation.stars import NOW, Stars


@pytest.fixture
def reviewed(stars: Stars) -> Stars:
    """Six predictions: r0 sure and agreed, r1 abstained, r2 contradicted, r3 both, r4 with gold, r5 outdated."""
    rows, _ = stars.add(6)
    stars.teach(rows, ["sun", "sun", "moon", "moon", "moon", "moon"], confidence=[0.9] * 6)
    frame = rows.select(
        "record_id",
        pl.when(pl.col("record_id") == "r5").then(pl.lit("old")).otherwise("content_hash").alias("content_hash"),
        "partition_key",
        label=pl.lit("sun"),
        confidence=pl.Series([0.99, 0.4, 0.8, 0.3, 0.2, 0.1]),
        model_version=pl.lit("v"),
        predicted_at=pl.lit(NOW),
        state=pl.Series(["predicted", "abstained", "predicted", "abstained", "abstained", "abstained"]),
    )
    with stars.store.transaction() as con:
        stars.store.upsert(con, "predictions", frame)
    stars.hold_out(rows[4:5], ["star"], role="training")
    return stars


def test_it_has_what_is_unsure_or_contradicted_the_least_certain_first(reviewed: Stars) -> None:
    queue = review_queue(reviewed.store, reviewed.project)
    assert queue.select("id", "suggested", "teacher", "why").rows() == [
        ("r3", "sun", "moon", "the student is unsure: 0.3; the teacher says moon (0.9)"),
        ("r1", "sun", "sun", "the student is unsure: 0.4"),
        ("r2", "sun", "moon", "the teacher says moon (0.9)"),
    ]
    assert queue["text"].str.starts_with("Text ").all()
    assert (queue["label"] == "").all()


def test_filled_in_it_is_a_file_of_people_labels(reviewed: Stars, tmp_path: Path) -> None:
    file = tmp_path / "queue.csv"
    assert export_review_queue(reviewed.store, reviewed.project, file) == 3
    known = {"r1": "a text", "r2": "a text", "r3": "a text"}
    assert read_person_labels(file, reviewed.project.task, known, "UTC").is_empty()
    queue = pl.read_csv(file).with_columns(
        label=pl.when(pl.col("id") == "r2").then(pl.lit("star")), annotator=pl.lit("ada")
    )
    queue.write_csv(file)
    read = read_person_labels(file, reviewed.project.task, known, "UTC")
    assert read.select("record_id", "label", "person").rows() == [("r2", "star", "ada")]
    queue.drop("suggested").write_csv(file)
    with pytest.raises(SourceError, match=":2"):
        read_person_labels(file, reviewed.project.task, known, "UTC")
