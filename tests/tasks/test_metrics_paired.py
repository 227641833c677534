"""Paired differences of any metric that is made of sums over records."""

from __future__ import annotations

import numpy as np
import pytest

from annotation_pipelines.tasks.metrics import labels, multilabel
from annotation_pipelines.tasks.metrics.bootstrap import Metric, difference, paired

CLASSES = ("a", "b", "c")


def test_of_accuracies_it_is_the_difference_of_right_answers() -> None:
    generator = np.random.default_rng(1)
    truth = generator.choice(CLASSES, 120).tolist()
    first = [t if generator.random() < 0.8 else "a" for t in truth]
    second = [t if generator.random() < 0.6 else "b" for t in truth]
    one, other = (labels.measure(truth, said, CLASSES, seed=2)[0] for said in (first, second))
    gain = paired(one, other, seed=2)
    plain = difference(
        [a == t for a, t in zip(first, truth, strict=True)],
        [b == t for b, t in zip(second, truth, strict=True)],
        seed=2,
    )
    assert gain is not None and plain is not None
    for name in ("value", "lower", "upper", "least", "records"):
        assert getattr(gain, name) == pytest.approx(getattr(plain, name))
    assert gain.lower < gain.least < gain.value < gain.upper


def test_of_any_metric_both_see_the_same_draws() -> None:
    generator = np.random.default_rng(3)
    truth = [generator.choice(CLASSES, 2, replace=False).tolist() for _ in range(200)]
    first = [row if generator.random() < 0.5 else ["a"] for row in truth]
    second = [row if i % 20 else ["c"] for i, row in enumerate(first)]
    one, other = (multilabel.measure(truth, said, CLASSES)[0] for said in (first, second))
    gain = paired(one, other)
    assert gain is not None
    assert gain.value == pytest.approx((one.value or 0) - (other.value or 0))
    # The two share most answers: together they vary far less than apart.
    assert gain.upper - gain.lower < ((one.upper or 0) - (one.lower or 0)) * 0.7
    same = paired(one, one)
    assert same is not None and (same.lower, same.upper) == (0, 0)


def test_not_worse_is_said_only_when_a_larger_loss_is_ruled_out() -> None:
    right = np.ones(400, dtype=bool)
    slips = right.copy()
    slips[:4] = False
    gain = difference(slips, right)
    assert gain is not None and gain.worse
    assert gain.not_worse(0.03) and not gain.not_worse(0.01)
    few = difference([True, False, True, True], [True, True, False, True])
    assert few is not None and few.value == 0 and not few.not_worse(0.03)


def test_what_cannot_be_compared_is_not() -> None:
    one = labels.measure(["a", "b"], ["a", "b"], CLASSES)[0]
    assert paired(one, Metric("accuracy", "", 0.5, None, None, 2)) is None
    with pytest.raises(ValueError, match="same records"):
        paired(one, labels.measure(["a"], ["a"], CLASSES)[0])
