"""Uncertainty: 0 where the student is certain, 1 where it knows nothing, reduced over tokens as declared."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotation_pipelines.project import Strategy
from annotation_pipelines.selection.uncertainty import MEASURES, Reduction, residuals, uncertainties


def simplex(n: int, k: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(k), size=n)


@pytest.mark.parametrize("strategy", MEASURES)
@given(st.integers(2, 9), st.integers(0, 5))
def test_they_lie_between_certainty_and_knowing_nothing(strategy: Strategy, k: int, seed: int) -> None:
    extremes = np.vstack([np.eye(k)[0], np.full(k, 1 / k)])
    nothing = 1 - 1 / k if strategy == "least_confidence" else 1.0
    np.testing.assert_allclose(uncertainties(extremes, strategy), [0, nothing], atol=1e-12)
    figures = uncertainties(simplex(20, k, seed), strategy)
    assert ((figures >= 0) & (figures <= nothing + 1e-12)).all()


def test_they_are_what_their_papers_say() -> None:
    row = np.array([[0.5, 0.3, 0.2]])
    assert uncertainties(row, "least_confidence")[0] == pytest.approx(0.5)
    assert uncertainties(row, "margin")[0] == pytest.approx(1 - 0.2)
    bits = 0.5 * np.log2(2) + 0.3 * np.log2(1 / 0.3) + 0.2 * np.log2(5)
    assert uncertainties(row, "entropy")[0] == pytest.approx(bits / np.log2(3))


@pytest.mark.parametrize("strategy", MEASURES)
@pytest.mark.parametrize(("reduce", "expected"), [("mean", np.mean), ("sum", np.sum), ("max", np.max)])
def test_tokens_become_one_figure(strategy: Strategy, reduce: Reduction, expected: object) -> None:
    records = [simplex(tokens, 4, tokens) for tokens in (3, 1, 7)]
    by_token = [expected(uncertainties(record, strategy)) for record in records]  # type: ignore[operator]
    np.testing.assert_allclose(uncertainties(records, strategy, reduce), by_token)


@pytest.mark.parametrize("reduce", ["mean", "sum", "max"])
def test_a_record_without_tokens_is_not_uncertain(reduce: Reduction) -> None:
    nothing = np.empty((0, 4))
    figures = uncertainties([nothing, simplex(2, 4, 0), nothing], "entropy", reduce)
    assert figures[[0, 2]].tolist() == [0, 0] and figures[1] > 0
    assert uncertainties([nothing], "margin", reduce).tolist() == [0]
    assert uncertainties([], "margin", reduce).shape == (0,)


@pytest.mark.parametrize("strategy", MEASURES)
def test_one_class_leaves_no_doubt_and_no_record_none(strategy: Strategy) -> None:
    assert uncertainties(np.ones((3, 1)), strategy).tolist() == [0, 0, 0]
    assert uncertainties(np.empty((0, 3)), strategy).shape == (0,)
    with pytest.raises(ValueError, match="shape"):
        uncertainties(np.ones(3), strategy)


def test_a_residual_is_the_gradient_of_the_loss_in_the_logits() -> None:
    logits = np.array([0.2, 1.0, -0.5])
    probabilities = np.exp(logits) / np.exp(logits).sum()

    def loss(at: np.ndarray) -> float:
        return float(np.log(np.exp(at).sum()) - at[1])

    step = 1e-6
    gradient = [(loss(logits + step * unit) - loss(logits - step * unit)) / (2 * step) for unit in np.eye(3)]
    np.testing.assert_allclose(residuals(probabilities[None])[0], gradient, atol=1e-6)


def test_residuals_of_tokens_are_summed_averaged_or_the_longest() -> None:
    record = simplex(5, 3, 0)
    each = residuals(record)
    np.testing.assert_allclose(residuals([record], "sum")[0], each.sum(axis=0), atol=1e-6)
    np.testing.assert_allclose(residuals([record], "mean")[0], each.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(residuals([record], "max")[0], each[np.linalg.norm(each, axis=1).argmax()])
    assert residuals([np.empty((0, 3)), record]).shape == (2, 3)
