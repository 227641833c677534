"""Make a declared export: choose the rows, split them, write the files and the card."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from annotation_pipelines.content import Content
from annotation_pipelines.errors import DeclarationError
from annotation_pipelines.exports import card
from annotation_pipelines.exports.folder import MARK, swapped
from annotation_pipelines.exports.formats import Entry, Format, LeftOut, make_format
from annotation_pipelines.exports.responses import prompt_of, responses_of
from annotation_pipelines.exports.rows import annotated_records, row_of
from annotation_pipelines.exports.splits import assign, leaks
from annotation_pipelines.project import Project
from annotation_pipelines.project.exports import SERVES, SPLITS, Export, unfit
from annotation_pipelines.store.database import Store

INDEX = "records.parquet"
_PAIR_MARKS = re.compile(r"</?e[12]>")


@dataclass(frozen=True)
class Exported:
    """What an export wrote.

    Attributes:
        folder: Where it lies.
        rows: Records in each split.
        entries: What was written for them, by split: a record may give several.
        left_out: Records that are in no split, by why.
        notes: What else the card says, in numbers.
        leaks: Near-duplicates that stand in two splits: their ids and similarity; there should be none.
        card: The text of README.md.
    """

    folder: Path
    rows: dict[str, int]
    entries: dict[str, int]
    left_out: dict[str, int]
    notes: dict[str, int]
    leaks: list[tuple[str, str, float]]
    card: str = field(repr=False)

    def facts(self) -> dict[str, int]:
        """The counts by name, for the store and the UI."""
        return {
            **{f"{split}_records": self.rows.get(split, 0) for split in SPLITS},
            "entries": sum(self.entries.values()),
            "left_out": sum(self.left_out.values()),
            "leaks": len(self.leaks),
        }


def folder_of(store: Store, export: Export) -> Path:
    """Where the export of a project lies: below its storage."""
    return store.home / "exports" / export.called


def chosen_export(project: Project, name: str) -> Export:
    """A declared export by its name, else one in the format of that name.

    Raises:
        DeclarationError: There is no such export and no such format.
    """
    declared = project.declaration.exports
    for export in declared:
        if export.called == name:
            return export
    if name not in SERVES:
        known = [*dict.fromkeys([*(export.called for export in declared), *SERVES])]
        raise DeclarationError(
            f"expected a declared export or a format ({', '.join(known)}), found {name!r}", where=project.name
        )
    return Export.model_validate({"format": name})


def export_dataset(
    store: Store, project: Project, export: Export, folder: Path | None = None, *, run_id: str | None = None
) -> Exported:
    """Write a data set, in the place of the one that was there. The same labels give the same bytes.

    Args:
        folder: Where to; default: `folder_of`.

    Raises:
        DeclarationError: The format cannot hold the task's annotations.
        WorkspaceError: The folder cannot be written, or holds something else.
        StoreError: The store cannot be read.
    """
    if problem := unfit(export, project.declaration):
        raise DeclarationError(problem, where=project.name)
    found, left_out = annotated_records(store, project, min_confidence=export.min_confidence)
    readings = comparable(project, found)
    placed = assign(found, readings, export.split, seed=export.seed)
    left_out.update(placed["left_out"].drop_nulls().to_list())

    form = make_format(project, export)
    with swapped(folder or folder_of(store, export)) as new:
        (new / "data").mkdir()
        written = {split: _write(form, new, split, placed, left_out) for split in SPLITS}
        index = pl.concat(written.values())
        filled = {split: frame.height for split, frame in written.items() if frame.height}
        form.finish(new, filled)
        index.write_parquet(new / INDEX, compression="zstd")
        leaking = _leaks(index, placed, readings)
        dirt = card.dirt(placed, index)
        text = card.readme(
            project,
            export,
            form,
            index,
            left_out,
            dirt,
            quality=_quality(store),
            fingerprints=_fingerprints(placed),
            version=_version(new / "data"),
        )
        (new / "README.md").write_text(text, encoding="utf-8")
        (new / MARK).write_text(json.dumps(schema(form, filled), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    exported = Exported(
        folder or folder_of(store, export),
        filled,
        {split: int(frame["entries"].sum()) for split, frame in written.items() if frame.height},
        dict(left_out),
        {**dirt, **{note: number for note, number in form.notes.items() if number}},
        leaking,
        text,
    )
    if run_id is not None:
        with store.transaction() as con:
            store.record_stage(con, f"export_{export.called}", "all", exported.facts(), run_id)
    return exported


def comparable(project: Project, rows: pl.DataFrame) -> list[list[str]]:
    """The texts by which records are compared: what they say; of answers to something also what that is."""
    texts = rows["text"].to_list()
    if project.task.kind == "relations":
        return [[_PAIR_MARKS.sub("", text) for text in texts]]
    if project.task.kind in ("preference", "critique"):
        contents = [Content.read(content) for content in rows["content"]]
        return [texts, [prompt_of(content, responses_of(project, content)) for content in contents]]
    return [texts]


def schema(form: Format, splits: Mapping[str, int]) -> dict[str, Any]:
    """What schema.json says: the format, the files, and every column with type and meaning."""
    return {
        "format": form.export.format,
        "task": form.task.kind,
        "files": {split: form.file(split) for split in splits},
        "columns": [{"name": c.name, "type": c.type, "meaning": c.meaning} for c in form.columns],
        "index": {
            "file": INDEX,
            "columns": [{"name": name, "type": kind, "meaning": why} for name, kind, why in _INDEX_COLUMNS],
        },
    }


_INDEX_COLUMNS = (
    ("record_id", "string", "the record's id in the source"),
    ("split", "string", "train, validation or test"),
    ("first_entry", "integer", "its first entry in the file of the split, from 0"),
    ("entries", "integer", "how many entries it has there"),
    ("group", "integer", "records that say nearly the same have one number"),
    ("origin", "string", "gold, silver or synthetic"),
    ("label", "string", "the label in its canonical form"),
    ("confidence", "float", "the annotator's confidence, where it gave one"),
    ("annotator", "string", "who gave a silver label"),
)


def _write(form: Format, folder: Path, split: str, placed: pl.DataFrame, left_out: Counter[str]) -> pl.DataFrame:
    """Write one split, row by row; which records are in it, as in `_INDEX_COLUMNS`."""
    rows = placed.filter(pl.col("split") == split)
    numbers: list[int] = []

    def entries() -> Iterator[Entry]:
        for named in rows.iter_rows(named=True):
            try:
                made = form.entries(row_of(named))
            except LeftOut as why:
                left_out[str(why)] += 1
                made = []
            numbers.append(len(made))
            yield from made

    form.write(folder, split, entries())
    index = rows.with_columns(entries=pl.Series(numbers, dtype=pl.Int64)).with_columns(
        first_entry=pl.col("entries").cum_sum() - pl.col("entries")
    )
    if not sum(numbers):
        # An empty file is no table: `datasets` refuses it.
        for file in (folder / "data").glob(f"{split}[.-]*"):
            file.unlink()
    return index.filter(pl.col("entries") > 0).select(name for name, _, _ in _INDEX_COLUMNS)


def _leaks(index: pl.DataFrame, placed: pl.DataFrame, readings: list[list[str]]) -> list[tuple[str, str, float]]:
    """Near-duplicates among what was written that stand in two splits."""
    place = placed.select("record_id").with_row_index("place").join(index, on="record_id", maintain_order="left")
    ids, splits = place["record_id"].to_list(), place["split"].to_list()
    found = []
    for reading in readings:
        texts = [reading[i] for i in place["place"]]
        if len(readings) == 1:
            texts = [text if text.strip() else "\0" for text in texts]
        found += [(ids[one], ids[other], figure) for one, other, figure in leaks(texts, splits)]
    return found


def _version(folder: Path) -> str:
    """A hash of the files in a folder, by name."""
    version = hashlib.blake2b(digest_size=8)
    for file in sorted(folder.iterdir()):
        version.update(f"{file.name}\0".encode())
        with file.open("rb") as opened:
            while chunk := opened.read(1 << 20):
                version.update(chunk)
    return version.hexdigest()


def _quality(store: Store) -> pl.DataFrame:
    """How the annotator stands against people, as last measured: metric, split, value, lower, upper, records."""
    return store.query(
        "SELECT metric, split, value, lower, upper, records FROM model_evaluation "
        "WHERE model_version = 'teacher' AND slice = '' AND label = '' AND value IS NOT NULL ORDER BY split, metric"
    )


def _fingerprints(placed: pl.DataFrame) -> list[str]:
    """The fingerprints (hash of task, guideline, annotator and demonstrations) of the silver labels, sorted."""
    kept = placed.filter(pl.col("split").is_not_null())
    return sorted(kept["fingerprint"].drop_nulls().unique().to_list())
