"""Acquisition: choices stand, the budget is kept, and no choice depends on the order of the records."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotation_pipelines.selection.acquisition import ACQUISITIONS, Strategy, choose, draws


def candidates(*record_ids: str) -> pl.DataFrame:
    return pl.DataFrame({"record_id": pl.Series(record_ids, dtype=pl.String)})


def sure(**confidence: float) -> pl.DataFrame:
    return pl.DataFrame({"record_id": list(confidence), "confidence": list(confidence.values())})


def selected(chosen: pl.DataFrame) -> set[str]:
    return set(chosen.filter(pl.col("state") == "selected")["record_id"])


TEN = candidates(*(f"r{i}" for i in range(10)))


@pytest.mark.parametrize("strategy", list(ACQUISITIONS))
def test_every_record_ends_selected_or_waiting_in_the_order_it_came(strategy: Strategy) -> None:
    chosen = choose(TEN, already_selected=[], strategy=strategy, budget=4)
    assert chosen["record_id"].to_list() == TEN["record_id"].to_list()
    assert chosen["state"].value_counts().sort("state").rows() == [("selected", 4), ("waiting", 6)]
    assert chosen.columns == ["record_id", "state", "strategy", "score"]


@pytest.mark.parametrize("strategy", list(ACQUISITIONS))
def test_without_a_budget_all_are_selected(strategy: Strategy) -> None:
    assert selected(choose(TEN, already_selected=[], strategy=strategy, budget=None)) == set(TEN["record_id"])


@pytest.mark.parametrize("strategy", list(ACQUISITIONS))
def test_no_records_give_no_choice(strategy: Strategy) -> None:
    probabilities = pl.DataFrame(schema={"record_id": pl.String, "confidence": pl.Float64})
    chosen = choose(candidates(), already_selected=[], strategy=strategy, budget=3, probabilities=probabilities)
    assert chosen.is_empty()


@given(
    ids=st.lists(st.text(min_size=1, max_size=5), unique=True, max_size=30),
    budget=st.integers(0, 40),
    before=st.integers(0, 30),
    strategy=st.sampled_from(list(ACQUISITIONS)),
)
@settings(max_examples=60, deadline=None)
def test_a_choice_stands_as_far_as_the_budget_goes_and_is_topped_up_to_it(
    ids: list[str], budget: int, before: int, strategy: Strategy
) -> None:
    ids = [i for i in ids if i.isprintable()]
    kept = ids[:before]
    chosen = selected(choose(candidates(*ids), already_selected=[*kept, "gone"], strategy=strategy, budget=budget))
    assert set(kept) <= chosen or (chosen <= set(kept) and len(chosen) == budget)
    assert len(chosen) == min(budget, len(ids))


def test_the_choice_does_not_depend_on_the_order_of_the_records() -> None:
    one = choose(TEN, already_selected=[], strategy="random", budget=4, seed=3)
    other = choose(TEN.reverse(), already_selected=[], strategy="random", budget=4, seed=3)
    assert selected(one) == selected(other)


def test_a_further_record_changes_the_random_choice_by_one_at_most() -> None:
    before = selected(choose(TEN, already_selected=[], strategy="random", budget=4))
    after = selected(choose(candidates(*TEN["record_id"], "new"), already_selected=[], strategy="random", budget=4))
    assert len(before - after) <= 1


def test_another_seed_draws_others() -> None:
    picks = {
        frozenset(selected(choose(TEN, already_selected=[], strategy="random", budget=4, seed=s))) for s in range(8)
    }
    assert len(picks) > 1


def test_draws_are_uniform_enough() -> None:
    numbers = draws([f"record {i}" for i in range(2000)], seed=0)
    assert ((numbers >= 0) & (numbers < 1)).all()
    assert abs(numbers.mean() - 0.5) < 0.03


def test_the_least_sure_records_are_chosen_and_scored() -> None:
    chosen = choose(
        candidates("a", "b", "c"),
        already_selected=[],
        strategy="least_confidence",
        budget=2,
        probabilities=sure(c=0.9, a=0.5, b=0.6),
    )
    assert selected(chosen) == {"a", "b"}
    assert chosen["score"].to_list() == pytest.approx([0.5, 0.4, 0.1])
    assert set(chosen["strategy"]) == {"least_confidence"}


def test_a_record_that_the_champion_has_not_read_goes_first() -> None:
    chosen = choose(
        candidates("a", "b"), already_selected=[], strategy="least_confidence", budget=1, probabilities=sure(a=0.3)
    )
    assert selected(chosen) == {"b"}


def test_without_a_champion_the_choice_is_random_and_says_so() -> None:
    chosen = choose(TEN, already_selected=[], strategy="least_confidence", budget=4)
    assert set(chosen["strategy"]) == {"random"}
    assert selected(chosen) == selected(choose(TEN, already_selected=[], strategy="random", budget=4))
