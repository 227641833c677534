"""The linear student: what it learns, how it withstands wrong labels, and that files bring it back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from annotation_pipelines.distillation.students.base import Examples
from annotation_pipelines.distillation.students.linear import LinearStudent
from annotation_pipelines.errors import TrainingError
from annotation_pipelines.project import Distillation
from tests.distillation.stars import LABELS, clusters, star_project

PLAIN = {"weights": "none", "soft_labels": "none", "label_smoothing": 0.0, "prune": "none", "reweight": False}
N, GOLD, UNSEEN = 300, 60, 300


class Known:
    """Vectors of contents whose hash is their row."""

    def __init__(self, vectors: np.ndarray) -> None:
        self.table = vectors

    def vectors(self, frame: pl.DataFrame, progress: object = None) -> np.ndarray:
        return self.table[[int(name) for name in frame["content_hash"]]]


@pytest.fixture(scope="module")
def sky() -> tuple[Examples, Known, list[str]]:
    """60 gold and 240 silver records of a teacher that takes most moons for suns; 300 that nobody has seen."""
    vectors, truth = clusters(N + UNSEEN, spread=1.3)
    generator = np.random.default_rng(0)
    wrong = (np.array(truth) == "moon") & (generator.random(N + UNSEEN) < 0.7)
    given = np.where(wrong, "sun", truth)
    gold = np.arange(N) < GOLD
    rows = pl.DataFrame(
        {
            "record_id": [f"r{row}" for row in range(N)],
            "content_hash": [str(row) for row in range(N)],
            "content": [f"Text {row}" for row in range(N)],
            "label": np.where(gold, truth[:N], given[:N]).tolist(),
            "origin": np.where(gold, "gold", "silver").tolist(),
            "weight": np.where(gold, 1.0, 0.8),
        }
    )
    audit = rows.head(GOLD).with_columns(given=pl.Series(given[:GOLD].tolist()), confidence=pl.lit(0.8))
    return Examples.of(rows, audit), Known(vectors), truth


def unseen() -> pl.DataFrame:
    numbers = [str(row) for row in range(N, N + UNSEEN)]
    return pl.DataFrame({"content_hash": numbers, "content": numbers})


def student(**robust: object) -> LinearStudent:
    task = star_project(Path()).task
    return LinearStudent(task, Distillation.model_validate({"robust": {**PLAIN, **robust}}))


def accuracy(fitted: LinearStudent, known: Known, truth: list[str]) -> float:
    return float(np.mean(np.array(fitted.predict(unseen(), known).labels) == truth[N:]))


@pytest.mark.parametrize(
    "robust", [{"soft_labels": "corrected"}, {"reweight": True}, {"weights": "audit"}], ids=lambda robust: str(robust)
)
def test_it_beats_a_teacher_that_errs_and_the_student_that_believes_it(
    sky: tuple[Examples, Known, list[str]], robust: dict[str, object]
) -> None:
    examples, known, truth = sky
    silver = examples.rows.filter(pl.col("origin") == "silver")
    teacher = np.mean([truth[int(row)] == given for row, given in silver.select("content_hash", "label").rows()])
    plain = accuracy(student().fit(examples, known), known, truth)
    robust_one = accuracy(student(**robust).fit(examples, known), known, truth)
    assert robust_one > teacher + 0.05
    assert robust_one > plain + 0.05


@pytest.mark.parametrize(
    ("robust", "figure"),
    [
        ({"soft_labels": "corrected"}, "relabelled"),
        ({"prune": "confident_learning"}, "pruned"),
        ({"co_teaching": True}, "forgotten"),
        ({"reweight": True}, "reweighted_to_nothing"),
    ],
    ids=lambda value: str(value),
)
def test_its_figures_tell_what_robustness_did(
    sky: tuple[Examples, Known, list[str]], robust: dict[str, object], figure: str
) -> None:
    examples, known, _ = sky
    figures = student(**robust).fit(examples, known).figures()
    assert isinstance(figures[figure], int)
    assert figures["classes"] == 3
    assert figure not in student().fit(examples, known).figures()


def test_what_it_disagrees_with_weighs_less_after_reweighting(sky: tuple[Examples, Known, list[str]]) -> None:
    examples, known, _ = sky
    figures = student(reweight=True).fit(examples, known).figures()
    agreed, not_agreed = figures["weight_where_agreed"], figures["weight_where_not"]
    assert isinstance(agreed, float)
    assert isinstance(not_agreed, float)
    assert agreed > 2 * not_agreed


def test_labels_without_weight_are_not_there(sky: tuple[Examples, Known, list[str]]) -> None:
    examples, known, truth = sky
    silenced = examples.rows.with_columns(
        weight=pl.when(pl.col("origin") == "gold").then(1.0).otherwise(0.0),
        label=pl.when(pl.col("origin") == "gold").then("label").otherwise(pl.lit("comet")),
    )
    fitted = student().fit(Examples.of(silenced, examples.audit), known)
    assert fitted.head.classes_ == sorted(LABELS)
    gold = Examples.of(examples.rows.head(GOLD), examples.audit)
    assert accuracy(fitted, known, truth) == accuracy(student().fit(gold, known), known, truth)


def test_one_class_is_one_clear_error(sky: tuple[Examples, Known, list[str]]) -> None:
    examples, known, _ = sky
    with pytest.raises(TrainingError, match="two classes or more to train on, found sun"):
        student().fit(Examples.of(examples.rows.filter(pl.col("label") == "sun")), known)


def test_files_bring_it_back(sky: tuple[Examples, Known, list[str]], tmp_path: Path) -> None:
    examples, known, _ = sky
    fitted = student(soft_labels="corrected").fit(examples, known)
    loaded = student(soft_labels="corrected").load(tmp_path, fitted.save(tmp_path))
    assert loaded.figures() == fitted.figures()
    one, other = fitted.predict(unseen(), known), loaded.predict(unseen(), known)
    assert one.labels == other.labels
    np.testing.assert_array_equal(one.probabilities, other.probabilities)
    np.testing.assert_allclose(one.confidence, one.probabilities.max(axis=1))
