"""Bars made of text: always short enough to be shown at once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from annotation_pipelines.reports.bars import text_bars


@given(st.dictionaries(st.text(max_size=200), st.integers(0, 10**9), max_size=100))
def test_whatever_the_labels_the_block_is_below_a_thousand_characters_and_whole(counts: dict[str, int]) -> None:
    text = text_bars(counts)
    assert len(text) < 1000
    assert text.count("```") in (0, 2)


def test_the_most_frequent_comes_first_and_the_rest_is_put_together() -> None:
    lines = text_bars({**{f"label {n}": n for n in range(1, 11)}}).splitlines()
    assert lines[1].startswith("label 10 ")
    assert lines[1].endswith(" 10 (18%)")
    assert lines[-2].startswith("2 more")


def test_nothing_is_said_as_nothing() -> None:
    assert text_bars({"a": 0}) == "nothing labelled yet"
