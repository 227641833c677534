"""Extracted fields are measured exactly and by the words they share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotation_pipelines.tasks.metrics.fields import measure, same, same_number, word_f1

FIELDS = ["name", "city", "price"]
GOLD = [
    {"name": "Emma Li", "city": "Kiel", "price": 1200.5},
    {"name": "Bo", "city": "Oslo"},
    {"name": "Ann Lee Oh"},
]
FOUND: list[Mapping[str, Any] | None] = [
    {"name": "Emma", "city": "Kiel", "price": "1,200.50 USD"},
    {"name": "Bo", "city": "Oslo"},
    {"name": "Ann Lee Oh", "city": "Bergen"},
]


def values(found: list[Mapping[str, Any] | None], compare: dict[str, Any]) -> dict[tuple[str, str], float | None]:
    return {(m.metric, m.label): m.value for m in measure(GOLD, found, FIELDS, compare, resamples=20)}


def test_each_field_is_compared_as_declared() -> None:
    found = values(FOUND, {"name": "fuzzy", "price": "number"})
    assert found[("exact", "name")] == pytest.approx(2 / 3)
    assert found[("fuzzy", "name")] == pytest.approx((2 / 3 + 1 + 1) / 3)
    assert found[("score", "name")] == found[("fuzzy", "name")]
    assert (found[("exact", "price")], found[("score", "price")]) == (pytest.approx(2 / 3), 1)
    assert found[("exact", "city")] == found[("score", "city")] == pytest.approx(2 / 3)
    assert found[("record_exact", "")] == pytest.approx(1 / 3)
    assert found[("exact", "")] == pytest.approx(6 / 9)
    assert found[("score", "")] == pytest.approx((found[("fuzzy", "name")] + 1 + 2 / 3) / 3)  # type: ignore[operator]


def test_f1_counts_present_fields_alone() -> None:
    found = values(FOUND, {})
    assert found[("f1", "city")] == pytest.approx(2 * 2 / (2 + 3))
    assert found[("f1", "price")] == 0
    assert found[("f1", "")] == pytest.approx(2 * (2 + 2) / (6 + 7))


def test_a_missing_object_is_wrong_in_every_field() -> None:
    found = values([None, None, None], {})
    assert found[("score", "")] == found[("fuzzy", "")] == found[("record_exact", "")] == found[("f1", "")] == 0
    assert measure([], [], FIELDS, {}) == []
    with pytest.raises(ValueError, match="as many objects"):
        measure(GOLD, [], FIELDS, {})


@pytest.mark.parametrize(
    ("one", "other", "share"),
    [
        ("Emma Li", "li, EMMA!", 1),
        ("Emma Li", "Emma", 2 / 3),
        ("a a b", "a b b", 2 / 3),
        ("東京都", "東京", 4 / 5),
        ("ＡＢＣ", "abc", 1),
        (["a", "b"], ["b", "c"], 0.5),
        ({"city": "Kiel"}, {"town": "Kiel"}, 1),
        ("", "", 1),
        ("", "…", 0),
        ("", "a", 0),
        (None, None, 1),
        (12, "12", 1),
    ],
)
def test_words_are_shared_without_regard_to_case_order_and_marks(one: object, other: object, share: float) -> None:
    assert word_f1(one, other) == word_f1(other, one) == pytest.approx(share)


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (1200.5, "1,200.50", True),
        ("$ 3", 3, True),
        (3, 3.0, True),
        (3, 4, False),
        ("3 to 4", 3, False),
        ("no", "no", True),
        (True, 1, False),
        (10**400, 10**400, True),
        (0.1 + 0.2, 0.3, True),
    ],
)
def test_numbers_are_compared_by_value(one: object, other: object, equal: bool) -> None:
    assert same_number(one, other) is equal


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)


@given(json_values, json_values)
def test_any_two_values_can_be_compared(one: object, other: object) -> None:
    assert 0 <= word_f1(one, other) <= 1
    assert word_f1(one, one) == 1
    assert same(one, one)
    assert same_number(one, one)
    assert same(one, other) <= (word_f1(one, other) == 1)
