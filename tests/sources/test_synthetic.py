"""A record that a model wrote is marked for ever, and measures nothing."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from annotation_pipelines.declaration_file import load_project
from annotation_pipelines.errors import SourceError
from annotation_pipelines.project import Project
from annotation_pipelines.sources.columns import as_flags
from annotation_pipelines.sources.gold import HumanLabelCounts, gather_human_labels
from annotation_pipelines.sources.ingest import ingest
from annotation_pipelines.store.database import Store

NOW = datetime(2026, 1, 5, tzinfo=UTC)


def project(folder: Path, **changes: Any) -> Project:
    """Records with id, text, tag and written_by_model; keys may be replaced."""
    attributes = {
        "source": {"csv": "records.csv", "gold": "tag", "synthetic": "written_by_model"},
        "task": {"classification": {"labels": ["good", "bad"]}},
        **changes,
    }
    folder.mkdir(exist_ok=True)
    document = {"type": "annotation_pipelines.AnnotationProject", "attributes": attributes}
    (folder / "defs.yaml").write_text(json.dumps(document), encoding="utf-8")
    return load_project(folder / "defs.yaml")


def write(folder: Path, *rows: tuple[str, str | None], file: str = "records.csv") -> None:
    """Rows of id and mark; all have gold."""
    frame = pl.DataFrame(
        {
            "id": [id for id, _ in rows],
            "text": [f"text {id}" for id, _ in rows],
            "tag": ["good"] * len(rows),
            "written_by_model": pl.Series([mark for _, mark in rows], dtype=pl.String),
        }
    )
    folder.mkdir(exist_ok=True)
    frame.write_csv(folder / file)


def marked(store: Store) -> dict[str, bool]:
    return dict(store.query("SELECT record_id, synthetic IS TRUE FROM records ORDER BY record_id").iter_rows())


def gathered(folder: Path, **changes: Any) -> tuple[HumanLabelCounts, dict[str, str]]:
    """The counts, and the role of each record."""
    store = Store(folder / "storage")
    counts = gather_human_labels(store, project(folder, **changes))
    return counts, dict(store.query("SELECT record_id, role FROM human_labels").iter_rows())


@pytest.mark.parametrize(
    "values", [["true", " NO ", None, "1"], [True, False, None, True], [1, 0, None, 1], ["yes", "", "false", "TRUE"]]
)
def test_marks_of_any_type_are_read(values: list[Any]) -> None:
    assert as_flags(pl.DataFrame({"mark": values}), "mark").to_list() == [True, False, False, True]


def test_a_mark_that_is_neither_is_refused_in_one_line(tmp_path: Path) -> None:
    write(tmp_path, ("1", "true"), ("2", "perhaps"))
    with pytest.raises(SourceError, match=r"expected true or false in the column 'written_by_model', found 'perhaps'"):
        ingest(Store(tmp_path / "storage"), project(tmp_path), "all")


def test_a_source_without_the_column_is_refused(tmp_path: Path) -> None:
    write(tmp_path, ("1", "true"))
    with pytest.raises(SourceError, match="expected a column 'by_model'"):
        ingest(
            Store(tmp_path / "storage"),
            project(tmp_path, source={"csv": "records.csv", "synthetic": "by_model"}),
            "all",
        )


def test_the_mark_stays_whatever_the_source_says_later(tmp_path: Path) -> None:
    store = Store(tmp_path / "storage")
    write(tmp_path, ("1", "true"), ("2", "false"), ("3", None))
    counts = ingest(store, project(tmp_path), "all", now=NOW)
    assert counts.new == 3 and marked(store) == {"1": True, "2": False, "3": False}
    assert "written_by_model" not in str(store.query("SELECT attributes FROM records")["attributes"].to_list())
    write(tmp_path, ("1", "false"), ("2", "true"), ("3", None))
    counts = ingest(store, project(tmp_path), "all", now=NOW)
    assert (counts.updated, counts.unchanged) == (1, 2), "an unmarked record is not written again"
    assert marked(store) == {"1": True, "2": True, "3": False}
    without = project(tmp_path, source={"csv": "records.csv", "gold": "tag"})
    ingest(store, without, "all", now=NOW)
    assert marked(store) == {"1": True, "2": True, "3": False}
    assert ingest(store, without, "all", now=NOW).unchanged == 3


def test_the_gold_of_a_synthetic_record_is_for_training_only(tmp_path: Path) -> None:
    write(tmp_path, *((f"r{n}", "true" if n % 2 else "false") for n in range(100)))
    synthetic = {f"r{n}" for n in range(1, 100, 2)}
    for changes in ({}, {"evaluation": {"share": 0.5}}, {"demonstrations": {"pool": 10}, "evaluation": {"share": 0.5}}):
        counts, roles = gathered(tmp_path, **changes)
        assert counts.synthetic == 50 and sum(counts.roles.values()) == 100
        measuring = {id for id, role in roles.items() if role in ("evaluation", "monitor")}
        assert measuring and not measuring & synthetic
        assert {roles[id] for id in synthetic} <= {"training", "demonstration"}


def test_the_marks_of_the_store_count_when_the_source_says_nothing_any_more(tmp_path: Path) -> None:
    write(tmp_path, ("1", "true"), ("2", "false"))
    ingest(Store(tmp_path / "storage"), project(tmp_path), "all")
    _, roles = gathered(tmp_path, source={"csv": "records.csv", "gold": "tag"})
    assert roles == {"1": "training", "2": "monitor"}


def test_a_synthetic_row_of_a_held_out_file_is_rejected_and_counted(tmp_path: Path) -> None:
    write(tmp_path, ("1", "false"))
    write(tmp_path, ("h1", "true"), ("h2", "false"), ("h3", None), file="held_out.csv")
    counts, roles = gathered(tmp_path, evaluation={"csv": "held_out.csv"})
    assert roles == {"1": "monitor", "h2": "evaluation", "h3": "evaluation"}
    assert counts.held_out_rejected == 1 and counts.synthetic == 0


def test_a_held_out_file_by_people_alone_needs_no_such_column(tmp_path: Path) -> None:
    write(tmp_path, ("1", "true"))
    (tmp_path / "held_out.csv").write_text("id,text,tag\nh1,another text,bad\n", encoding="utf-8")
    _, roles = gathered(tmp_path, evaluation={"csv": "held_out.csv"})
    assert roles == {"1": "training", "h1": "evaluation"}
