"""What speaks against a rationale, seen from its text alone."""

from __future__ import annotations

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from annotation_pipelines.quality.rationales import (
    BOILERPLATE,
    CONTRADICTS,
    COPIES,
    FABRICATED,
    rationale_problems,
)

LABELS = ["agrees", "denies", "takes no side"]
TEXT = "The sea has risen by twenty centimetres since 1900, and nobody at the harbour doubts why."


def problem(rationale: str | None, value: str | None = "agrees", content: str = TEXT) -> str | None:
    columns = (pl.Series([x], dtype=pl.String) for x in (rationale, content, value))
    return rationale_problems(*columns, LABELS).item()


def test_reasons_that_quote_the_record_and_name_their_label_stand() -> None:
    assert problem('It says "the sea has  RISEN by twenty centimetres", a fact of warming: it agrees.') is None
    assert problem("It takes the rise for a fact.") is None
    assert problem(None) is None


def test_a_quotation_that_the_record_does_not_have_is_fabricated() -> None:
    assert problem('It says "the glaciers of Norway melted away", so it agrees.') == FABRICATED
    assert problem("Es sagt \u201cdie Gletscher sind alle geschmolzen\u201d.") == FABRICATED


def test_a_quoted_word_or_label_is_no_quotation() -> None:
    assert problem('This is a case of "evidence", hence "agrees" and not "takes no side".') is None


def test_reasons_that_name_only_another_label_contradict() -> None:
    assert problem("The author plainly denies it.") == CONTRADICTS
    assert problem("The author neither denies it nor doubts: he agrees.") is None


def test_a_rationale_that_is_the_record_gives_no_reasons() -> None:
    assert problem(TEXT.upper()) == COPIES


def test_one_rationale_for_three_different_records_is_boilerplate() -> None:
    same = "The text states its position clearly."
    contents = pl.Series(["one text here", "two texts here", "three texts here", "three texts here"])
    values = pl.Series(["agrees"] * 4)
    assert rationale_problems(pl.Series([same] * 4), contents, values, LABELS).to_list() == [BOILERPLATE] * 4
    assert rationale_problems(pl.Series([same] * 2), contents[2:], values[2:], LABELS).to_list() == [None, None]


@given(st.text(), st.text(), st.sampled_from([*LABELS, None]))
def test_any_rationale_ends_in_a_verdict(rationale: str, content: str, value: str | None) -> None:
    assert problem(rationale, value, content) in (None, FABRICATED, CONTRADICTS, COPIES, BOILERPLATE)
