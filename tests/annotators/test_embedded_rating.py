"""The embedded annotator on ratings: nearer with demonstrations, and never told a record's own rating."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy.stats import spearmanr

from annotation_pipelines import project
from annotation_pipelines.annotators.embedded.rating import RatingAnswerer
from annotation_pipelines.content import Content
from annotation_pipelines.distillation.embedding import Embedder
from annotation_pipelines.distillation.encoder import Encoder
from annotation_pipelines.errors import DeclarationError
from annotation_pipelines.tasks.rating import Rating, RatingTask

HEADLINES = Path(__file__).parents[2] / "examples" / "headline_emotions" / "data" / "headlines.csv"
VALENCE: dict[str, Any] = {"from": -100, "to": 100}
ANCHORS = {-100: "terrible news: death, violence, disaster", 0: "neutral news", 100: "wonderful news: joy, success"}
NOTHING = pl.DataFrame(schema=dict.fromkeys(("record_id", "content_hash", "content", "label"), pl.String))


@pytest.fixture(scope="module")
def headlines() -> pl.DataFrame:
    """A hundred headlines with their valence: record_id, content_hash, content, label."""
    rows = pl.read_csv(HEADLINES, infer_schema=False).drop_nulls("valence")
    return rows.select(
        record_id="id", content_hash="hash of " + pl.col("id"), content="headline", label="valence"
    ).sort(pl.col("record_id").hash(seed=3))


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory, headlines: pl.DataFrame) -> Iterator[Embedder]:
    embedder = Embedder(tmp_path_factory.mktemp("headlines") / "project", Encoder())
    embedder.ensure("all", headlines)
    yield embedder


def task(**settings: Any) -> RatingTask:
    return Rating.model_validate(settings).make()


def answers(
    made: RatingTask, embedder: Embedder, shown: pl.DataFrame, asked: pl.DataFrame, **settings: Any
) -> list[dict[str, Any]]:
    """What the annotator answers; every answer is valid."""
    answerer = RatingAnswerer(project.EmbeddedAnnotator(**settings), made, shown, embedder)
    found = answerer.answers(asked)
    for answer in found:
        assert made.value(answer, Content.of_text("")) == answer["rating"]
        assert 0 <= answer["confidence"] <= 1
    return found


def correlation(made: RatingTask, embedder: Embedder, shown: pl.DataFrame, asked: pl.DataFrame) -> float:
    found = [made.position(answer["rating"]) for answer in answers(made, embedder, shown, asked)]
    return float(spearmanr(found, asked["label"].cast(pl.Int64)).statistic)


def test_both_voices_together_are_nearer_to_people_than_each_alone(headlines: pl.DataFrame, embedder: Embedder) -> None:
    shown, asked = headlines[:50], headlines[50:]
    demonstrations = correlation(task(**VALENCE), embedder, shown, asked)
    descriptions = correlation(task(**VALENCE, anchors=ANCHORS), embedder, NOTHING, asked)
    together = correlation(task(**VALENCE, anchors=ANCHORS), embedder, shown, asked)
    assert demonstrations > 0.3
    assert descriptions > 0.4
    assert together > 0.5
    assert together > demonstrations


def test_a_record_is_never_told_its_own_rating(headlines: pl.DataFrame, embedder: Embedder) -> None:
    made = task(**VALENCE)
    # Of all demonstrations only the record itself says 100: who listened to it would come nearer.
    shown = headlines.with_columns(label=pl.lit("-50"))
    for column in ("record_id", "content_hash"):
        asked = headlines[:1].with_columns(pl.lit("other").alias("record_id" if column == "content_hash" else "label"))
        told = shown.with_columns(
            label=pl.when(pl.col(column) == asked[column][0]).then(pl.lit("100")).otherwise("label")
        )
        (answer,) = answers(made, embedder, told, asked.with_columns(label=pl.lit("0")))
        assert (answer["rating"], answer["confidence"]) == ("-50", 1.0)


def test_a_record_whose_only_demonstration_is_itself_goes_by_the_middle(
    headlines: pl.DataFrame, embedder: Embedder
) -> None:
    (answer,) = answers(task(**VALENCE), embedder, headlines[:1], headlines[:1])
    assert answer["rating"] == "0"


def test_names_in_order_are_placed_by_their_descriptions(headlines: pl.DataFrame, embedder: Embedder) -> None:
    names = {"bad": ANCHORS[-100], "plain": ANCHORS[0], "good": ANCHORS[100]}
    made = task(scale=names)
    found = answers(made, embedder, NOTHING, headlines)
    assert {answer["rating"] for answer in found} <= set(names)
    places = [made.position(answer["rating"]) for answer in found]
    assert spearmanr(places, headlines["label"].cast(pl.Int64)).statistic > 0.3


def test_far_neighbours_make_it_less_sure(headlines: pl.DataFrame, embedder: Embedder) -> None:
    agreeing = answers(task(**VALENCE), embedder, headlines[50:].with_columns(label=pl.lit("20")), headlines[:50])
    assert {(answer["rating"], answer["confidence"]) for answer in agreeing} == {("20", 1.0)}
    real = answers(task(**VALENCE), embedder, headlines[50:], headlines[:50])
    assert np.mean([answer["confidence"] for answer in real]) < 0.9


def test_without_any_voice_it_refuses(embedder: Embedder) -> None:
    with pytest.raises(DeclarationError, match="found neither"):
        RatingAnswerer(project.EmbeddedAnnotator(), task(**VALENCE, anchors={0: "neutral"}), NOTHING, embedder)


def test_whatever_changes_an_answer_changes_the_version(embedder: Embedder) -> None:
    def version(**settings: Any) -> object:
        scale = {**VALENCE, "anchors": ANCHORS, **settings}
        return RatingAnswerer(project.EmbeddedAnnotator(), task(**scale), NOTHING, embedder).version

    assert version() == version()
    assert version() != version(step=50)
    assert version() != version(anchors={-100: "bad", 100: "good"})
