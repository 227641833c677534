from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from annotation_pipelines.distillation.robust.scores import read_scores

CLASSES = ["a", "b", "c"]


def test_scores_become_probabilities_in_the_order_of_the_classes() -> None:
    probabilities, known = read_scores(pl.Series(['{"b": 0.7, "a": 0.2, "c": 0.1}']), CLASSES)
    np.testing.assert_allclose(probabilities, [[0.2, 0.7, 0.1]])
    assert known.tolist() == [True]


def test_what_is_left_is_shared_by_the_labels_that_are_not_named() -> None:
    probabilities, _ = read_scores(pl.Series(['{"b": 0.7}']), CLASSES)
    np.testing.assert_allclose(probabilities, [[0.15, 0.7, 0.15]])


def test_scores_that_sum_to_more_are_scaled_down() -> None:
    probabilities, _ = read_scores(pl.Series(['{"a": 0.9, "b": 0.9}']), CLASSES)
    np.testing.assert_allclose(probabilities, [[0.5, 0.5, 0.0]], atol=1e-3)
    assert (probabilities > 0).all()


@pytest.mark.parametrize("text", [None, "", "no JSON", "[1]", "{}", '{"d": 1}', '{"a": "much"}', '{"a": NaN}'])
def test_what_is_no_score_counts_as_none(text: str | None) -> None:
    probabilities, known = read_scores(pl.Series([text], dtype=pl.String), CLASSES)
    assert not known[0]
    assert np.isnan(probabilities).all()
