"""Co-teaching: what is forgotten, when, and that it is what is wrong."""

from __future__ import annotations

import numpy as np
import pytest

from annotation_pipelines.distillation.robust.co_teaching import (
    agreed_weights,
    forget_rate,
    kept_share,
    small_losses,
)
from tests.distillation.robust.test_reweighting import poisoned


def test_the_share_falls_to_what_is_to_be_kept_and_stays_there() -> None:
    assert [kept_share(epoch, 0.4, ramp=4) for epoch in (0, 1, 2, 4, 9)] == pytest.approx([1, 0.9, 0.8, 0.6, 0.6])


def test_the_smallest_losses_are_chosen_and_never_none() -> None:
    assert small_losses(np.array([3.0, 1.0, 2.0, 9.0]), 0.5).tolist() == [False, True, True, False]
    assert small_losses(np.array([3.0, 1.0]), 0.0).sum() == 1


def test_what_people_checked_outweighs_what_weights_say() -> None:
    weights = np.full(50, 0.9)
    assert forget_rate(0, 0, weights) == pytest.approx(0.1)
    assert forget_rate(40, 100, weights) == pytest.approx(41 / 110)
    assert forget_rate(100, 100, weights) == 0.5


def test_wrong_labels_are_forgotten_and_gold_is_not() -> None:
    vectors, targets, gold, bad = poisoned(wrong=0.25)
    factors = agreed_weights(vectors, targets, np.ones(len(vectors)), gold, forget=0.25)
    assert factors[bad].mean() < 0.5 * factors[~gold & ~bad].mean()
    np.testing.assert_array_equal(factors[gold], 1)
    assert 0.6 < factors[~gold].mean() < 0.9


def test_with_nothing_to_forget_every_row_counts_whole() -> None:
    vectors, targets, gold, _ = poisoned(90)
    np.testing.assert_array_equal(agreed_weights(vectors, targets, np.ones(90), gold, forget=0.0), 1)


def test_the_same_seed_forgets_the_same() -> None:
    vectors, targets, gold, _ = poisoned(90)
    one, again = (agreed_weights(vectors, targets, np.ones(90), gold, forget=0.3, seed=2) for _ in range(2))
    np.testing.assert_array_equal(one, again)
