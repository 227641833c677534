"""The embedded annotator on sets of labels: better with demonstrations, and never told a record's own labels."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from annotation_pipelines import project
from annotation_pipelines.annotators.embedded.multilabel import MultilabelAnswerer, learn_decision
from annotation_pipelines.content import Content
from annotation_pipelines.declaration_file import load_project
from annotation_pipelines.distillation.embedding import Embedder
from annotation_pipelines.distillation.encoder import Encoder
from annotation_pipelines.tasks.multilabel import Multilabel, MultilabelTask

EXAMPLE = Path(__file__).parents[2] / "examples" / "goemotions"
N = 300


def rows() -> list[dict[str, Any]]:
    """The example's records."""
    spec = importlib.util.spec_from_file_location("goemotions_source", EXAMPLE / "source.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: list[dict[str, Any]] = list(module.records(None, None))
    return found


@pytest.fixture(scope="module")
def task() -> MultilabelTask:
    declared = load_project(EXAMPLE / "defs.yaml").task
    assert isinstance(declared, MultilabelTask)
    return declared


@pytest.fixture(scope="module")
def comments(task: MultilabelTask) -> pl.DataFrame:
    """Three hundred comments: record_id, content_hash, content, label."""
    return pl.DataFrame(
        [
            {
                "record_id": row["comment"],
                "content_hash": f"hash of {row['comment']}",
                "content": row["text"],
                "label": task.ordered(row["emotions"]),
            }
            for row in rows()[:N]
        ]
    )


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory, comments: pl.DataFrame) -> Iterator[Embedder]:
    embedder = Embedder(tmp_path_factory.mktemp("emotions") / "project", Encoder())
    embedder.ensure("all", comments)
    yield embedder


def answerer(
    task: MultilabelTask, demonstrations: pl.DataFrame, embedder: Embedder, **settings: float
) -> MultilabelAnswerer:
    return MultilabelAnswerer(
        project.EmbeddedAnnotator.model_validate(settings), task, demonstrations.sort("record_id"), embedder
    )


def given(task: MultilabelTask, answers: list[dict[str, Any]]) -> list[str | None]:
    return [task.parse(json.dumps(answer), Content.of_text("")).label for answer in answers]


def micro_f1(task: MultilabelTask, asked: pl.DataFrame, answers: list[dict[str, Any]]) -> float:
    value = task.measure(asked["label"].to_list(), given(task, answers))[0].value
    assert value is not None
    return value


def test_demonstrations_beat_descriptions_and_the_most_frequent_label(
    task: MultilabelTask, comments: pl.DataFrame, embedder: Embedder
) -> None:
    shown, asked = comments.head(150), comments.tail(N - 150)
    alone = micro_f1(task, asked, answerer(task, shown.clear(), embedder).answers(asked))
    learned = micro_f1(task, asked, answerer(task, shown, embedder).answers(asked))
    neutral = [{"labels": ["neutral"]}] * asked.height
    assert alone > 0.1
    assert learned > alone + 0.05
    assert learned > micro_f1(task, asked, neutral)


def test_every_answer_is_valid_and_carries_chances_for_all_labels(
    task: MultilabelTask, comments: pl.DataFrame, embedder: Embedder
) -> None:
    answers = answerer(task, comments.head(100), embedder).answers(comments)
    assert all(label is not None for label in given(task, answers))
    for answer in answers:
        assert list(answer["scores"]) == list(task.labels)
        assert all(0 <= chance <= 1 for chance in answer["scores"].values())
        assert 0 <= answer["confidence"] <= 1
        lowest = min(answer["scores"][name] for name in answer["labels"])
        others = [chance for name, chance in answer["scores"].items() if name not in answer["labels"]]
        assert lowest >= max(others)


def test_the_answers_do_not_depend_on_order_or_company(
    task: MultilabelTask, comments: pl.DataFrame, embedder: Embedder
) -> None:
    shown = comments.head(100)
    together = answerer(task, shown, embedder).answers(comments)
    again = answerer(task, shown.reverse(), embedder)
    for place in (0, 40, 120, N - 1):
        assert again.answers(comments.slice(place, 1)) == together[place : place + 1]


def test_confident_answers_are_right_more_often(
    task: MultilabelTask, comments: pl.DataFrame, embedder: Embedder
) -> None:
    shown, asked = comments.head(150), comments.tail(N - 150)
    answers = answerer(task, shown, embedder).answers(asked)
    right = np.array(
        [
            np.mean([name in task.read(label) for name in answer["labels"]])
            for answer, label in zip(answers, asked["label"], strict=True)
        ]
    )
    order = np.argsort([answer["confidence"] for answer in answers])
    half = len(order) // 2
    assert right[order[half:]].mean() > right[order[:half]].mean() + 0.05


def test_a_demonstration_is_not_told_its_own_label(
    task: MultilabelTask, comments: pl.DataFrame, embedder: Embedder
) -> None:
    shown = comments.head(60)
    one = shown.slice(17, 1)
    wrong = one.with_columns(label=pl.lit('["grief"]'))
    misled = answerer(task, pl.concat([shown.filter(pl.col("record_id") != one["record_id"].item()), wrong]), embedder)
    assert "grief" not in misled.answers(one)[0]["labels"]
    twin = one.with_columns(record_id=pl.lit("another id"))
    assert "grief" not in misled.answers(twin)[0]["labels"]
    # Another record with the very same vector is told.
    near = embedder.vectors(one)
    believed = misled._voters
    assert believed
    grief = list(task.labels).index("grief")
    told = believed.scores(near, np.zeros((1, 60), dtype=np.bool_))[0, grief]
    untold = believed.scores(near, np.array([misled._demonstrations["record_id"] == one["record_id"].item()]))[0, grief]
    assert told > untold + 0.1


def test_leaving_one_out_is_fitting_without_it(
    task: MultilabelTask, comments: pl.DataFrame, embedder: Embedder
) -> None:
    from annotation_pipelines.annotators.embedded import multilabel

    vectors = embedder.vectors(comments.head(40))
    votes = multilabel.label_table(task, comments.head(40)["label"])
    voters = multilabel._Voters(vectors, votes)
    exclude = np.zeros((1, 40), dtype=np.bool_)
    exclude[0, 7] = True
    np.testing.assert_allclose(voters.scores(vectors[7:8], exclude)[0], voters.left_out()[7], atol=1e-9)
    # Two at once, against a regression that never saw them, on vectors taken relative to the same mean.
    exclude[0, 8] = True
    kept = np.delete(np.arange(40), [7, 8])
    shown = voters._shown
    kernel = shown[kept] @ shown[kept].T + 1
    weights = np.linalg.solve(kernel + multilabel.RIDGE * np.eye(38), votes[kept])
    expected = (shown[7] @ shown[kept].T + 1) @ weights
    np.testing.assert_allclose(voters.scores(vectors[7:8], exclude)[0], expected, atol=1e-9)


def test_how_many_labels_there_may_be_is_kept_to(comments: pl.DataFrame, embedder: Embedder) -> None:
    names = list(load_project(EXAMPLE / "defs.yaml").task.labels)
    two = MultilabelTask(Multilabel.model_validate({"labels": names, "min_labels": 2, "max_labels": 2}))
    shown = comments.filter(pl.Series([len(two.named(label)) == 2 for label in comments["label"]]))
    for demonstrations in (shown, shown.clear()):
        answers = answerer(two, demonstrations, embedder).answers(comments.head(20))
        assert all(len(answer["labels"]) == 2 for answer in answers)


def test_where_no_demonstration_has_a_label_none_is_given(comments: pl.DataFrame, embedder: Embedder) -> None:
    bare = MultilabelTask(Multilabel.model_validate({"labels": ["joy", "anger"]}))
    shown = comments.head(20).with_columns(label=pl.lit("[]"))
    answers = answerer(bare, shown, embedder).answers(comments.tail(20))
    assert all(answer["labels"] == [] and answer["confidence"] > 0.9 for answer in answers)


def test_the_threshold_is_the_one_with_the_best_micro_f1() -> None:
    scores = np.array([[0.9, 0.1], [0.8, 0.7], [0.6, 0.2], [0.4, 0.3]])
    votes = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0], [0.0, 0.0]])
    decision = learn_decision(scores, votes, least=0, most=2)
    assert 0.6 < decision.threshold <= 0.7
    chances = decision.chances(np.array([[0.95, 0.05]]))
    assert chances[0, 0] > 0.9
    assert chances[0, 1] < 0.1
