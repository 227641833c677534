"""The text template, and columns as text."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotation_pipelines.errors import DeclarationError, SourceError
from annotation_pipelines.project import RecordColumns
from annotation_pipelines.sources.columns import Template, as_json, as_text, require_columns, required_columns

NAMES = st.text(st.characters(exclude_characters="{}", exclude_categories=["Cs"]), min_size=1, max_size=8)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def render(template: str, **columns: Any) -> str:
    frame = pl.DataFrame({name: [value] for name, value in columns.items()})
    text: str = frame.select(text=Template.parse(template).render(frame.schema)).item()
    return text


@given(columns=st.dictionaries(NAMES, TEXTS | st.none(), min_size=1, max_size=4), literals=st.lists(TEXTS, max_size=5))
def test_a_template_is_its_literals_and_columns_in_turn(columns: dict[str, str | None], literals: list[str]) -> None:
    template, expected = "", ""
    for index, (name, value) in enumerate(columns.items()):
        literal = literals[index] if index < len(literals) else ""
        template += literal.replace("{", "{{").replace("}", "}}") + "{" + name + "}"
        expected += literal + (value or "")
    assert render(template, **columns) == expected


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{{text}}}", "{a}"),
        ("{{text}} {text}", "{text} a"),
        ("{text}{text}", "aa"),
        ("}}{text}", "}a"),
        ('{{"label": "{text}"}}', '{"label": "a"}'),
    ],
)
def test_double_braces_are_braces(template: str, expected: str) -> None:
    assert render(template, text="a") == expected


@pytest.mark.parametrize("template", ["{text", "text}", "{te{xt}", "{}", "{text}}", "{{text}"])
def test_a_brace_without_its_partner_is_refused(template: str) -> None:
    with pytest.raises(DeclarationError, match="without its partner at character"):
        Template.parse(template)


def test_a_template_without_columns_is_refused() -> None:
    with pytest.raises(DeclarationError, match="names no column"):
        Template.parse("the same for all")


def test_null_columns_are_empty_and_numbers_print() -> None:
    assert render("{a}/{b}/{c}/{d}", a=None, b=7, c=True, d=1.5) == "/7/true/1.5"


def test_a_missing_column_is_named_with_the_closest_one() -> None:
    source = RecordColumns(id="id", text="{title}", gold="tag")
    with pytest.raises(
        SourceError, match=r"expected a column 'tag', found 'id', 'title', 'tags'\. Did you mean 'tags'"
    ):
        require_columns(["id", "title", "tags"], source, "a.csv")
    with pytest.raises(SourceError, match=r"a.csv: .*Separate the columns by commas"):
        require_columns(["id;title;tag"], source, "a.csv")


def test_all_columns_that_the_declaration_names_are_required() -> None:
    source = RecordColumns(id="i", text="{a} {b} {a}", time="t", gold="g", attributes=["x", "a"])
    assert required_columns(source) == ["i", "a", "b", "t", "g", "x"]


def test_columns_of_any_type_have_a_text() -> None:
    frame = pl.DataFrame(
        {
            "list": [[1, None], None],
            "struct": [{"x": 'ü"'}, None],
            'we"i{rd': [[1], [2]],
            "bytes": [b"caf\xc3\xa9", b"\xff"],
            "time": [datetime(2020, 1, 1), None],
            "category": pl.Series(["x", None], dtype=pl.Categorical),
            "nothing": [None, None],
            "image": [{"bytes": b"\x00"}, None],
        }
    )
    texts = frame.select(as_text(name, dtype).alias(name) for name, dtype in frame.schema.items()).row(0)
    assert texts == ("[1,null]", '{"x":"ü\\""}', "[1]", "café", "2020-01-01 00:00:00.000000", "x", None, None)
    assert frame.select(as_text("bytes", pl.Binary())).to_series().to_list() == ["café", "\ufffd"]


def test_attributes_are_one_json_object_without_what_json_cannot_hold() -> None:
    frame = pl.DataFrame(
        {"a": [1.0, float("nan")], "b": ["x\n", None], "bytes": [b"\x00"] * 2, "image": [{"b": b"\x00"}] * 2}
    )
    assert as_json(frame, frame.columns).to_list() == ['{"a":1.0,"b":"x\\n"}', '{"a":null,"b":null}']
    assert as_json(frame, ["bytes"]).to_list() == [None, None]
