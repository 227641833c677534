"""The learning curve: nested subsets, each twice as large, of what there is."""

from __future__ import annotations

import polars as pl

from annotation_pipelines.distillation.evaluation.learning_curve import LARGEST, SMALLEST, learning_curve, sizes
from annotation_pipelines.distillation.students.base import Examples
from annotation_pipelines.errors import TrainingError
from annotation_pipelines.tasks.metrics.bootstrap import Metric


def test_sizes_are_halves_down_to_the_smallest_and_never_too_large() -> None:
    assert sizes(2 * SMALLEST - 1) == []
    assert sizes(8 * SMALLEST) == [SMALLEST, 2 * SMALLEST, 4 * SMALLEST]
    assert all(SMALLEST <= size <= LARGEST for size in sizes(1_000_000))
    assert sizes(1_000_000) == sorted(sizes(1_000_000))


def test_subsets_are_nested_and_one_that_teaches_nothing_is_left_out() -> None:
    examples = Examples.of(
        pl.DataFrame({"content_hash": [f"h{i}" for i in range(4 * SMALLEST)], "label": ["a", "b"] * 2 * SMALLEST})
    )
    asked: list[set[str]] = []

    def fit(part: Examples) -> Metric | None:
        asked.append(set(part.rows["content_hash"]))
        if part.rows.height == SMALLEST:
            raise TrainingError("of one class only")
        return Metric("accuracy", "", 0.5, 0.4, 0.6, 10)

    assert [size for size, _ in learning_curve(examples, fit)] == [2 * SMALLEST]
    assert asked[0] < asked[1]
    shuffled = Examples(examples.rows.sample(fraction=1, shuffle=True, seed=3), examples.audit)
    before = list(asked)
    asked.clear()
    learning_curve(shuffled, fit)
    assert asked == before
