"""Strengths out of comparisons of two."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize

from annotation_pipelines.tasks.metrics.bradley_terry import Comparison, bradley_terry, chances

PANDALM = Path(__file__).parents[2] / "examples" / "pandalm" / "data" / "pandalm.json"


@pytest.fixture(scope="module")
def votes() -> list[Comparison]:
    """What three people preferred in each of 150 pairs of responses by five models."""
    return [
        (*pair["cmp_key"].split("_"), ("tie", "A", "B")[pair[f"annotator{person}"]])
        for pair in json.loads(PANDALM.read_text(encoding="utf-8"))
        for person in (1, 2, 3)
    ]


def test_two_are_as_strong_as_they_win() -> None:
    first, second = bradley_terry([("x", "y", "A")] * 3 + [("y", "x", "A")])
    assert (first.name, first.wins, first.comparisons, second.wins) == ("x", 3, 4, 1)
    assert first.log_strength - second.log_strength == pytest.approx(math.log(3))
    assert first.log_strength + second.log_strength == pytest.approx(0)
    assert chances([first, second])[("x", "y")] == pytest.approx(0.75)


def test_three_that_met_as_the_model_says_have_its_strengths() -> None:
    """Each pair's meetings split as p_i / (p_i + p_j), for p of 1, 2 and 4: the model's own most likely explanation."""
    wins = {("a", "b"): (5, 10), ("b", "c"): (4, 8), ("a", "c"): (3, 12)}
    comparisons = [
        (one, other, preferred)
        for (one, other), counts in wins.items()
        for preferred, count in zip("AB", counts, strict=True)
        for _ in range(count)
    ]
    found = {one.name: one.log_strength for one in bradley_terry(comparisons)}
    assert found["b"] - found["a"] == pytest.approx(math.log(2), abs=1e-9)
    assert found["c"] - found["b"] == pytest.approx(math.log(2), abs=1e-9)


def test_real_votes_have_the_strengths_of_the_greatest_likelihood(votes: list[Comparison]) -> None:
    found = bradley_terry(votes)
    assert {one.group for one in found} == {0}
    names = [one.name for one in found]
    points = {"A": 1.0, "B": 0.0, "tie": 0.5}

    def loss(logs: np.ndarray) -> float:
        lead = np.array([logs[names.index(a)] - logs[names.index(b)] for a, b, _ in votes])
        won = np.array([points[preferred] for _, _, preferred in votes])
        return float((won * np.logaddexp(0, -lead) + (1 - won) * np.logaddexp(0, lead)).sum())

    best = minimize(loss, np.zeros(len(names)), tol=1e-12).x
    assert [one.log_strength for one in found] == pytest.approx(list(best - best.mean()), abs=1e-4)
    assert loss(np.array([one.log_strength for one in found])) <= loss(best) + 1e-9
    assert sum(one.wins for one in found) == len(votes)


def test_the_order_of_names_and_of_comparisons_says_nothing(votes: list[Comparison]) -> None:
    turned = [(b, a, {"A": "B", "B": "A", "tie": "tie"}[preferred]) for a, b, preferred in reversed(votes)]
    for one, other in zip(bradley_terry(votes), bradley_terry(turned), strict=True):
        assert one.name == other.name
        assert one.log_strength == pytest.approx(other.log_strength, abs=1e-9)


def test_who_cannot_be_compared_is_in_another_group() -> None:
    apart = bradley_terry([("a", "b", "tie"), ("x", "y", "A"), ("y", "x", "A")])
    assert [(one.name, one.group, one.log_strength) for one in apart] == [
        ("a", 0, 0.0),
        ("b", 0, 0.0),
        ("x", 1, 0.0),
        ("y", 1, 0.0),
    ]
    assert ("a", "x") not in chances(apart)


def test_who_always_lost_has_no_finite_strength_but_with_a_prior() -> None:
    lost = [("a", "b", "A"), ("b", "a", "A"), ("a", "never", "A"), ("b", "never", "A")]
    assert [(one.name, one.group) for one in bradley_terry(lost)] == [("a", 0), ("b", 0), ("never", 1)]
    weighed = bradley_terry(lost, prior=1)
    assert {one.group for one in weighed} == {0}
    assert weighed[-1].name == "never"
    assert weighed[-1].wins == 0
    assert math.isfinite(weighed[-1].log_strength)


def test_nothing_gives_nothing_and_nonsense_is_refused() -> None:
    assert bradley_terry([]) == []
    assert bradley_terry([("a", "a", "A")])[0].comparisons == 0
    with pytest.raises(ValueError, match="expected A, B or tie"):
        bradley_terry([("a", "b", "C")])
    with pytest.raises(ValueError, match="prior"):
        bradley_terry([], prior=-1)
