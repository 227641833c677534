"""Cached vectors: whole or not at all, seen in the database, never in the way of opening it."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotation_pipelines.errors import StoreError
from annotation_pipelines.store import vectors as store_vectors
from annotation_pipelines.store.database import Store
from annotation_pipelines.store.vectors import SHARED, VectorStore, as_frame, matrix

ENCODER = "encoder-1"


def vectors(n: int, d: int = 8, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def shard(n: int, *, prefix: str = "h", seed: int = 0) -> pl.DataFrame:
    return as_frame([f"{prefix}{i}" for i in range(n)], vectors(n, seed=seed))


@pytest.fixture
def cache(tmp_path: Path) -> VectorStore:
    return VectorStore(tmp_path / "project", ENCODER)


def test_a_shard_reads_as_it_was_written(cache: VectorStore) -> None:
    cache.write("p", shard(5))
    assert cache.read("p")["content_hash"].to_list() == [f"h{i}" for i in range(5)]
    np.testing.assert_array_equal(matrix(cache.read("p")["vector"]), vectors(5))


def test_a_missing_shard_is_empty(cache: VectorStore) -> None:
    assert cache.read("nothing").is_empty()
    assert cache.shards() == []


@given(key=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30))
@settings(max_examples=60, deadline=None)
def test_any_partition_key_is_one_file_in_the_folder(key: str) -> None:
    cache = VectorStore(Path("/storage/project"), ENCODER)
    assert cache.path(key).parent == cache.folder
    assert cache.path(key) != cache.path(key + "x")


def test_partition_keys_survive_the_file_name(cache: VectorStore) -> None:
    keys = sorted(["2026-01-05-13:00", "a/b", "..", "50%", "ä ö", "it's", "a+b"])
    for key in keys:
        cache.write(key, shard(1))
    assert cache.shards() == keys
    store = Store(cache.folder.parents[1])
    with store.transaction() as con:
        cache.publish(con)
    assert sorted(store.query("SELECT partition_key FROM embeddings")["partition_key"]) == keys


def test_lookup_finds_vectors_in_whatever_shard_they_lie(cache: VectorStore) -> None:
    cache.write("p1", shard(3, prefix="a", seed=1))
    cache.write("p2", shard(3, prefix="b", seed=2))
    found_vectors, found = cache.lookup(["b2", "missing", "a0", "b2"])
    assert found.tolist() == [True, False, True, True]
    np.testing.assert_array_equal(found_vectors[0], vectors(3, seed=2)[2])
    np.testing.assert_array_equal(found_vectors[2], vectors(3, seed=1)[0])
    np.testing.assert_array_equal(found_vectors[3], found_vectors[0])
    assert not found_vectors[1].any()


def test_a_large_shard_is_looked_up_in_pieces(cache: VectorStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_vectors, "_GROUP", 8)
    monkeypatch.setattr(store_vectors, "_PIECE", 3)
    whole = shard(50)
    cache.write("p", whole.sample(fraction=1, shuffle=True, seed=1))
    asked = ["h7", "h49", "nowhere", "h7", "h0", *(f"h{i}" for i in range(20, 30))]
    found_vectors, found = cache.lookup(asked)
    assert found.tolist() == [name != "nowhere" for name in asked]
    rows = [int(name[1:]) for name in asked if name != "nowhere"]
    np.testing.assert_array_equal(found_vectors[found], vectors(50)[rows])


def test_lookup_in_nothing_finds_nothing(cache: VectorStore) -> None:
    found_vectors, found = cache.lookup(["a", "b"])
    assert found_vectors.shape == (2, 0)
    assert not found.any()
    assert cache.lookup([])[1].shape == (0,)


def test_an_empty_frame_removes_the_shard(cache: VectorStore) -> None:
    cache.write("p", shard(2))
    cache.write("p", shard(0))
    assert cache.shards() == []


@pytest.mark.parametrize("damage", ["truncated", "emptied", "replaced", "other columns", "one byte"])
def test_a_damaged_shard_counts_as_empty_with_a_warning(
    cache: VectorStore, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    cache.write("p", shard(50))
    cache.write("whole", shard(5, prefix="w"))
    file = cache.path("p")
    content = bytearray(file.read_bytes())
    if damage == "truncated":
        file.write_bytes(content[: len(content) // 2])
    elif damage == "emptied":
        file.write_bytes(b"")
    elif damage == "replaced":
        file.write_bytes(b"PAR1 and nothing more PAR1")
    elif damage == "other columns":
        pl.DataFrame({"x": [1]}).write_parquet(file)
    else:
        content[len(content) // 3] ^= 1
        file.write_bytes(content)
    assert cache.read("p").is_empty()
    assert "p.parquet" in caplog.text
    assert "encoded again" in caplog.text
    assert cache.lookup(["h0", "w0"])[1].tolist() == [False, True]


def test_every_flipped_byte_is_noticed_or_harmless(cache: VectorStore) -> None:
    cache.write("p", shard(20))
    file, whole = cache.path("p"), cache.path("p").read_bytes()
    generator = np.random.default_rng(0)
    for position in generator.choice(len(whole), size=60, replace=False):
        content = bytearray(whole)
        content[position] ^= 1 << int(generator.integers(8))
        file.write_bytes(content)
        found_vectors, found = cache.lookup([f"h{i}" for i in range(20)])
        if found.any():
            np.testing.assert_array_equal(found_vectors[found], vectors(20)[found])


def test_a_write_that_fails_leaves_the_old_shard(cache: VectorStore) -> None:
    cache.write("p", shard(3))
    with pytest.raises(pl.exceptions.ColumnNotFoundError):
        cache.write("p", pl.DataFrame({"content_hash": ["x"]}))
    assert cache.read("p").height == 3
    assert list(cache.folder.glob(".*tmp")) == []


def test_writers_of_different_shards_and_of_the_shared_one_do_not_meet(cache: VectorStore) -> None:
    def write(number: int) -> None:
        for step in range(5):
            cache.write(f"p{number}", shard(10 + step, prefix=f"{number}-"))
            cache.share(shard(1, prefix=f"shared-{number}-{step}-"))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [cache.read(f"p{number}").height for number in range(4)] == [14] * 4
    assert cache.read(SHARED).height == 20


def test_the_shared_shard_keeps_one_vector_a_text(cache: VectorStore) -> None:
    cache.share(shard(3))
    cache.share(shard(2))
    assert cache.read(SHARED).height == 3


def test_the_view_is_empty_before_anything_was_encoded(cache: VectorStore) -> None:
    store = Store(cache.folder.parents[1])
    with store.transaction() as con:
        cache.publish(con)
    assert store.query("SELECT * FROM embeddings").is_empty()


def test_the_database_opens_after_the_folder_was_moved_or_emptied(cache: VectorStore, tmp_path: Path) -> None:
    home = cache.folder.parents[1]
    store = Store(home)
    cache.write("p", shard(2))
    with store.transaction() as con:
        cache.publish(con)
    shutil.rmtree(home / "embeddings")
    assert store.query("SELECT count(*) AS n FROM records")["n"][0] == 0
    home.rename(tmp_path / "moved [1]")
    moved = Store(tmp_path / "moved [1]")
    (tmp_path / "moved [1]" / "project.duckdb").rename(moved.path)
    assert moved.query("SELECT count(*) AS n FROM records")["n"][0] == 0
    there = VectorStore(tmp_path / "moved [1]", ENCODER)
    there.write("p", shard(2))
    with moved.transaction() as con:
        there.publish(con)
    assert moved.query("SELECT count(*) AS n FROM embeddings")["n"][0] == 2


def test_a_damaged_shard_does_not_keep_the_view_from_being_published(cache: VectorStore) -> None:
    store = Store(cache.folder.parents[1])
    cache.write("p", shard(2))
    cache.path("p").write_bytes(b"no Parquet")
    with store.transaction() as con:
        cache.publish(con)
        store.record_stage(con, "embeddings", "p", {"records": 2})
    assert store.query("SELECT count(*) AS n FROM stage_runs")["n"][0] == 1


def test_a_plain_duckdb_client_sees_the_view(cache: VectorStore) -> None:
    store = Store(cache.folder.parents[1])
    cache.write("p", shard(3))
    with store.transaction() as con:
        cache.publish(con)
    with duckdb.connect(str(store.path), read_only=True) as con:
        columns = [row[0] for row in con.execute("DESCRIBE embeddings").fetchall()]
        assert columns == ["partition_key", "content_hash", "vector"]
        assert con.execute("SELECT len(vector) FROM embeddings LIMIT 1").fetchone() == (8,)


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "project").write_text("a file stands in the way")
    with pytest.raises(StoreError, match="embeddings cannot be written"):
        VectorStore(tmp_path / "project", ENCODER).write("p", shard(1))
