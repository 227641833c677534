"""From the source into the store: new, changed, moved, restored, deleted."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from annotation_pipelines.declaration_file import load_project
from annotation_pipelines.errors import SourceError
from annotation_pipelines.partitions import Calendar
from annotation_pipelines.project import Project
from annotation_pipelines.sources.ingest import IngestCounts, ingest, plan_refresh
from annotation_pipelines.store.database import Store
from tests.sources.shop import LATER, NOW, Row, project, store, stored, unpartitioned, write

ASSETS = Path(__file__).parents[2] / "assets"
MONDAY, TUESDAY = "2020-03-02", "2020-03-03"


def run(folder: Path, key: str = MONDAY, *, now: datetime = NOW, declared: Project | None = None) -> IngestCounts:
    return ingest(store(folder), declared or project(folder), key, run_id="r1", now=now)


def plan(folder: Path, declared: Project | None = None, now: datetime = NOW) -> list[tuple[Any, ...]]:
    return plan_refresh(store(folder), declared or project(folder), now=now).rows()


def found(counts: IngestCounts) -> dict[str, int]:
    """The counts of changes that are not zero."""
    names = ("new", "changed", "updated", "moved", "restored", "unchanged", "deleted")
    return {name: getattr(counts, name) for name in names if getattr(counts, name)}


def monday(id: str, text: str = "a", tag: str | None = None, hour: int = 5) -> Row:
    return (id, text, f"2020-03-02 {hour:02}:00:00", tag)


def tuesday(id: str, text: str = "a", tag: str | None = None) -> Row:
    return (id, text, "2020-03-03 05:00:00", tag)


def test_new_records_come_in_with_their_partition_only(tmp_path: Path) -> None:
    write(tmp_path, monday("1"), monday("2"), tuesday("3"))
    counts = run(tmp_path)
    assert (counts.read, counts.rows, counts.records, counts.elsewhere, found(counts)) == (3, 2, 2, 1, {"new": 2})
    assert stored(tmp_path) == [("1", MONDAY, "a", False), ("2", MONDAY, "a", False)]


def test_an_unchanged_record_is_not_written(tmp_path: Path) -> None:
    write(tmp_path, monday("1", tag="good"), ("2", "b", "2020-03-02 05:00:00.123456", None))
    run(tmp_path)
    before = stored(tmp_path, "*")
    assert found(run(tmp_path, now=LATER)) == {"unchanged": 2}
    assert stored(tmp_path, "*") == before


def test_a_changed_record_keeps_its_first_seen(tmp_path: Path) -> None:
    write(tmp_path, monday("1"), monday("2"))
    run(tmp_path)
    [(old,), _] = stored(tmp_path, "content_hash")
    write(tmp_path, monday("1", "b"), monday("2"))
    assert found(run(tmp_path, now=LATER)) == {"changed": 1, "unchanged": 1}
    [(content, hash, first_seen, updated_at), (_, _, _, other)] = stored(
        tmp_path, "content, content_hash, first_seen, updated_at"
    )
    assert (content, first_seen, updated_at, other) == ("b", NOW, LATER, NOW)
    assert hash != old


@pytest.mark.parametrize("row", [monday("1", tag="good"), monday("1", hour=6)])
def test_another_label_or_time_updates_a_record_without_another_hash(tmp_path: Path, row: Row) -> None:
    write(tmp_path, monday("1"))
    run(tmp_path)
    [before] = stored(tmp_path, "content_hash, first_seen")
    write(tmp_path, row)
    assert found(run(tmp_path, now=LATER)) == {"updated": 1}
    assert stored(tmp_path, "content_hash, first_seen") == [before]
    assert stored(tmp_path, "gold, updated_at") == [(row[3], LATER)]
    assert found(run(tmp_path)) == {"unchanged": 1}


def test_other_attributes_update_a_record(tmp_path: Path) -> None:
    for price, expected in (("1", {"new": 1}), ("1", {"unchanged": 1}), ("2", {"updated": 1})):
        frame = pl.DataFrame({"id": ["1"], "text": ["a"], "at": [MONDAY], "tag": [None], "price": [price]})
        frame.write_csv(tmp_path / "records.csv")
        assert found(run(tmp_path)) == expected
    assert stored(tmp_path, "attributes") == [('{"price":"2"}',)]


def test_a_record_that_the_source_no_longer_has_is_deleted_and_restored_when_it_comes_back(tmp_path: Path) -> None:
    write(tmp_path, monday("1"), monday("2"), tuesday("3"))
    run(tmp_path)
    run(tmp_path, TUESDAY)
    write(tmp_path, monday("1"))
    assert found(run(tmp_path, now=LATER)) == {"unchanged": 1, "deleted": 1}
    assert stored(tmp_path, "deleted_at") == [(None,), (LATER,), (None,)], "Tuesday was not ingested"
    assert found(run(tmp_path)) == {"unchanged": 1}, "a record is deleted once"
    write(tmp_path, monday("1"), monday("2"), tuesday("3"))
    assert found(run(tmp_path, now=LATER)) == {"unchanged": 1, "restored": 1}
    assert stored(tmp_path, "deleted_at, updated_at") == [(None, NOW)] * 3, "it is the same record as before"


def test_a_record_may_come_back_with_another_content(tmp_path: Path) -> None:
    for rows in ([monday("1")], [], [monday("1", "b")]):
        write(tmp_path, *rows)
        counts = run(tmp_path, now=LATER)
    assert found(counts) == {"restored": 1}
    assert stored(tmp_path) == [("1", MONDAY, "b", False)]


def test_with_keep_a_record_that_the_source_no_longer_has_stays(tmp_path: Path) -> None:
    declared = project(tmp_path, {"csv": "records.csv", "on_delete": "keep"})
    write(tmp_path, monday("1"), monday("2"))
    run(tmp_path, declared=declared)
    write(tmp_path, monday("1"))
    assert found(run(tmp_path, declared=declared)) == {"unchanged": 1}
    assert [deleted for *_, deleted in stored(tmp_path)] == [False, False]
    assert plan(tmp_path, declared) == []


@pytest.mark.parametrize("order", [(MONDAY, TUESDAY), (TUESDAY, MONDAY)])
@pytest.mark.parametrize("forward", [True, False])
def test_a_record_moves_with_its_event_time_whichever_partition_comes_first(
    tmp_path: Path, order: tuple[str, str], forward: bool
) -> None:
    before, after = (monday, tuesday) if forward else (tuesday, monday)
    write(tmp_path, before("1"))
    for key in order:
        run(tmp_path, key)
    write(tmp_path, after("1"))
    old, new = (MONDAY, TUESDAY) if forward else (TUESDAY, MONDAY)
    assert sorted(plan(tmp_path)) == sorted([(old, 0, 0, 1), (new, 0, 1, 0)])
    moved = sum(run(tmp_path, key, now=LATER).moved for key in order)
    assert moved == 1
    assert stored(tmp_path, "partition_key, first_seen, deleted_at") == [(new, NOW, None)]
    assert plan(tmp_path) == []


def test_a_late_record_is_found_when_its_old_partition_is_ingested_again(tmp_path: Path) -> None:
    write(tmp_path, monday("1"))
    run(tmp_path)
    write(tmp_path, monday("1"), monday("2"))
    assert plan(tmp_path) == [(MONDAY, 1, 0, 0)]
    assert found(run(tmp_path)) == {"new": 1, "unchanged": 1}


def test_rejected_rows_are_kept_with_their_partition_and_replaced_by_the_next_ingest(tmp_path: Path) -> None:
    write(
        tmp_path,
        monday("1"),
        monday("1", "b"),
        monday("2", tag="ugly"),
        monday("3", ""),
        tuesday("4", ""),
        ("5", "a", None, None),
    )
    counts = run(tmp_path)
    assert (counts.rows, counts.records, counts.elsewhere) == (4, 2, 1)
    assert counts.rejected == {"duplicate_id": 1, "empty_content": 1, "unknown_label": 1}
    assert counts.unplaced == {"no_time": 1}
    query = "SELECT partition_key, record_id, reason FROM rejected_records ORDER BY ALL"
    assert store(tmp_path).query(query).rows() == [
        ("", "5", "no_time"),
        (MONDAY, "1", "duplicate_id"),
        (MONDAY, "2", "unknown_label"),
        (MONDAY, "3", "empty_content"),
    ]
    write(tmp_path, monday("1"))
    run(tmp_path, TUESDAY)
    assert [key for key, *_ in store(tmp_path).query(query).rows()] == [MONDAY] * 3, "rows without partition are gone"
    run(tmp_path)
    assert store(tmp_path).query(query).is_empty()


def test_the_counts_add_up_and_are_recorded(tmp_path: Path) -> None:
    write(tmp_path, monday("1"), monday("1"), monday("2", tag="ugly"), tuesday("3"), (None, "x", None, None))
    counts = run(tmp_path)
    dropped = {reason: n for reason, n in counts.rejected.items() if reason != "unknown_label"}
    assert counts.rows == counts.records + sum(dropped.values())
    assert counts.read == counts.rows + sum(counts.unplaced.values()) + counts.elsewhere
    facts = store(tmp_path).query(
        "SELECT partition_key, run_id, (facts->>'records')::INT, (facts->>'rejected_duplicate_id')::INT "
        "FROM stage_runs WHERE stage = 'raw_records'"
    )
    assert facts.rows() == [(MONDAY, "r1", 2, 1)]


def test_a_source_that_cannot_be_read_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path, monday("1"))
    run(tmp_path)
    before = stored(tmp_path, "*")
    (tmp_path / "records.csv").write_bytes(b"")
    with pytest.raises(SourceError, match="found an empty file"):
        run(tmp_path)
    assert stored(tmp_path, "*") == before


def test_a_partition_that_is_none_is_refused(tmp_path: Path) -> None:
    write(tmp_path, monday("1"))
    with pytest.raises(SourceError, match="found '2020-03-01'"):
        run(tmp_path, "2020-03-01")


def test_the_plan_names_the_existing_partitions_that_the_source_touches(tmp_path: Path) -> None:
    write(tmp_path, monday("1"), monday("2"), tuesday("3"), ("4", "a", "2020-03-04", None))
    for key in (MONDAY, TUESDAY, "2020-03-04"):
        run(tmp_path, key)
    assert plan(tmp_path) == []
    write(
        tmp_path,
        monday("1", "b"),
        monday("2"),
        tuesday("5"),
        ("4", "a", "2020-03-04", None),
        ("6", "a", "2020-03-10 05:00", None),
        ("7", "a", "2020-03-11", None),
    )
    assert plan(tmp_path) == [(MONDAY, 0, 1, 0), (TUESDAY, 1, 0, 1)], "10 March is still running"
    assert plan(tmp_path, now=LATER) == [(MONDAY, 0, 1, 0), (TUESDAY, 1, 0, 1), ("2020-03-10", 1, 0, 0)]
    for key in (MONDAY, TUESDAY):
        run(tmp_path, key)
    assert plan(tmp_path) == []


def test_before_the_first_partition_is_over_nothing_is_planned(tmp_path: Path) -> None:
    write(tmp_path, monday("1"))
    planned = plan_refresh(store(tmp_path), project(tmp_path), now=datetime(2020, 3, 2, 12, tzinfo=UTC))
    assert planned.is_empty()
    assert planned.columns == ["partition_key", "new", "changed", "deleted"]


def test_a_record_ahead_of_the_clock_is_planned_once(tmp_path: Path) -> None:
    running = {"every": "day", "start": "2020-03-02", "include_current": True}
    declared = project(tmp_path, partitions=running)
    write(tmp_path, ("1", "a", "2020-03-10 12:05:00", None))
    assert plan(tmp_path, declared) == [("2020-03-10", 1, 0, 0)]
    run(tmp_path, "2020-03-10", declared=declared)
    assert plan(tmp_path, declared) == []


def test_a_label_that_people_change_in_the_source_is_planned(tmp_path: Path) -> None:
    write(tmp_path, monday("1"))
    run(tmp_path)
    write(tmp_path, monday("1", tag="good"))
    assert plan(tmp_path) == [(MONDAY, 0, 1, 0)]


def test_without_partitions_there_is_one(tmp_path: Path) -> None:
    declared = unpartitioned(tmp_path)
    write(tmp_path, ("1", "a", None, None), ("2", "b", None, "good"))
    assert plan(tmp_path, declared) == [("all", 2, 0, 0)]
    assert found(run(tmp_path, "all", declared=declared)) == {"new": 2}
    assert stored(tmp_path, "event_time, partition_key") == [(None, "all")] * 2
    write(tmp_path, ("1", "a", None, None))
    assert plan(tmp_path, declared) == [("all", 0, 0, 1)]
    assert found(run(tmp_path, "all", declared=declared)) == {"unchanged": 1, "deleted": 1}


class TestSourcesThatGiveOnePartition:
    """A database asked for one partition does not show the copies of a record in others."""

    @pytest.fixture
    def fill(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Project]:
        monkeypatch.setenv("NOTES_URL", f"sqlite://{tmp_path}/notes.db")

        def fill(*rows: Row) -> Project:
            with sqlite3.connect(tmp_path / "notes.db") as con:
                con.execute("DROP TABLE IF EXISTS notes")
                con.execute("CREATE TABLE notes (id TEXT, text TEXT, at TEXT, tag TEXT)")
                con.executemany("INSERT INTO notes VALUES (?, ?, ?, ?)", rows)
            query = "SELECT * FROM notes WHERE at >= :start AND at < :end"
            return project(tmp_path, {"sql": {"query": query, "connection_env": "NOTES_URL"}})

        return fill

    @pytest.mark.parametrize("order", [(MONDAY, TUESDAY), (TUESDAY, MONDAY), (MONDAY, TUESDAY, MONDAY)])
    def test_the_newest_copy_wins_in_any_order(
        self, tmp_path: Path, fill: Callable[..., Project], order: tuple[str, ...]
    ) -> None:
        declared = fill(monday("1", "old"), tuesday("1", "new"), monday("2"))
        results = [run(tmp_path, key, declared=declared) for key in order]
        assert stored(tmp_path) == [("1", TUESDAY, "new", False), ("2", MONDAY, "a", False)]
        assert plan(tmp_path, declared) == []
        if order[0] == TUESDAY:
            assert results[1].rejected == {"duplicate_id": 1}
            assert (results[1].rows, results[1].records) == (2, 1)
            rows = store(tmp_path).query("SELECT partition_key, record_id, row->>'text' FROM rejected_records").rows()
            assert rows == [(MONDAY, "1", "old")]

    def test_only_the_partition_is_read_and_deleted_from(self, tmp_path: Path, fill: Callable[..., Project]) -> None:
        declared = fill(monday("1"), tuesday("2"))
        assert plan(tmp_path, declared) == [(MONDAY, 1, 0, 0), (TUESDAY, 1, 0, 0)]
        assert run(tmp_path, MONDAY, declared=declared).read == 1
        run(tmp_path, TUESDAY, declared=declared)
        declared = fill(monday("3"))
        assert plan(tmp_path, declared) == [(MONDAY, 1, 0, 1), (TUESDAY, 0, 0, 1)]
        assert found(run(tmp_path, MONDAY, declared=declared)) == {"new": 1, "deleted": 1}
        assert [(id, deleted) for id, *_, deleted in stored(tmp_path)] == [("1", True), ("2", False), ("3", False)]

    @pytest.mark.parametrize("order", [(MONDAY, TUESDAY), (TUESDAY, MONDAY)])
    def test_a_record_that_moved_back_arrives_after_one_more_refresh_at_most(
        self, tmp_path: Path, fill: Callable[..., Project], order: tuple[str, str]
    ) -> None:
        declared = fill(tuesday("1"))
        run(tmp_path, TUESDAY, declared=declared)
        declared = fill(monday("1"))
        for _ in range(2):
            touched = [key for key, *_ in plan(tmp_path, declared)]
            for key in order:
                if key in touched:
                    run(tmp_path, key, declared=declared)
        assert stored(tmp_path) == [("1", MONDAY, "a", False)]
        assert plan(tmp_path, declared) == []


def test_the_projects_of_this_workspace_come_in_whole(tmp_path: Path) -> None:
    stance, ml = (load_project(ASSETS / name / "defs.yaml") for name in ("climate_stance", "ml_projects"))
    assert found(ingest(Store(tmp_path / "stance"), stance, "all")) == {"new": 2299}
    keys = Calendar(ml.declaration.partitions).keys(NOW + timedelta(days=365))
    planned = plan_refresh(Store(tmp_path / "ml"), ml)
    assert planned["new"].sum() == 764
    assert set(planned["partition_key"]) <= set(keys)
    first, *_, last = planned["partition_key"]
    for key in (first, last):
        counts = ingest(Store(tmp_path / "ml"), ml, key)
        assert counts.new == planned.filter(pl.col("partition_key") == key)["new"].item()
        assert counts.rejected == counts.unplaced == {}


def test_a_hundred_thousand_unchanged_records_are_ingested_within_seconds(tmp_path: Path) -> None:
    start = datetime(2020, 3, 2, tzinfo=UTC)
    ids = pl.int_range(100_000, eager=True).alias("id")
    frame = ids.to_frame().with_columns(
        text=pl.concat_str(pl.lit("the model learns to label text, number "), "id"),
        at=(pl.lit(start) + pl.duration(milliseconds="id")).dt.to_string("iso:strict"),
        tag=pl.lit("good"),
    )
    frame.write_csv(tmp_path / "records.csv")
    assert found(run(tmp_path)) == {"new": 100_000}
    clock = datetime.now()
    assert found(run(tmp_path)) == {"unchanged": 100_000}
    assert datetime.now() - clock < timedelta(seconds=5)
