"""A shift of labels is what chance does not explain."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotation_pipelines.quality.label_shift import MIN_LABELS, label_shift

counts = st.dictionaries(st.sampled_from("abcd"), st.integers(0, 200), max_size=4)


def test_the_same_distribution_has_no_shift():
    shift = label_shift({"a": 30, "b": 70}, {"a": 300, "b": 700})
    assert shift.distance == pytest.approx(0)
    assert shift.beyond_chance == 0


def test_disjoint_labels_are_as_far_apart_as_can_be():
    shift = label_shift({"a": 1000}, {"b": 1000})
    assert shift.distance == pytest.approx(1)
    assert shift.beyond_chance > 0.9


def test_a_small_partition_is_allowed_more_than_a_large_one():
    small = label_shift({"a": 14, "b": 6}, {"a": 500, "b": 500})
    large = label_shift({"a": 1400, "b": 600}, {"a": 50_000, "b": 50_000})
    assert small.distance == pytest.approx(large.distance)
    assert small.beyond_chance == pytest.approx(0, abs=0.02)
    assert large.beyond_chance == pytest.approx(0.2, abs=0.03)


@pytest.mark.parametrize(
    "sides", [({}, {}), ({"a": 50}, {}), ({"a": MIN_LABELS - 1}, {"b": 50}), ({"a": 50}, {"b": 3})]
)
def test_too_few_labels_are_not_compared_and_it_says_why(sides):
    shift = label_shift(*sides)
    assert not shift.compared
    assert shift.beyond_chance == 0
    assert shift.in_words().startswith("not compared: ")


@given(counts, counts)
def test_a_distance_lies_between_0_and_1_and_does_not_depend_on_the_side(here, earlier):
    shift, turned = label_shift(here, earlier), label_shift(earlier, here)
    assert 0 <= shift.beyond_chance <= (shift.distance or 0) <= 1 + 1e-12
    assert shift.distance == pytest.approx(turned.distance)
    assert shift == label_shift(here, earlier)


def test_chance_alone_rarely_looks_like_a_shift():
    rng = np.random.default_rng(7)
    shares = [0.5, 0.3, 0.15, 0.05]
    drawn = [
        label_shift(
            dict(zip("abcd", rng.multinomial(50, shares).tolist(), strict=True)),
            dict(zip("abcd", rng.multinomial(300, shares).tolist(), strict=True)),
        )
        for _ in range(200)
    ]
    assert sum(shift.beyond_chance > 0 for shift in drawn) < 0.1 * len(drawn)
    assert max(shift.beyond_chance for shift in drawn) < 0.1
