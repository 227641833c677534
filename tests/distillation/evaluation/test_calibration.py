"""Calibration: the error and the score of the papers, from sums."""

from __future__ import annotations

import numpy as np
import pytest

from annotation_pipelines.distillation.evaluation.calibration import measure, reliability


def test_error_and_score_are_those_of_their_definitions() -> None:
    generator = np.random.default_rng(0)
    confidence = np.append(generator.random(500), [0.0, 1.0])
    right = generator.random(502) < confidence**2
    ece, brier = measure(right.tolist(), confidence)
    place = np.minimum((confidence * 10).astype(int), 9)
    expected = sum(
        abs(confidence[place == b].mean() - right[place == b].mean()) * (place == b).sum() for b in set(place)
    )
    assert ece.value == pytest.approx(expected / 502)
    assert brier.value == pytest.approx(((confidence - right) ** 2).mean())
    assert (ece.lower or 0) < (ece.value or 0) < (ece.upper or 0)
    table = reliability(right.tolist(), confidence)
    assert table["n"].sum() == 502
    gaps = (table["mean_confidence"] - table["accuracy"]).abs() * table["n"]
    assert gaps.sum() / 502 == pytest.approx(ece.value)


def test_nothing_is_measured_on_nothing() -> None:
    assert measure([], np.array([])) == []
    assert reliability([], np.array([])).is_empty()
