"""Metrics: scikit-learn's figures, and intervals that hold what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotation_pipelines.tasks.metrics.bootstrap import Metric, difference
from annotation_pipelines.tasks.metrics.labels import measure

LABELS = ["a", "b", "c"]
Pairs = list[tuple[str, str | None]]
pairs = st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from([*LABELS, None])), min_size=1, max_size=40)


def by_name(metrics: list[Metric]) -> dict[tuple[str, str], Metric]:
    return {(metric.metric, metric.label): metric for metric in metrics}


@given(pairs)
@settings(max_examples=40, deadline=None)
@pytest.mark.filterwarnings("ignore")
def test_values_are_those_of_scikit_learn(rows: Pairs) -> None:
    from sklearn.metrics import accuracy_score, cohen_kappa_score, f1_score

    truth, answers = [a for a, _ in rows], [b for _, b in rows]
    filled = [answer or "none" for answer in answers]
    found = by_name(measure(truth, answers, LABELS, resamples=20))
    assert found["accuracy", ""].value == pytest.approx(accuracy_score(truth, filled))
    occurring = [label for label in LABELS if label in truth or label in filled]
    expected = f1_score(truth, filled, average="macro", labels=occurring, zero_division=0)
    assert found["macro_f1", ""].value == pytest.approx(expected)
    kappa = cohen_kappa_score(truth, filled)
    if np.isnan(kappa):
        assert found["kappa", ""].value is None
    else:
        assert found["kappa", ""].value == pytest.approx(kappa, abs=1e-9)
    for label in LABELS:
        metric = found["f1", label]
        assert metric.records == truth.count(label)
        if label not in occurring:
            assert metric.value is None
        else:
            assert metric.value == pytest.approx(
                f1_score(truth, filled, labels=[label], average="macro", zero_division=0)
            )


@given(pairs)
@settings(max_examples=30, deadline=None)
def test_intervals_hold_order_and_bounds(rows: Pairs) -> None:
    for metric in measure([a for a, _ in rows], [b for _, b in rows], LABELS, resamples=50):
        if metric.value is None or metric.lower is None or metric.upper is None:
            continue
        assert -1 <= metric.lower <= metric.upper <= 1
        if metric.metric == "accuracy":
            assert metric.lower - 0.5 <= metric.value <= metric.upper + 0.5


def test_the_interval_of_an_accuracy_is_that_of_the_binomial() -> None:
    truth = ["a"] * 400
    answers = ["a"] * 320 + ["b"] * 80
    accuracy = measure(truth, answers, LABELS)[0]
    width = 1.96 * np.sqrt(0.8 * 0.2 / 400)
    assert (accuracy.lower, accuracy.upper) == pytest.approx((0.8 - width, 0.8 + width), abs=0.006)


def test_intervals_are_the_same_every_time_and_in_every_block(monkeypatch: pytest.MonkeyPatch) -> None:
    truth, answers = ["a", "b", "c", "a"] * 10, ["a", "b", "a", "c"] * 10
    once = measure(truth, answers, LABELS, seed=3)
    assert measure(truth, answers, LABELS, seed=3) == once
    monkeypatch.setattr("annotation_pipelines.tasks.metrics.bootstrap._CELLS", 1000)
    assert measure(truth, answers, LABELS, seed=3) == once


def test_a_label_outside_the_set_counts_as_wrong() -> None:
    assert measure(["a", "b"], ["a", "what"], LABELS)[0].value == 0.5


def test_nothing_measured_is_nothing_said() -> None:
    assert measure([], [], LABELS) == []
    assert difference([], []) is None


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match="as many"):
        measure(["a"], [], LABELS)
    with pytest.raises(ValueError, match="outside"):
        measure(["z"], ["a"], LABELS)


def test_a_paired_difference_is_narrower_than_two_separate_intervals() -> None:
    first = [True] * 85 + [False] * 15
    second = [True] * 80 + [False] * 20
    gain = difference(first, second)
    assert gain is not None
    assert gain.value == pytest.approx(0.05)
    assert gain.lower > 0
    assert not gain.worse
    back = difference(second, first)
    assert back is not None and back.worse


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=50))
@settings(max_examples=40, deadline=None)
def test_a_difference_lies_in_its_bounds_and_turns_its_sign(rows: list[tuple[bool, bool]]) -> None:
    first, second = [a for a, _ in rows], [b for _, b in rows]
    gain, back = difference(first, second, resamples=100), difference(second, first, resamples=100)
    assert gain is not None and back is not None
    assert gain.value == pytest.approx(np.mean(first) - np.mean(second))
    assert back.value == pytest.approx(-gain.value)
    assert -1 <= gain.lower <= gain.upper <= 1
    assert (gain.lower, gain.upper) == pytest.approx((-back.upper, -back.lower))
