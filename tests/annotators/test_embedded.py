"""The embedded annotator: right more often with demonstrations, never by looking at the record's own label."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotation_pipelines import project
from annotation_pipelines.annotators.base import Reply, Turn
from annotation_pipelines.annotators.embedded.annotator import EmbeddedAnnotator
from annotation_pipelines.annotators.embedded.similarity import label_texts, mixed_probabilities
from annotation_pipelines.declaration_file import load_project
from annotation_pipelines.distillation.embedding import Embedder
from annotation_pipelines.distillation.encoder import Encoder
from annotation_pipelines.project import Classification
from annotation_pipelines.tasks.base import Annotation
from annotation_pipelines.tasks.classification import ClassificationTask

ML_PROJECTS = Path(__file__).parents[2] / "assets" / "ml_projects"
N = 60


def read(annotator: EmbeddedAnnotator, reply: Reply) -> Annotation:
    """What a reply to a first question says."""
    ended = annotator.proceed([Turn(reply.request, reply.status, reply.text)])
    assert isinstance(ended, Annotation)
    return ended


@pytest.fixture(scope="module")
def texts() -> pl.DataFrame:
    """Sixty texts, fifteen of each tag."""
    return (
        pl.read_csv(ML_PROJECTS / "data" / "dataset.csv", infer_schema=False)
        .group_by("tag", maintain_order=True)
        .head(N // 4)
        .select(
            record_id="id",
            content_hash="hash of " + pl.col("id"),
            content=pl.format("{}. {}", "title", pl.col("description").str.slice(0, 160)),
            label="tag",
        )
    )


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory, texts: pl.DataFrame) -> Iterator[Embedder]:
    embedder = Embedder(tmp_path_factory.mktemp("embedded") / "project", Encoder())
    embedder.ensure("all", texts)
    yield embedder


@pytest.fixture(scope="module")
def task() -> ClassificationTask:
    return ClassificationTask(load_project(ML_PROJECTS / "defs.yaml").declaration.task.classification)


def annotator(
    embedder: Embedder,
    task: ClassificationTask,
    demonstrations: pl.DataFrame | None = None,
    guideline: str = "Choose one.",
    **settings: float,
) -> EmbeddedAnnotator:
    return EmbeddedAnnotator(
        project.EmbeddedAnnotator.model_validate(settings), task, guideline, demonstrations, embedder
    )


def accuracy(annotator: EmbeddedAnnotator, rows: pl.DataFrame) -> float:
    gold = dict(rows.select("record_id", "label").iter_rows())
    replies = list(annotator.annotate(annotator.requests(rows)))
    return float(np.mean([read(annotator, r).label == gold[r.request.record_id] for r in replies]))


def test_descriptions_alone_label_most_records_right(
    embedder: Embedder, task: ClassificationTask, texts: pl.DataFrame
) -> None:
    assert accuracy(annotator(embedder, task), texts) >= 0.75


def test_demonstrations_help(embedder: Embedder, task: ClassificationTask, texts: pl.DataFrame) -> None:
    shown, rest = texts[::2], texts[1::2]
    alone, helped = annotator(embedder, task), annotator(embedder, task, shown)
    assert accuracy(helped, rest) >= accuracy(alone, rest)
    assert accuracy(annotator(embedder, task, shown, demonstration_weight=1), rest) >= 0.6


def test_every_request_gets_one_free_reply_that_says_all(
    embedder: Embedder, task: ClassificationTask, texts: pl.DataFrame
) -> None:
    teacher = annotator(embedder, task, texts[:20])
    requests = teacher.requests(texts)
    replies = list(teacher.annotate(requests))
    assert [reply.request for reply in replies] == requests
    for reply in replies:
        assert (reply.status, reply.cost_usd, reply.prompt_tokens) == ("ok", 0.0, None)
        answer = json.loads(reply.text or "")
        assert set(answer) == {"label", "confidence", "scores"}
        assert list(answer["scores"]) == list(task.labels)
        assert sum(answer["scores"].values()) == pytest.approx(1, abs=1e-5)
        annotation = read(teacher, reply)
        assert annotation.state == "labelled"
        assert annotation.label == max(answer["scores"], key=answer["scores"].get)
        assert annotation.confidence == answer["scores"][annotation.label]


def test_a_demonstration_never_votes_on_itself(
    embedder: Embedder, task: ClassificationTask, texts: pl.DataFrame
) -> None:
    wrong = texts[:1].with_columns(label=pl.lit("mlops"))
    copy = texts[:1].with_columns(record_id=pl.lit("a copy"))
    alone = _scores(annotator(embedder, task, wrong, demonstration_weight=0.9), texts[:1])
    assert alone == _scores(annotator(embedder, task, wrong, demonstration_weight=0), texts[:1])
    assert _scores(annotator(embedder, task, wrong, demonstration_weight=0.9), copy) == alone


def test_no_records_make_no_requests(embedder: Embedder, task: ClassificationTask, texts: pl.DataFrame) -> None:
    teacher = annotator(embedder, task)
    assert teacher.requests(texts[:0]) == []
    assert list(teacher.annotate([])) == []


def test_labels_that_the_task_does_not_have_are_not_shown(
    embedder: Embedder, task: ClassificationTask, texts: pl.DataFrame
) -> None:
    unknown = texts[:10].with_columns(label=pl.lit("gardening"))
    assert annotator(embedder, task, unknown).fingerprint == annotator(embedder, task).fingerprint


def test_a_guideline_makes_labels_stale_and_their_replies_serve_again(
    embedder: Embedder, task: ClassificationTask, texts: pl.DataFrame
) -> None:
    before, after = annotator(embedder, task), annotator(embedder, task, guideline="Choose one. Be strict.")
    assert before.fingerprint != after.fingerprint
    assert _keys(before, texts) == _keys(after, texts)


def test_whatever_changes_an_answer_changes_the_keys(
    embedder: Embedder, task: ClassificationTask, texts: pl.DataFrame
) -> None:
    renamed = ClassificationTask(Classification(labels={**task.labels, "mlops": "operations"}))
    relabelled = texts[:5].with_columns(label=pl.lit("other"))
    keys = [
        _keys(teacher, texts)[-1]
        for teacher in (
            annotator(embedder, task),
            annotator(embedder, renamed),
            annotator(embedder, task, texts[:5]),
            annotator(embedder, task, relabelled),
            annotator(embedder, task, texts[:5], neighbours=3),
            annotator(embedder, task, texts[:5], demonstration_weight=0.2),
            annotator(Embedder(embedder.home, Encoder(precision="bfloat16")), task),
        )
    ]
    assert len(set(keys)) == len(keys)


def test_keys_depend_on_content_alone_but_for_demonstrations(
    embedder: Embedder, task: ClassificationTask, texts: pl.DataFrame
) -> None:
    teacher = annotator(embedder, task, texts[:1])
    copies = texts.with_columns(record_id="copy of " + pl.col("record_id"))
    assert _keys(teacher, texts)[1:] == _keys(teacher, copies)[1:]
    assert _keys(teacher, texts)[0] != _keys(teacher, copies)[0]
    assert _keys(teacher, texts) == _keys(annotator(embedder, task, texts[:1]), texts)


def test_the_order_of_the_demonstrations_does_not_matter(
    embedder: Embedder, task: ClassificationTask, texts: pl.DataFrame
) -> None:
    assert annotator(embedder, task, texts[:9]).fingerprint == annotator(embedder, task, texts[:9][::-1]).fingerprint


def test_a_label_without_a_description_stands_for_itself_in_words() -> None:
    labels = {"card_arrival": "card_arrival", "top-up": "", "fee": "a charge", "__": "__"}
    assert label_texts(labels) == ["card arrival", "top up", "a charge", "__"]


@given(
    n=st.integers(1, 6),
    m=st.integers(0, 8),
    c=st.integers(2, 5),
    neighbours=st.integers(1, 10),
    weight=st.floats(0, 1),
    seed=st.integers(0, 1000),
)
@settings(max_examples=80, deadline=None)
def test_probabilities_are_probabilities(n: int, m: int, c: int, neighbours: int, weight: float, seed: int) -> None:
    generator = np.random.default_rng(seed)

    def unit(rows: int) -> np.ndarray:
        values = generator.normal(size=(rows, 5)).astype(np.float32)
        return values / np.linalg.norm(values, axis=1, keepdims=True)

    probabilities = mixed_probabilities(
        unit(n),
        unit(c),
        unit(m),
        np.eye(c)[generator.integers(c, size=m)].reshape(m, c),
        neighbours=neighbours,
        demonstration_weight=weight,
        exclude=generator.random((n, m)) < 0.3,
    )
    assert probabilities.shape == (n, c)
    assert (probabilities >= 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)


def _keys(teacher: EmbeddedAnnotator, rows: pl.DataFrame) -> list[str]:
    return [request.key for request in teacher.requests(rows)]


def _scores(teacher: EmbeddedAnnotator, rows: pl.DataFrame) -> list[dict[str, float]]:
    replies: list[Reply] = list(teacher.annotate(teacher.requests(rows)))
    return [json.loads(reply.text or "")["scores"] for reply in replies]
