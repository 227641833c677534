"""Choosing records: what was chosen stays, the budget is kept, and no choice depends on the order of the records."""

from __future__ import annotations

from typing import get_args

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotation_pipelines.project import Strategy
from annotation_pipelines.selection.acquisition import (
    BATCHES,
    Scores,
    choose,
    draws,
    needs_student,
    without_student,
)
from annotation_pipelines.selection.uncertainty import MEASURES

STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)


def candidates(*record_ids: str) -> pl.DataFrame:
    return pl.DataFrame({"record_id": pl.Series(record_ids, dtype=pl.String)})


def unsure(records: pl.DataFrame) -> Scores:
    """A figure of each record's own: many are equal."""
    return np.array([len(record_id) % 3 / 3 for record_id in records["record_id"]])


def by_length(records: pl.DataFrame, count: int) -> np.ndarray:
    """The longest ids, of equally long ones the first."""
    return np.argsort([-len(record_id) for record_id in records["record_id"]], kind="stable")[:count]


def chosen_by(records: pl.DataFrame, strategy: Strategy, budget: int | None, **more: object) -> pl.DataFrame:
    arguments = {"already_selected": [], "score": unsure, "pick": by_length, **more}
    return choose(records, strategy=strategy, budget=budget, **arguments)  # type: ignore[arg-type]


def selected(chosen: pl.DataFrame) -> set[str]:
    return set(chosen.filter(pl.col("state") == "selected")["record_id"])


TEN = candidates(*(f"r{i}" for i in range(10)))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_record_ends_selected_or_waiting_in_the_order_it_came(strategy: Strategy) -> None:
    chosen = chosen_by(TEN, strategy, 4)
    assert chosen["record_id"].to_list() == TEN["record_id"].to_list()
    assert chosen["state"].value_counts().sort("state").rows() == [("selected", 4), ("waiting", 6)]
    assert chosen.columns == ["record_id", "state", "strategy", "score"]
    assert set(chosen["strategy"]) == {strategy}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_without_a_budget_all_are_selected(strategy: Strategy) -> None:
    assert selected(chosen_by(TEN, strategy, None)) == set(TEN["record_id"])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_records_give_no_choice(strategy: Strategy) -> None:
    assert chosen_by(candidates(), strategy, 3).is_empty()


@given(
    ids=st.lists(st.text(min_size=1, max_size=5), unique=True, max_size=30),
    budget=st.integers(0, 40),
    before=st.integers(0, 30),
    strategy=st.sampled_from(STRATEGIES),
)
@settings(max_examples=40, deadline=None)
def test_a_choice_stands_as_far_as_the_budget_goes_and_is_topped_up_to_it(
    ids: list[str], budget: int, before: int, strategy: Strategy
) -> None:
    ids = [i for i in ids if i.isprintable()]
    kept = ids[:before]
    chosen = selected(chosen_by(candidates(*ids), strategy, budget, already_selected=[*kept, "gone"]))
    assert set(kept) <= chosen or (chosen <= set(kept) and len(chosen) == budget)
    assert len(chosen) == min(budget, len(ids))


@given(
    ids=st.lists(st.text("abc", min_size=1, max_size=6), unique=True, min_size=1, max_size=20),
    strategy=st.sampled_from(STRATEGIES),
    seed=st.integers(0, 5),
    shuffle=st.randoms(use_true_random=False),
)
@settings(max_examples=40, deadline=None)
def test_the_choice_does_not_depend_on_the_order_of_the_records(
    ids: list[str], strategy: Strategy, seed: int, shuffle: object
) -> None:
    others = list(ids)
    shuffle.shuffle(others)  # type: ignore[attr-defined]
    one, other = (chosen_by(candidates(*each), strategy, len(ids) // 2, seed=seed) for each in (ids, others))
    assert one.sort("record_id").equals(other.sort("record_id"))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_what_has_a_higher_score_is_chosen_first(strategy: Strategy) -> None:
    chosen = chosen_by(candidates(*("x" * n for n in range(1, 12))), strategy, 5)
    least = chosen.filter(pl.col("state") == "selected")["score"].min()
    most = chosen.filter(pl.col("state") == "waiting")["score"].max()
    assert isinstance(least, float) and isinstance(most, float) and least >= most


@pytest.mark.parametrize("strategy", BATCHES)
def test_the_scores_of_a_batch_are_the_order_of_choice(strategy: Strategy) -> None:
    chosen = chosen_by(candidates("a", "bb", "dddd", "ccc", "eeeee"), strategy, 4)
    assert dict(chosen.select("record_id", "score").iter_rows()) == {
        "eeeee": 1.0,
        "dddd": 0.75,
        "ccc": 0.5,
        "bb": 0.25,
        "a": 0.0,
    }


@pytest.mark.parametrize("strategy", BATCHES)
def test_a_batch_is_picked_among_what_was_not_chosen_before(strategy: Strategy) -> None:
    asked: list[tuple[set[str], int]] = []

    def pick(records: pl.DataFrame, count: int) -> np.ndarray:
        asked.append((set(records["record_id"]), count))
        return by_length(records, count)

    chosen = chosen_by(candidates("a", "bb", "ccc", "dddd"), strategy, 3, already_selected=["a"], pick=pick)
    assert asked == [({"bb", "ccc", "dddd"}, 2)]
    assert selected(chosen) == {"a", "ccc", "dddd"}


@pytest.mark.parametrize("strategy", BATCHES)
@pytest.mark.parametrize("budget", [0, 1, 3, None])
def test_no_batch_is_picked_where_nothing_is_to_be_decided(strategy: Strategy, budget: int | None) -> None:
    def refuse(records: pl.DataFrame, count: int) -> np.ndarray:
        raise AssertionError("nothing was to be picked")

    before = ["a"] if budget != 3 else []
    chosen_by(candidates("a", "bb", "ccc"), strategy, budget, already_selected=before, pick=refuse)


def test_a_further_record_changes_the_random_choice_by_one_at_most() -> None:
    before = selected(chosen_by(TEN, "random", 4))
    after = selected(chosen_by(candidates(*TEN["record_id"], "new"), "random", 4))
    assert len(before - after) <= 1


@pytest.mark.parametrize("strategy", ["random", "all", "margin"])
def test_another_seed_draws_others_among_equals(strategy: Strategy) -> None:
    picks = {
        frozenset(selected(chosen_by(TEN, strategy, 4, seed=seed, score=lambda records: np.ones(records.height))))
        for seed in range(8)
    }
    assert len(picks) > 1


def test_draws_are_uniform_enough() -> None:
    numbers = draws([f"record {i}" for i in range(2000)], seed=0)
    assert ((numbers >= 0) & (numbers < 1)).all()
    assert abs(numbers.mean() - 0.5) < 0.03


@pytest.mark.parametrize("strategy", MEASURES)
def test_the_least_sure_records_are_chosen_and_scored(strategy: Strategy) -> None:
    doubt = {"a": 0.5, "b": 0.4, "c": 0.1}
    chosen = chosen_by(
        candidates("c", "a", "b"),
        strategy,
        2,
        score=lambda records: np.array([doubt[record_id] for record_id in records["record_id"]]),
    )
    assert selected(chosen) == {"a", "b"}
    assert chosen["score"].to_list() == [0.1, 0.5, 0.4]


@pytest.mark.parametrize("strategy", [*MEASURES, *BATCHES])
def test_without_its_means_a_strategy_leaves_the_choice_to_the_draw_and_says_so(strategy: Strategy) -> None:
    chosen = chosen_by(TEN, strategy, 4, score=None, pick=None)
    assert set(chosen["strategy"]) == {"random"}
    assert selected(chosen) == selected(chosen_by(TEN, "random", 4))


def test_every_strategy_that_needs_a_student_has_one_in_its_place() -> None:
    assert {name for name in STRATEGIES if needs_student(name)} == {*MEASURES, "badge", "hybrid"}
    assert {name: without_student(name) for name in STRATEGIES if without_student(name) != name} == {
        **dict.fromkeys(MEASURES, "random"),
        "badge": "typiclust",
        "hybrid": "typiclust",
    }
