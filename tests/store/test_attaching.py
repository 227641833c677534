"""Files in kept instances: closed after each turn as if their instance had ended, and apart from one another."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import duckdb
import pytest

from annotation_pipelines.store.attaching import attached

READ = "import duckdb, sys\nprint(duckdb.connect(sys.argv[1]).execute('SELECT sum(n) FROM t').fetchone()[0])"


def made(path: Path, number: int = 7) -> Path:
    with attached(path) as con:
        con.execute("CREATE TABLE t (n INTEGER)")
        con.execute("INSERT INTO t VALUES (?)", [number])
    return path


def total(path: Path) -> int:
    with attached(path) as con:
        [row] = con.execute("SELECT sum(n) FROM t").fetchall()
    return int(row[0])


def test_after_the_block_the_file_is_whole_and_another_process_may_write(tmp_path: Path) -> None:
    path = made(tmp_path / "it's.duckdb")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["it's.duckdb"]
    read = subprocess.run([sys.executable, "-c", READ, str(path)], capture_output=True, text=True, check=True)
    assert read.stdout.strip() == "7"
    with duckdb.connect(path) as con:
        con.execute("INSERT INTO t VALUES (1)")
    assert total(path) == 8


def test_an_open_result_does_not_keep_the_file_open(tmp_path: Path) -> None:
    path = made(tmp_path / "a.duckdb")
    with attached(path) as con:
        con.execute("SELECT n FROM t, range(100000)").fetchone()
        held = con.sql("SELECT n FROM t")
    subprocess.run([sys.executable, "-c", READ, str(path)], capture_output=True, check=True)
    del held


def test_nothing_of_one_turn_is_there_in_the_next(tmp_path: Path) -> None:
    path = made(tmp_path / "a.duckdb")
    with attached(path) as con:
        con.execute("CREATE TEMP TABLE mine (n INTEGER); SET TimeZone = 'Asia/Tokyo'")
    with attached(made(tmp_path / "b.duckdb", 2)) as con:
        assert con.execute("SELECT current_setting('TimeZone')").fetchall() != [("Asia/Tokyo",)]
        assert con.execute("SELECT sum(n) FROM t").fetchall() == [(2,)]
        with pytest.raises(duckdb.CatalogException):
            con.execute("SELECT * FROM mine")


def test_an_error_undoes_what_was_not_committed_and_the_next_turn_works(tmp_path: Path) -> None:
    path = made(tmp_path / "a.duckdb")
    with pytest.raises(duckdb.ConversionException), attached(path) as con:
        con.execute("BEGIN; INSERT INTO t VALUES (100)")
        con.execute("INSERT INTO t VALUES ('no number')")
    assert total(path) == 7


def test_threads_have_instances_of_their_own(tmp_path: Path) -> None:
    barrier = Barrier(6, timeout=60)

    def both_open(number: int) -> int:
        path = made(tmp_path / f"{number}.duckdb", number)
        with attached(path) as con:
            barrier.wait()
            return int(con.execute("SELECT sum(n) FROM t").fetchall()[0][0])

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(both_open, range(6))) == list(range(6))


def test_a_fork_uses_instances_of_its_own(tmp_path: Path) -> None:
    path = made(tmp_path / "a.duckdb")
    child = os.fork()
    if child == 0:
        status = 1
        try:
            made(tmp_path / "b.duckdb", 3)
            status = 0 if total(path) == 7 else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert total(path) + total(tmp_path / "b.duckdb") == 10
