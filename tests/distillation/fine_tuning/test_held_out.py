"""The validation part: gold first, in proportion, and never what training cannot spare."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from annotation_pipelines.distillation.fine_tuning.held_out import judged, validation_rows


@given(st.integers(0, 400), st.floats(0, 1), st.integers(2, 12), st.integers(0, 99))
def test_no_class_loses_its_last_row_and_training_keeps_most(n: int, share: float, k: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    classes, gold = generator.integers(0, k, n), generator.random(n) < share
    found = validation_rows(classes, gold, seed)
    trained = np.setdiff1d(np.arange(n), found)
    assert len(set(found.tolist())) == len(found)
    assert set(classes[trained].tolist()) == set(classes.tolist())
    assert 2 * len(found) <= n
    assert 2 * gold[found].sum() <= max(gold.sum(), 80)
    if gold.sum() >= 40:
        assert gold[found].all()
    if n < 40:
        assert len(found) == 0


def test_classes_are_held_out_in_proportion() -> None:
    classes = np.repeat([0, 1, 2], [600, 300, 100])
    found = validation_rows(classes, np.zeros(1000, dtype=bool), 0)
    np.testing.assert_allclose(np.bincount(classes[found]), [90, 45, 15], atol=1)
    assert validation_rows(classes, np.zeros(1000, dtype=bool), 1).tolist() != found.tolist()


def test_the_temperature_undoes_too_much_and_too_little_confidence() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(4000, 3))
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    drawn = np.array([generator.choice(3, p=row) for row in chances])
    right = np.eye(3)[drawn]
    for factor in (0.5, 1.0, 3.0):
        found = judged(logits * factor, right)
        np.testing.assert_allclose(found.temperature, factor, rtol=0.15)
    assert found.agreement == (logits.argmax(axis=1) == drawn).mean()
