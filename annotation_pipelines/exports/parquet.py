"""Parquet files in the layout that `datasets.load_dataset` opens: a table with all that is known of each label.

https://huggingface.co/docs/datasets/repository_structure
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import polars as pl

from annotation_pipelines.content import SOLE
from annotation_pipelines.exports.formats import Column, Entry, Format
from annotation_pipelines.exports.rows import Row
from annotation_pipelines.tasks.rating import RatingTask
from annotation_pipelines.tasks.spans import labelled_spans

_ROW_GROUP = 10_000

_SPANS = pl.List(pl.Struct({"start": pl.Int64, "end": pl.Int64, "text": pl.String, "type": pl.String}))
_TYPES: dict[str, pl.DataType] = {
    "string": pl.String(),
    "float": pl.Float64(),
    "list of string": pl.List(pl.String),
    "list of {start, end, text, type}": _SPANS,
    "list of {role, content}": pl.List(pl.Struct({"role": pl.String, "content": pl.String})),
}


class Parquet(Format):
    """One row a record."""

    ending = "parquet"

    def file(self, split: str) -> str:
        """The name that `datasets` gives the only shard of a split."""
        return f"data/{split}-00000-of-00001.parquet"

    @property
    def columns(self) -> list[Column]:
        """The record, its parts, its label as text and as a value, and where the label comes from."""
        return [
            Column("record_id", "string", "the record's id in the source"),
            Column("text", "string", "the record as one text"),
            *(Column(self._column(part), "string", f"the part {part} of the record") for part in self._parts),
            Column("label", "string", "the label in its canonical form"),
            *self._value_columns,
            Column("origin", "string", "gold (people), silver (the annotator), synthetic (a model wrote the record)"),
            Column("weight", "float", "how much it counts in training, 0 to 1"),
            Column("confidence", "float", "the annotator's confidence, 0 to 1, where it gave one"),
            Column("annotator", "string", "who gave a silver label"),
            Column("rationale", "string", "the annotator's reasons for the label, where it gave some"),
            Column("partition_key", "string", "the partition of the record"),
        ]

    def entries(self, row: Row) -> list[Entry]:
        """One row a record."""
        names = set(row.content.names)
        entry: Entry = {
            "record_id": row.record_id,
            "text": row.text,
            **{self._column(part): row.content[part] if part in names else None for part in self._parts},
            "label": row.label,
            **self._values(row),
        }
        rest = ("origin", "weight", "confidence", "annotator", "rationale", "partition_key")
        return [entry | {name: getattr(row, name) for name in rest}]

    def write(self, folder: Path, split: str, entries: Iterator[Entry]) -> None:
        """One file, written a row group at a time."""
        import pyarrow.parquet

        schema = {column.name: _TYPES[column.type] for column in self.columns}
        arrow = pl.DataFrame(schema=schema).to_arrow(compat_level=pl.CompatLevel.oldest()).schema
        with pyarrow.parquet.ParquetWriter(folder / self.file(split), arrow, compression="zstd") as out:
            while rows := list(islice(entries, _ROW_GROUP)):
                frame = pl.DataFrame(rows, schema=schema, orient="row")
                out.write_table(frame.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(arrow))

    @property
    def _parts(self) -> list[str]:
        """The parts of a record, where it has several."""
        parts = [] if self.task.kind == "generation" else list(self.project.declaration.source.templates)
        return parts if parts != [SOLE] else []

    def _column(self, part: str) -> str:
        """The column of a part: its name, but for names that other columns have."""
        return f"part_{part}" if part in _TAKEN else part

    @property
    def _value_columns(self) -> list[Column]:
        """The label as a value, where it has a structure that a table can hold."""
        match self.task.kind:
            case "multilabel":
                return [Column("labels", "list of string", "the labels")]
            case "rating":
                return [Column("rating", "float", "the rating as a number; of names the place on the scale, from 0")]
            case "entities":
                return [Column("entities", "list of {start, end, text, type}", "the entities: offsets in code points")]
            case "generation":
                return self._generated_columns
        return []

    @property
    def _generated_columns(self) -> list[Column]:
        declared = self.project.declaration.task.generation
        if declared is None or declared.texts is not None:
            return [Column("wanted_label", "string", "the label that the text was asked for")]
        if declared.dialogue is not None:
            return [Column("turns", "list of {role, content}", "the turns, in order")]
        said = {"instruction": "what is to be done", "input": "with what; may be empty", "output": "the answer"}
        return [Column(name, "string", meaning) for name, meaning in said.items()]

    def _values(self, row: Row) -> dict[str, Any]:
        task = self.task
        if task.kind == "generation":
            (entry,) = json.loads(row.label)["generated"]
            return {c.name: entry["label" if c.name == "wanted_label" else c.name] for c in self._generated_columns}
        if isinstance(task, RatingTask):
            return {"rating": task.position(row.label)}
        if task.kind == "multilabel":
            return {"labels": json.loads(row.label)}
        if task.kind != "entities":
            return {}
        text = task.text(row.content)  # type: ignore[attr-defined]
        return {
            "entities": [
                {"start": span.start, "end": span.end, "text": span.of(text), "type": span.type}
                for span in labelled_spans(row.label)
            ]
        }


_TAKEN = frozenset(
    (
        "record_id",
        "text",
        "label",
        "labels",
        "rating",
        "entities",
        "origin",
        "weight",
        "confidence",
        "annotator",
        "rationale",
        "partition_key",
    )
)
