"""From rows to records: what becomes of every row of a source.

Every row ends as exactly one record or one rejected row. A row is rejected for the first of these reasons: no_id,
empty_content, no_time (where partitions are by time), outside_partitions, duplicate_id. Of several rows with one id
the newest event time wins; between equal ones, or without time, the last in the order of the source. The reason
unknown_label is a note beside the record: the record is kept, its gold is not. So is empty_part: of a record with
several parts one is empty.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import polars as pl

from annotation_pipelines.content import SOLE, Content
from annotation_pipelines.partitions import UTC_TIME, Calendar
from annotation_pipelines.project import RecordColumns
from annotation_pipelines.sources.columns import Template, as_flags, as_json, as_text, require_columns, without_nul
from annotation_pipelines.sources.times import event_times
from annotation_pipelines.tasks.base import Invalid, Task

UNPLACED = ""
"""The partition key under which rows without a partition are rejected."""

UNKNOWN_LABEL = "unknown_label"
EMPTY_PART = "empty_part"
NOTES = (UNKNOWN_LABEL, EMPTY_PART)
"""Reasons that stand beside a record, which is kept."""

DUPLICATE = "duplicate_id"

RECORD_SCHEMA = pl.Schema(
    {
        "record_id": pl.String(),
        "content_hash": pl.String(),
        "content": pl.String(),
        "attributes": pl.String(),
        "event_time": UTC_TIME,
        "partition_key": pl.String(),
        "gold": pl.String(),
        "synthetic": pl.Boolean(),
    }
)
REJECTED_SCHEMA = pl.Schema(
    {"partition_key": pl.String(), "record_id": pl.String(), "reason": pl.String(), "row": pl.String()}
)


@dataclass(frozen=True)
class Records:
    """The records of a source and the rows that are none.

    Attributes:
        records: As in `schema.RECORDS`, without the times of ingest; in the order of the source.
        rejected: As in `schema.REJECTED_RECORDS`, without seen_at; partition_key is "" where a row has none.
        rows: The rows they came from.
        positions: For each record, the number of its row in `rows`.
    """

    records: pl.DataFrame
    rejected: pl.DataFrame
    rows: pl.DataFrame
    positions: pl.Series

    @property
    def dropped(self) -> pl.DataFrame:
        """The rejected rows that did not become a record: all but the notes."""
        return self.rejected.filter(~pl.col("reason").is_in(NOTES))

    def of_partition(self, key: str) -> Records:
        """Those of one partition."""
        here = self.records["partition_key"] == key
        return replace(
            self,
            records=self.records.filter(here),
            rejected=self.rejected.filter(pl.col("partition_key") == key),
            positions=self.positions.filter(here),
        )

    def without(self, ids: pl.Series, reason: str) -> Records:
        """The same with some records rejected."""
        out = self.records["record_id"].is_in(ids.implode())
        gone = self.records.filter(out).select(
            "partition_key", "record_id", reason=pl.lit(reason), row=_row_json(self.rows, self.positions.filter(out))
        )
        notes = pl.col("reason").is_in(NOTES) & pl.col("record_id").is_in(ids.implode())
        return replace(
            self,
            records=self.records.filter(~out),
            rejected=pl.concat([self.rejected.filter(~notes), gone]),
            positions=self.positions.filter(~out),
        )


def to_records(rows: pl.DataFrame, source: RecordColumns, task: Task, calendar: Calendar) -> Records:
    """Make records of rows.

    Args:
        rows: As the source gave them.
        source: Which columns make a record.
        task: What gold may be.
        calendar: The partitions.

    Raises:
        SourceError: A column is missing, or the event times are no times.
        DeclarationError: The text template is none.
    """
    if rows.is_empty() and not rows.width:
        return _nothing(rows)
    require_columns(rows.columns, source)
    rows = without_nul(rows)
    found = _read(rows, source, calendar)

    timed = calendar.start is not None
    reason = (
        pl.when(pl.col("record_id").is_null())
        .then(pl.lit("no_id"))
        .when(pl.col("content") == "")
        .then(pl.lit("empty_content"))
        .when(pl.lit(timed) & pl.col("event_time").is_null())
        .then(pl.lit("no_time"))
        .when(pl.col("partition_key").is_null())
        .then(pl.lit("outside_partitions"))
    )
    found = found.with_columns(reason=reason)
    newest = (
        found.filter(pl.col("reason").is_null())
        .sort("event_time", "position", nulls_last=False)
        .unique("record_id", keep="last", maintain_order=True)
    )
    kept = found["position"].is_in(newest["position"].implode())
    records = found.filter(kept)
    gold = canonical_gold(task, records["gold"], records["content"])
    unknown = records["gold"].is_not_null() & gold.is_null()
    rejected = found.filter(~kept).with_columns(pl.col("reason").fill_null(DUPLICATE))
    notes = [
        records.filter(unknown).with_columns(reason=pl.lit(UNKNOWN_LABEL)),
        records.filter(pl.col("empty_part")).with_columns(reason=pl.lit(EMPTY_PART)),
    ]
    rejected = pl.concat([rejected, *notes]).sort("position", maintain_order=True)
    records = records.with_columns(gold, content_hash=content_hashes(records["content"]))
    return Records(
        records.select(RECORD_SCHEMA.names()),
        rejected.select(
            pl.col("partition_key").fill_null(UNPLACED),
            "record_id",
            "reason",
            row=_row_json(rows, rejected["position"]),
        ),
        rows,
        records["position"],
    )


def content_hashes(contents: pl.Series) -> pl.Series:
    """A stable hash of each content: 32 hexadecimal digits of BLAKE2b."""
    blake2b = hashlib.blake2b
    return pl.Series(
        "content_hash", [blake2b(text.encode(), digest_size=16).hexdigest() for text in contents], dtype=pl.String
    )


def _read(rows: pl.DataFrame, source: RecordColumns, calendar: Calendar) -> pl.DataFrame:
    """position, record_id, content, empty_part, attributes, event_time, partition_key, gold, synthetic of every row;
    null where missing.
    """
    schema = rows.schema
    templates = {name: Template.parse(text) for name, text in source.templates.items()}
    record_id = as_text(source.id, schema[source.id])
    gold = as_text(source.gold, schema[source.gold]).str.strip_chars() if source.gold else pl.lit(None, pl.String)
    if source.time is None:
        times = pl.repeat(None, len(rows), dtype=UTC_TIME, eager=True)
    else:
        times = event_times(rows[source.time], calendar.timezone, source.time_format)
    synthetic = as_flags(rows, source.synthetic) if source.synthetic else pl.lit(None, pl.Boolean)
    named = {source.id, source.time, source.gold, source.synthetic}
    used = named.union(*(template.columns for template in templates.values()))
    others = source.attributes if source.attributes is not None else [c for c in rows.columns if c not in used]
    content, empty_part = _content(
        rows.select(**{name: t.render(schema).str.strip_chars() for name, t in templates.items()})
    )
    return rows.select(
        position=pl.int_range(pl.len(), dtype=pl.Int64),
        record_id=pl.when(record_id.str.strip_chars() != "").then(record_id),
        content=content,
        empty_part=empty_part,
        attributes=as_json(rows, others),
        event_time=times,
        partition_key=calendar.key_of(times),
        gold=pl.when(gold != "").then(gold),
        synthetic=synthetic,
    )


def canonical_gold(task: Task, given: pl.Series, contents: pl.Series) -> pl.Series:
    """The labels that people gave, in the form in which they are stored; null where they are none of the task's.

    Args:
        given: n labels as the source has them; null where there is none.
        contents: The contents that they are about, as they are stored.
    """

    def label(text: str, content: Content) -> str | None:
        try:
            return task.canonical(text, content)
        except Invalid:
            return None

    if not task.reads_content:
        known = {text: label(text, Content.of_text("")) for text in given.drop_nulls().unique()}
        found = [None if text is None else known[text] for text in given]
    else:
        found = [
            None if text is None else label(text, Content.read(content))
            for text, content in zip(given, contents, strict=True)
        ]
    return pl.Series("gold", found, pl.String)


def _content(parts: pl.DataFrame) -> tuple[pl.Series, pl.Series]:
    """The columns content (empty where all parts are) and empty_part, out of a column for each part."""
    rows = parts.iter_rows()
    if parts.columns == [SOLE]:
        stored = [Content.of_text(text).stored for (text,) in rows]
        empty = [False] * len(stored)
    else:
        names = parts.columns
        stored, empty = [], []
        for texts in rows:
            stored.append(Content.of_parts(dict(zip(names, texts, strict=True))).stored if any(texts) else "")
            empty.append(any(texts) and not all(texts))
    return pl.Series("content", stored, pl.String), pl.Series("empty_part", empty, pl.Boolean)


def _row_json(rows: pl.DataFrame, positions: pl.Series) -> pl.Series:
    return as_json(rows.select(pl.all().gather(positions)), rows.columns)


def _nothing(rows: pl.DataFrame) -> Records:
    return Records(
        RECORD_SCHEMA.to_frame(eager=True),
        REJECTED_SCHEMA.to_frame(eager=True),
        rows,
        pl.Series("position", [], dtype=pl.Int64),
    )
