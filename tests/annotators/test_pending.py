"""What an annotator still has to be asked about: found by one anti-join, read from disk in chunks."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from annotation_pipelines.annotators.pending import Pending, Wanted
from annotation_pipelines.annotators.shared_state import this_process
from annotation_pipelines.store.database import Store
from annotation_pipelines.tasks.base import STATES, UNANSWERED
from tests.annotators.label_scene import frame, numbered
from tests.workspaces import ROOT


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "shop")


def label(store: Store, records: pl.DataFrame, table: str = "llm_labels", **columns: str) -> None:
    """Write labels of these records; `columns` replace what they have in common."""
    common = {"partition_key": "p", "annotator": "a", "fingerprint": "f", "state": "labelled", **columns}
    rows = records.drop("content").with_columns(pl.lit(value).alias(name) for name, value in common.items())
    with store.transaction() as con:
        store.upsert(con, table, rows.with_columns(reused=pl.lit(False), labelled_at=pl.lit(datetime.now(UTC))))


def of(store: Store, wanted: Wanted, table: str = "llm_labels") -> Pending:
    return Pending(store, wanted, table=table, annotator="a", fingerprint="f")


def why(store: Store, records: pl.DataFrame, table: str = "llm_labels") -> dict[str, str]:
    """Why each record needs the annotator."""
    with of(store, Wanted.of_frame(records), table) as pending:
        found = {row["record_id"]: row["why"] for chunk in pending.chunks() for row in chunk.iter_rows(named=True)}
        assert dict(pending.why) == dict(pl.Series(list(found.values()), dtype=pl.String).value_counts().iter_rows())
        assert (len(pending), pending.wanted) == (len(found), len(records))
    return found


def test_new_changed_stale_and_unanswered_records_are_pending_and_fresh_ones_are_not(store: Store) -> None:
    records = frame({"new": "1", "changed": "2", "stale": "3", "retried": "4", "fresh": "5"})
    by_id = {name: records.filter(record_id=name) for name in records["record_id"]}
    label(store, frame({"changed": "old text"}))
    label(store, by_id["stale"], fingerprint="another")
    label(store, by_id["retried"], state="failed")
    label(store, by_id["fresh"])
    assert why(store, records) == {name: name for name in ("changed", "new", "retried", "stale")}


@pytest.mark.parametrize("state", STATES)
def test_what_was_not_answered_is_taken_up_again_and_what_was_is_not(store: Store, state: str) -> None:
    label(store, frame(["text"]), state=state)
    assert why(store, frame(["text"])) == ({"r000": "retried"} if state in UNANSWERED else {})


def test_only_the_annotator_s_own_labels_in_its_own_table_count(store: Store) -> None:
    label(store, frame(["text"]), annotator="another")
    label(store, frame(["text"]), table="llm_votes")
    assert why(store, frame(["text"])) == {"r000": "new"}
    assert why(store, frame(["text"]), table="llm_votes") == {}


def test_a_label_in_another_partition_is_as_good(store: Store) -> None:
    label(store, frame(["text"]), partition_key="another")
    assert why(store, frame(["text"])) == {}


def test_chunks_hold_every_record_once_in_the_order_of_ids(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from annotation_pipelines.annotators import pending as module

    monkeypatch.setattr(module, "CHUNK", 2048)
    records = frame({f"r{n:05}": f"text {n}" for n in range(5_000)})
    with of(store, Wanted.of_frame(records.sample(fraction=1, shuffle=True, seed=0))) as pending:
        chunks = list(pending.chunks())
        assert [list(chunk) for chunk in [pl.concat(chunks)["record_id"]]] == [list(records["record_id"])]
    assert len(chunks) == 3
    assert pl.concat(chunks)["content"].to_list() == records["content"].to_list()


def test_texts_of_every_kind_come_back_as_they_were(store: Store) -> None:
    texts = ["", "a'b\"c", "line\nline", "漢字 🙂", "\x00 nul", "x" * 100_000]
    with of(store, Wanted.of_frame(frame(texts))) as pending:
        (chunk,) = pending.chunks()
    assert chunk["content"].to_list() == texts


def test_nothing_wanted_is_nothing_pending(store: Store) -> None:
    with of(store, Wanted.of_frame(frame([]))) as pending:
        assert (len(pending), pending.wanted, list(pending.chunks())) == (0, 0, [])


def test_of_a_partition_the_selected_live_records_are_wanted(store: Store) -> None:
    now = datetime.now(UTC)
    records = frame({"chosen": "1", "waiting": "2", "deleted": "3", "elsewhere": "4"})
    key = pl.when(pl.col("record_id") == "elsewhere").then(pl.lit("q")).otherwise(pl.lit("p")).alias("partition_key")
    deleted = pl.when(pl.col("record_id") == "deleted").then(pl.lit(now)).alias("deleted_at")
    state = pl.when(pl.col("record_id") == "waiting").then(pl.lit("waiting")).otherwise(pl.lit("selected"))
    with store.transaction() as con:
        seen = {"first_seen": pl.lit(now), "updated_at": pl.lit(now)}
        store.append(con, "records", records.with_columns(key, deleted, **seen))
        chosen = {"strategy": pl.lit("all"), "selected_at": pl.lit(now), "state": state}
        store.append(con, "selected_records", records.drop("content").with_columns(key, **chosen))
    with of(store, Wanted.of_partition("p")) as pending:
        (chunk,) = pending.chunks()
    assert chunk.select("record_id", "content").rows() == [("chosen", "1")]


def test_the_scratch_file_goes_with_the_pass_also_when_it_fails(store: Store) -> None:
    with pytest.raises(RuntimeError), of(store, Wanted.of_frame(frame(numbered(3)))):
        (file,) = (store.home / "pending").iterdir()
        assert file.name.startswith(f"{os.getpid()}-")
        raise RuntimeError
    assert list((store.home / "pending").iterdir()) == []


def test_scratch_files_of_dead_processes_are_removed_and_those_of_living_ones_are_not(store: Store) -> None:
    """The text of records must not lie about after a kill."""
    command = [sys.executable, "-m", "tests.annotators.label_scene", str(store.home)]
    assert subprocess.run(command, cwd=ROOT).returncode < 0
    (left,) = (store.home / "pending").iterdir()
    living = store.home / "pending" / f"{this_process().replace(':', '-')}-0123abcd.parquet"
    living.write_bytes(left.read_bytes())
    with of(store, Wanted.of_frame(frame(numbered(1)))):
        assert not left.exists() and living.exists()
