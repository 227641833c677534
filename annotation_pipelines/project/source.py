"""Where records come from, and how they are cut by time."""

from __future__ import annotations

from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, StrictBool, field_validator, model_validator

from annotation_pipelines.content import SOLE
from annotation_pipelines.declaration_parts import Day, NonEmpty, Part, Text

PartName = Annotated[Text, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]
"""The name of a part: letters, digits and underscores, a letter first."""


class SqlQuery(Part):
    """A query on any database that polars can read."""

    query: NonEmpty = Field(
        description="The query. `:start` and `:end`, where present, are replaced by the bounds of the partition as "
        "quoted ISO timestamps (with time zone UTC), so that the database reads only that partition."
    )
    connection_env: NonEmpty = Field(
        description="The environment variable that holds the connection URL, such as postgresql://user:pw@host/db."
    )


class DuckDBQuery(Part):
    """A query on a DuckDB file."""

    query: NonEmpty = Field(
        description="The query. `$start` and `$end`, where present, are the bounds of the partition."
    )
    database: Text = Field(
        default=":memory:", description="The DuckDB file, beside defs.yaml or absolute; opened read-only."
    )


class RecordColumns(Part):
    """Which columns make a record."""

    id: NonEmpty = Field(default="id", description="The column with the record's id, unique and stable.")
    text: NonEmpty = Field(
        default="{text}",
        description='The content of a record: a template over columns, such as "{title}. {description}". Write a brace '
        "itself as {{ or }}.",
    )
    parts: dict[PartName, NonEmpty] | None = Field(
        default=None,
        min_length=1,
        description="In place of text, for records with several parts: name to template, such as {question: "
        '"{prompt}", response_a: "{first}", response_b: "{second}"}.',
    )
    time: Text | None = Field(
        default=None, description="The column with the event time; required when partitions are by time."
    )
    time_format: Text | None = Field(
        default=None,
        description="How to read the event time where it is text and not ISO 8601 (strftime codes).",
    )
    gold: Text | None = Field(
        default=None,
        description="The column with the label that people gave, if any; what has a structure as JSON, or as lists and "
        "structs.",
    )
    synthetic: Text | None = Field(
        default=None,
        description="The column that says whether a model wrote the record (true or false, empty for no). Such a "
        "record is marked for ever, and never serves evaluation, whatever people say of it.",
    )
    attributes: list[NonEmpty] | None = Field(
        default=None, description="Further columns to keep with the record. Default: all others."
    )

    @model_validator(mode="after")
    def _text_or_parts(self) -> RecordColumns:
        if self.parts is not None and "text" in self.model_fields_set:
            raise ValueError("expected either text or parts, found both")
        return self

    @property
    def templates(self) -> dict[str, str]:
        """The template of every part of a record, by name."""
        return dict(self.parts) if self.parts is not None else {SOLE: self.text}


class Locations(Part):
    """Where records come from: exactly one of csv, parquet, jsonl, sql, duckdb, python."""

    csv: NonEmpty | list[NonEmpty] | None = Field(
        default=None, description="CSV files: a path beside defs.yaml, a glob, or an object-store URL."
    )
    parquet: NonEmpty | list[NonEmpty] | None = Field(default=None, description="Parquet files, likewise.")
    jsonl: NonEmpty | list[NonEmpty] | None = Field(default=None, description="JSON Lines files, likewise.")
    sql: SqlQuery | None = Field(default=None, description="A query on a database that polars can read.")
    duckdb: DuckDBQuery | None = Field(default=None, description="A query on a DuckDB file.")
    python: NonEmpty | None = Field(
        default=None,
        description="A callable beside defs.yaml, as file.py:function. It is called with start and end (datetimes, or "
        "None) and returns a polars frame, or an iterable of dicts.",
    )

    @property
    def kind(self) -> str:
        """Which of the six kinds of source is declared."""
        return next(k for k in SOURCE_KINDS if getattr(self, k) is not None)

    @model_validator(mode="after")
    def _one_kind(self) -> Locations:
        found = [k for k in SOURCE_KINDS if getattr(self, k) is not None]
        if len(found) != 1:
            raise ValueError(
                f"expected exactly one of {', '.join(SOURCE_KINDS)}, found {' and '.join(found) or 'none of them'}"
            )
        return self


SOURCE_KINDS = ("csv", "parquet", "jsonl", "sql", "duckdb", "python")


class Source(Locations, RecordColumns):
    """Where records come from and what makes a record."""

    on_delete: Literal["drop", "keep"] = Field(
        default="drop",
        description="What becomes of a record that the source no longer has: drop it from every later stage (its paid "
        "answers stay in the ledger, and serve again when it comes back), or keep it.",
    )


class Partitions(Part):
    """How records are cut by event time."""

    every: Literal["hour", "day", "week", "month", "none"] = Field(
        default="none", description="The length of a partition; none: a single one, called all."
    )
    start: Day | None = Field(
        default=None,
        description="The first day. A week begins on Monday and a month on the 1st: a later day moves back to it.",
    )
    end: Day | None = Field(
        default=None,
        description="The day after the last one; default: open. Within a week or month it moves on to the next.",
    )
    timezone: NonEmpty = Field(
        default="UTC",
        description="The time zone of the partitions' bounds, and of event times that name none (IANA name).",
    )
    include_current: StrictBool = Field(
        default=False, description="Whether the partition that is still running exists already."
    )

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, zone: str) -> str:
        try:
            ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError(f"expected an IANA time zone such as Europe/Berlin or UTC, found {zone!r}") from None
        return zone

    @model_validator(mode="after")
    def _bounds(self) -> Partitions:
        if self.every != "none" and self.start is None:
            raise ValueError(f"every: {self.every} needs start: the first day, as YYYY-MM-DD")
        if self.start and self.end and self.end <= self.start:
            raise ValueError(f"end ({self.end}) must come after start ({self.start})")
        return self
