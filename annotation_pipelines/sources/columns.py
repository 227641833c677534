"""What a record is made of: the text template, the columns that a source must have, and their values as text."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from annotation_pipelines.errors import DeclarationError, SourceError
from annotation_pipelines.project import RecordColumns

if TYPE_CHECKING:
    from polars._typing import PolarsDataType

_TOKEN = re.compile(r"(?P<open>\{\{)|(?P<close>\}\})|\{(?P<column>[^{}]+)\}|(?P<stray>[{}])|(?P<literal>[^{}]+)")
_REPLACEMENT = "\ufffd"


@dataclass(frozen=True)
class Template:
    """A text with columns in it: `literals[0]`, `columns[0]`, `literals[1]`, and so on to the last literal."""

    literals: tuple[str, ...]
    columns: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Template:
        """Read a template such as "{title}. {description}"; `{{` and `}}` stand for braces.

        Raises:
            DeclarationError: A brace has no partner, or no column is named.
        """
        literals, columns = [""], list[str]()
        for token in _TOKEN.finditer(text):
            if token["stray"]:
                raise DeclarationError(
                    f"the text template {text!r} has a {token['stray']!r} without its partner at character "
                    f"{token.start() + 1}",
                    where="source.text",
                    todo="Write a column as {name}, and a brace itself as {{ or }}",
                )
            if token["column"]:
                columns.append(token["column"])
                literals.append("")
            else:
                literals[-1] += "{" if token["open"] else "}" if token["close"] else token["literal"]
        if not columns:
            raise DeclarationError(
                f"the text template {text!r} names no column",
                where="source.text",
                todo='Write the columns in braces, as in "{title}. {description}"',
            )
        return cls(tuple(literals), tuple(columns))

    def render(self, schema: pl.Schema) -> pl.Expr:
        """The filled-in template for frames of this schema; a null column is empty."""
        parts = [pl.lit(self.literals[0])]
        for column, literal in zip(self.columns, self.literals[1:], strict=True):
            parts += [as_text(column, schema[column]).fill_null(""), pl.lit(literal)]
        return pl.concat_str(parts)


def required_columns(source: RecordColumns) -> list[str]:
    """The columns that the declaration names, each once."""
    templates = (Template.parse(text) for text in source.templates.values())
    used = [column for template in templates for column in template.columns]
    named = [source.id, *used, source.time, source.gold, source.synthetic, *(source.attributes or [])]
    return list(dict.fromkeys(name for name in named if name is not None))


def require_columns(found: Sequence[str], source: RecordColumns, where: object = None) -> None:
    """Check that every column that the declaration names is there.

    Raises:
        SourceError: One is not; the message lists the columns there are, and the closest one.
    """
    for name in required_columns(source):
        if name in found:
            continue
        close = difflib.get_close_matches(name, found, n=1) or [f for f in found if f.strip().lower() == name.lower()]
        todo = "Correct the name under source: in defs.yaml, or add the column"
        if close:
            todo = f"Did you mean {close[0]!r}? {todo}"
        elif len(found) == 1 and re.search(r"[;\t|]", found[0]):
            todo = "Separate the columns by commas"
        raise SourceError(
            f"expected a column {name!r}, found {', '.join(map(repr, found)) or 'no columns'}", where=where, todo=todo
        )


def as_text(name: str, dtype: pl.DataType) -> pl.Expr:
    """A column of any type as text: numbers and times as they print, bytes as UTF-8, lists and structs as JSON."""
    column = pl.col(name)
    if isinstance(dtype, pl.String):
        return column
    if isinstance(dtype, pl.Datetime | pl.Duration):
        return column.dt.to_string("iso")
    if dtype.is_nested():
        encoded = pl.struct(column).struct.json_encode()
        # {"name":[1,2]} -> [1,2]: polars encodes structs only.
        value = encoded.str.replace(r'^\{"(?:[^"\\]|\\.)*":', "").str.head(-1)
        return pl.when(column.is_null() | pl.lit(not _is_json(dtype))).then(None).otherwise(value)
    if isinstance(dtype, pl.Binary):
        return column.map_batches(_decoded, return_dtype=pl.String)
    if isinstance(dtype, pl.Object):
        return pl.lit(None, pl.String)
    return column.cast(pl.String, strict=False)


_FLAGS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False, "": False}


def as_flags(frame: pl.DataFrame, name: str) -> pl.Series:
    """A column of yes or no as booleans, whatever its type; null is no.

    Raises:
        SourceError: A value is neither.
    """
    given = frame.select(as_text(name, frame.schema[name]).fill_null("").str.strip_chars().str.to_lowercase())
    words = given.to_series()
    strange = words.filter(~words.is_in(list(_FLAGS)))
    if len(strange):
        raise SourceError(
            f"expected true or false in the column {name!r}, found {strange[0][:40]!r}",
            where="source.synthetic",
            todo="Write true where a model wrote the record, and false or nothing elsewhere",
        )
    return words.replace_strict(_FLAGS, return_dtype=pl.Boolean)


def as_json(frame: pl.DataFrame, columns: Iterable[str]) -> pl.Series:
    """Some columns of each row as one JSON object; null without columns.

    Columns that JSON cannot hold, such as bytes, are left out.
    """
    parts = [name for name in columns if _is_json(frame.schema[name])]
    if not parts:
        return pl.repeat(None, len(frame), dtype=pl.String, eager=True)
    return frame.select(json=pl.struct(parts).struct.json_encode()).to_series()


def without_nul(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with NUL characters replaced: databases, terminals and endpoints stumble over them."""
    return frame.with_columns(pl.col(pl.String).str.replace_all("\0", _REPLACEMENT, literal=True))


def _is_json(dtype: pl.DataType) -> bool:
    """Whether polars can encode the type as JSON; it panics over bytes."""
    if isinstance(dtype, pl.Struct):
        return all(_is_json(_instance(field.dtype)) for field in dtype.fields)
    if isinstance(dtype, pl.List | pl.Array):
        return _is_json(_instance(dtype.inner))
    return not isinstance(dtype, pl.Binary | pl.Object)


def _decoded(column: pl.Series) -> pl.Series:
    texts = [None if value is None else value.decode("utf-8", errors="replace") for value in column]
    return pl.Series(column.name, texts, pl.String)


def _instance(dtype: PolarsDataType) -> pl.DataType:
    return dtype() if isinstance(dtype, type) else dtype
