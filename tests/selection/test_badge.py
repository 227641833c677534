"""BADGE on gradients that are never written out: the same as on gradients that are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotation_pipelines.selection import badge as module
from annotation_pipelines.selection.badge import badge
from annotation_pipelines.selection.uncertainty import residuals


def scene(n: int, seed: int = 0, k: int = 4, d: int = 6) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    vectors = generator.normal(size=(n, d)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors, residuals(generator.dirichlet(np.full(k, 0.5), size=n))


@given(n=st.integers(0, 30), count=st.integers(0, 35), certain=st.booleans())
@settings(max_examples=40, deadline=None)
def test_as_many_different_rows_are_given_as_there_can_be(n: int, count: int, certain: bool) -> None:
    vectors, gradients = scene(n)
    rows = badge(vectors, np.zeros_like(gradients) if certain else gradients, count)
    assert len(rows) == len(set(rows.tolist())) == min(n, count)


@pytest.mark.parametrize("seed", range(4))
def test_the_draws_are_those_of_k_means_plus_plus_on_the_gradients(seed: int) -> None:
    vectors, each = scene(50)
    gradients = (each[:, :, None] * vectors[:, None, :]).reshape(50, -1).astype(np.float64)
    generator = np.random.default_rng(seed)
    expected = [int(np.square(gradients).sum(axis=1).argmax())]
    while len(expected) < 8:
        distance = np.square(gradients[:, None] - gradients[expected][None]).sum(axis=2).min(axis=1)
        cumulated = np.cumsum(distance)
        expected.append(int(np.searchsorted(cumulated, generator.random() * cumulated[-1], side="right")))
    assert badge(vectors, each, 8, seed=seed).tolist() == expected


def test_certain_records_are_left_while_there_are_doubtful_ones() -> None:
    vectors, gradients = scene(60)
    gradients[20:] = 0
    rows = badge(vectors, gradients, 10)
    # One record of no gradient may stand for all of them.
    assert (rows < 20).sum() >= 9


def test_another_seed_draws_others() -> None:
    vectors, gradients = scene(60)
    assert len({tuple(badge(vectors, gradients, 5, seed=seed).tolist()) for seed in range(5)}) > 1


def test_of_very_many_the_first_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 15)
    vectors, gradients = scene(60)
    assert badge(vectors, gradients, 5).max() < 15
    assert len(badge(vectors, gradients, 40)) == 40


def test_residuals_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="residuals"):
        badge(scene(3)[0], scene(4)[1], 2)
