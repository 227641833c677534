"""Headlines are rated on this machine, nearer to people's ratings than chance by far."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from annotation_pipelines.content import Content
from annotation_pipelines.errors import DeclarationError
from tests.examples.example import Example, values


@pytest.fixture(scope="module")
def rated(tmp_path_factory: pytest.TempPathFactory) -> Example:
    example = Example(tmp_path_factory.mktemp("headlines"), "headline_emotions")
    assert example.read()["new"] == 200
    example.annotate()
    return example


def test_every_selected_headline_gets_a_valid_rating(rated: Example) -> None:
    rows = rated.annotations()
    assert set(rows["state"]) == {"labelled"}
    task = rated.project.task
    for label, content in rows.select("label", "content").iter_rows():
        assert task.problem(label, Content.read(content)) is None
    assert rows["confidence"].is_between(0, 1).all()
    assert rows["label"].n_unique() > 20


def test_gold_is_kept_where_people_gave_it(rated: Example) -> None:
    gold = rated.store.query("SELECT gold FROM records WHERE gold IS NOT NULL")["gold"]
    assert len(gold) == 100
    assert gold.cast(pl.Int64).is_between(-100, 100).all()


def test_the_order_of_held_out_headlines_is_largely_that_of_people(rated: Example) -> None:
    evaluation = rated.evaluate()
    assert evaluation.headline == "quadratic_kappa"
    found = values(evaluation)
    assert found["answered"] == 1
    assert found["spearman"] > 0.4
    assert found["mae"] < 35
    spearman = evaluation.metrics.filter((pl.col("split") == "evaluation") & (pl.col("metric") == "spearman"))
    assert spearman["lower"].item() > 0


def test_nothing_is_rated_twice(rated: Example) -> None:
    again = rated.annotate()
    assert (again.called, again.unchanged) == (0, again.selected)


def test_without_demonstrations_and_descriptions_nothing_is_made_up(tmp_path: Path) -> None:
    scale = {"rating": {"from": -100, "to": 100}}
    bare = Example(tmp_path, "headline_emotions", task=scale, demonstrations=None, evaluation=None)
    bare.read()
    with pytest.raises(DeclarationError, match="demonstrations, or two described values of the scale, found neither"):
        bare.annotate()
