"""The store: short transactions, bounded waits, no corruption."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import polars as pl
import pytest

from annotation_pipelines.errors import StoreCorrupted, StoreError, StoreLocked, StoreTooNew
from annotation_pipelines.store.database import Store
from annotation_pipelines.store.migrations import MIGRATIONS
from annotation_pipelines.store.schema import TABLES


def stage_rows(n: int, partition: str = "p") -> pl.DataFrame:
    return pl.DataFrame(
        {"stage": [f"s{i}" for i in range(n)], "partition_key": partition, "facts": "{}"},
    ).with_columns(pl.lit("2026-01-01T00:00:00Z").str.to_datetime(time_zone="UTC").alias("finished_at"))


def python(code: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(code), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "project")


def test_the_migrations_make_every_declared_table_with_its_columns_types_and_key(store: Store) -> None:
    columns = store.query(
        "SELECT table_name, column_name, data_type, is_nullable FROM duckdb_columns() WHERE schema_name = 'main'"
    )
    keys = store.query(
        "SELECT table_name, constraint_column_names FROM duckdb_constraints() WHERE constraint_type = 'PRIMARY KEY'"
    )
    of_table = dict(keys.iter_rows())
    for table in TABLES.values():
        found = columns.filter(pl.col("table_name") == table.name).drop("table_name").rows()
        spelled = {"TIMESTAMPTZ": "TIMESTAMP WITH TIME ZONE"}
        assert found == [(c.name, spelled.get(c.type, c.type), c.nullable) for c in table.columns], table.name
        assert tuple(of_table.get(table.name, ())) == table.key


def test_a_new_store_says_which_migrations_made_it(store: Store) -> None:
    names = store.query("SELECT name FROM schema_migrations ORDER BY version")["name"].to_list()
    assert names == list(MIGRATIONS)


def test_a_store_of_a_later_package_is_refused_in_one_line(store: Store) -> None:
    with store.transaction() as con:
        con.execute("INSERT INTO schema_migrations VALUES (999, 'from_the_future', now())")
    with pytest.raises(StoreTooNew, match=r"999.*Upgrade") as caught:
        store.query("SELECT 1")
    assert "\n" not in str(caught.value)


def test_a_block_that_raises_leaves_nothing_behind(store: Store) -> None:
    with pytest.raises(RuntimeError), store.transaction() as con:
        store.append(con, "stage_runs", stage_rows(3))
        raise RuntimeError
    assert store.query("SELECT count(*) AS n FROM stage_runs")["n"].item() == 0


def test_replacing_a_partition_leaves_the_others_alone(store: Store) -> None:
    with store.transaction() as con:
        store.append(con, "stage_runs", stage_rows(3, "a"))
        store.append(con, "stage_runs", stage_rows(3, "b"))
        store.replace(con, "stage_runs", stage_rows(1, "a"), partition_key="a")
    counts = store.query("SELECT partition_key, count(*) AS n FROM stage_runs GROUP BY ALL ORDER BY ALL")
    assert counts.rows() == [("a", 1), ("b", 3)]


def test_a_column_that_is_not_declared_is_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="no column colour"), store.transaction() as con:
        store.append(con, "stage_runs", stage_rows(1).with_columns(pl.lit("red").alias("colour")))


def test_threads_and_processes_take_turns_and_lose_nothing(store: Store) -> None:
    code = """
        import sys
        from pathlib import Path
        from annotation_pipelines.store.database import Store
        store = Store(Path(sys.argv[1]))
        for i in range(10):
            with store.transaction() as con:
                store.record_stage(con, f"{sys.argv[2]}-{i}", "p", {"n": i})
    """
    processes = [python(code, str(store.home), f"process{n}") for n in range(3)]

    def write(n: int) -> None:
        for i in range(10):
            with store.transaction() as con:
                store.record_stage(con, f"thread{n}-{i}", "p", {"n": i})

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, range(2)))
    assert [process.wait() for process in processes] == [0, 0, 0], [p.communicate() for p in processes]
    assert store.query("SELECT count(*) AS n FROM stage_runs")["n"].item() == 50


def test_an_open_duckdb_connection_elsewhere_is_waited_for_and_named(store: Store) -> None:
    store.query("SELECT 1")
    holder = python(
        """
        import sys, time, duckdb
        con = duckdb.connect(sys.argv[1])
        print("open", flush=True)
        time.sleep(60)
        """,
        str(store.path),
    )
    try:
        assert holder.stdout and holder.stdout.readline() == "open\n"
        said: list[str] = []
        waiting = Store(store.home, announce=said.append, wait=0.5)
        with pytest.raises(StoreLocked, match=rf"PID {holder.pid}"):
            waiting.query("SELECT 1")
        assert any(str(holder.pid) in line for line in said)
        patient = Store(store.home, announce=said.append, wait=30)
        killer = threading.Timer(0.5, holder.kill)
        killer.start()
        assert patient.query("SELECT 1 AS one")["one"].item() == 1
    finally:
        holder.kill()
        holder.communicate()


def test_a_run_that_holds_the_store_is_named(store: Store) -> None:
    release = threading.Event()
    inside = threading.Event()

    def hold() -> None:
        with store.transaction():
            inside.set()
            release.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert inside.wait(10)
        with pytest.raises(StoreLocked, match=rf"PID {os.getpid()}.*nothing was lost"):
            Store(store.home, wait=0.2).query("SELECT 1")
    finally:
        release.set()
        thread.join()


def test_a_process_killed_in_a_transaction_leaves_the_store_as_it_was(store: Store) -> None:
    with store.transaction() as con:
        store.append(con, "stage_runs", stage_rows(5))
    victim = python(
        """
        import sys, time
        from pathlib import Path
        from annotation_pipelines.store.database import Store
        store = Store(Path(sys.argv[1]))
        with store.transaction() as con:
            con.execute("DELETE FROM stage_runs")
            print("deleted", flush=True)
            time.sleep(60)
        """,
        str(store.home),
    )
    assert victim.stdout and victim.stdout.readline() == "deleted\n"
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    start = time.monotonic()
    assert store.query("SELECT count(*) AS n FROM stage_runs")["n"].item() == 5
    assert time.monotonic() - start < 30


def test_a_damaged_file_is_one_clear_error(store: Store) -> None:
    store.query("SELECT 1")
    content = bytearray(store.path.read_bytes())
    content[:4096] = os.urandom(4096)
    store.path.write_bytes(content)
    with pytest.raises(StoreCorrupted, match="cannot be read") as caught:
        store.query("SELECT 1")
    assert "\n" not in str(caught.value)


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="file"):
        Store(tmp_path / "file" / "project").query("SELECT 1")


def test_a_person_can_read_the_tables_with_plain_duckdb(store: Store) -> None:
    with store.transaction() as con:
        store.append(con, "stage_runs", stage_rows(2))
    with duckdb.connect(str(store.path), read_only=True) as con:
        row = con.execute("SELECT count(*) FROM stage_runs").fetchone()
    assert row == (2,)


def test_a_wait_that_is_not_a_number_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANNOTATION_PIPELINES_LOCK_WAIT", "soon")
    with pytest.raises(StoreError, match=r"ANNOTATION_PIPELINES_LOCK_WAIT.*soon"):
        store.query("SELECT 1")
