"""Ratings are measured as scikit-learn and scipy measure them, on real ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import cohen_kappa_score, mean_absolute_error, root_mean_squared_error

from annotation_pipelines.tasks.metrics.rating import measure
from annotation_pipelines.tasks.rating import Rating

HEADLINES = Path(__file__).parents[2] / "examples" / "headline_emotions" / "data" / "headlines.csv"


@pytest.fixture(scope="module")
def headlines() -> pl.DataFrame:
    """A hundred headlines with the valence that the organisers gave, and that of workers."""
    return pl.read_csv(HEADLINES).drop_nulls("valence")


def values(truth: list[float], given: list[float | None], **settings: float | None) -> dict[str, float | None]:
    found = measure(truth, given, -100, 100, **{"step": 1, **settings}, resamples=50)  # type: ignore[arg-type]
    return {metric.metric: metric.value for metric in found}


@pytest.mark.parametrize("column", ["one_worker_valence", "crowd_mean_valence"])
def test_they_agree_with_scikit_learn_and_scipy(headlines: pl.DataFrame, column: str) -> None:
    gold, given = headlines["valence"].to_list(), headlines[column].round().cast(pl.Int64).to_list()
    found = values(gold, given)
    expected = {
        "quadratic_kappa": cohen_kappa_score(gold, given, weights="quadratic", labels=list(range(-100, 101))),
        "spearman": spearmanr(gold, given).statistic,
        "mae": mean_absolute_error(gold, given),
        "rmse": root_mean_squared_error(gold, given),
        "within_one_step": np.mean(np.abs(np.array(gold) - given) <= 1),
        "answered": 1.0,
    }
    assert found.keys() == expected.keys()
    for metric, value in expected.items():
        assert found[metric] == pytest.approx(value, abs=1e-9), metric


def test_few_categories_with_many_ties_agree_too(headlines: pl.DataFrame) -> None:
    gold = (headlines["valence"] // 50 + 3).to_list()
    given = (headlines["crowd_mean_valence"] // 50 + 3).cast(pl.Int64).to_list()
    found = {m.metric: m.value for m in measure(gold, given, 1, 5, step=1, resamples=50)}
    assert found["quadratic_kappa"] == pytest.approx(
        cohen_kappa_score(gold, given, weights="quadratic", labels=[1, 2, 3, 4, 5]), abs=1e-9
    )
    assert found["spearman"] == pytest.approx(spearmanr(gold, given).statistic, abs=1e-9)


def test_the_intervals_of_errors_are_those_of_drawing_records_again(headlines: pl.DataFrame) -> None:
    gold, given = headlines["valence"].to_numpy(), headlines["crowd_mean_valence"].to_numpy()
    found = {m.metric: m for m in measure(gold.tolist(), given.tolist(), -100, 100, step=None, seed=3)}
    assert "within_one_step" not in found
    generator = np.random.default_rng(1)
    draws = generator.integers(0, len(gold), (2000, len(gold)))
    lower, upper = np.percentile(np.abs(gold - given)[draws].mean(axis=1), (2.5, 97.5))
    assert found["mae"].lower == pytest.approx(lower, rel=0.05)
    assert found["mae"].upper == pytest.approx(upper, rel=0.05)
    spearman = found["spearman"]
    assert spearman.lower is not None and spearman.value is not None and spearman.upper is not None
    assert spearman.lower < spearman.value < spearman.upper <= 1


def test_a_missing_rating_counts_as_the_farther_end() -> None:
    found = values([60, -20, 0], [60, None, None])
    assert found["mae"] == pytest.approx((120 + 100) / 3)
    assert found["answered"] == pytest.approx(1 / 3)
    assert values([60, -20], [60, -20])["mae"] == 0


def test_where_all_say_the_same_there_is_no_correlation() -> None:
    found = values([5, 5, 5], [5, 5, 5])
    assert (found["quadratic_kappa"], found["spearman"], found["mae"]) == (None, None, 0)
    assert measure([], [], 0, 1, step=None) == []
    with pytest.raises(ValueError, match="as many ratings"):
        measure([1.0], [], 0, 1, step=None)


def test_names_are_measured_by_their_positions_and_the_headline_comes_first() -> None:
    named = Rating.model_validate({"scale": ["bad", "fair", "good"]}).make()
    found = named.measure(["bad", "good", "fair"], ["fair", "good", None])
    assert found[0].metric == named.headline == "quadratic_kappa"
    assert {m.metric: m.value for m in found}["mae"] == pytest.approx(2 / 3)
    continuous = Rating.model_validate({"from": 0, "to": 1, "step": "any"}).make()
    assert continuous.measure(["0.1", "0.9"], ["0.2", "1"])[0].metric == continuous.headline == "spearman"
