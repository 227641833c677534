"""The embedder: a text is encoded once, whatever happens around it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from annotation_pipelines.distillation.embedding import Embedder, ReadOnly, Uncached
from annotation_pipelines.distillation.encoder import Encoder, Progress, Vectors
from annotation_pipelines.errors import StoreError
from annotation_pipelines.store.database import Store
from annotation_pipelines.store.vectors import SHARED


def texts(*words: str) -> pl.DataFrame:
    return pl.DataFrame({"content_hash": [f"hash of {word}" for word in words], "content": list(words)})


@pytest.fixture
def embedder(tmp_path: Path) -> Embedder:
    return Embedder(tmp_path / "project", Encoder())


def test_a_text_is_encoded_once(embedder: Embedder) -> None:
    told: list[tuple[int, int]] = []
    first = embedder.ensure("p1", texts("cat", "dog", "cat"), lambda done, total: told.append((done, total)))
    assert (first.records, first.encoded, first.reused) == (3, 2, 1)
    assert told[-1] == (2, 2)
    again = embedder.ensure("p1", texts("dog", "cat"))
    assert (again.records, again.encoded, again.reused) == (2, 0, 2)


def test_one_changed_text_is_one_encoded_text(embedder: Embedder) -> None:
    embedder.ensure("p1", texts("cat", "dog", "bird"))
    counts = embedder.ensure("p1", texts("cat", "dog", "fish"))
    assert (counts.encoded, counts.reused) == (1, 2)
    assert set(embedder.cache.read("p1")["content_hash"]) == {"hash of cat", "hash of dog", "hash of fish"}


def test_a_record_that_moves_to_another_partition_is_not_encoded_again(embedder: Embedder) -> None:
    embedder.ensure("p1", texts("cat", "dog"))
    assert embedder.ensure("p2", texts("cat")).encoded == 0
    assert embedder.ensure("p1", texts("dog")).encoded == 0
    assert embedder.cache.read("p1")["content_hash"].to_list() == ["hash of dog"]


def test_an_empty_partition_keeps_no_file(embedder: Embedder) -> None:
    embedder.ensure("p1", texts("cat"))
    counts = embedder.ensure("p1", texts())
    assert (counts.records, counts.encoded, counts.reused) == (0, 0, 0)
    assert embedder.cache.shards() == []


def test_a_person_can_query_the_vectors(embedder: Embedder) -> None:
    embedder.ensure("2026-01-05", texts("cat", "dog"))
    rows = Store(embedder.home).query("SELECT partition_key, content_hash, len(vector) AS d FROM embeddings ORDER BY 2")
    assert rows.rows() == [("2026-01-05", "hash of cat", 384), ("2026-01-05", "hash of dog", 384)]


def test_vectors_come_in_the_order_of_the_frame_and_are_those_of_the_encoder(embedder: Embedder) -> None:
    embedder.ensure("p1", texts("dog", "cat"))
    vectors = embedder.vectors(texts("cat", "bird", "dog", "bird"))
    np.testing.assert_allclose(vectors, embedder.encoder.encode(["cat", "bird", "dog", "bird"]), atol=1e-6)


def test_texts_of_no_partition_are_kept_too(embedder: Embedder) -> None:
    embedder.vectors(texts("a description"))
    assert embedder.cache.read(SHARED)["content_hash"].to_list() == ["hash of a description"]
    embedder.ensure("p1", texts("cat"))
    embedder.vectors(texts("cat", "a description"), share=True)
    assert set(embedder.cache.read(SHARED)["content_hash"]) == {"hash of a description", "hash of cat"}


def test_no_texts_give_no_vectors(embedder: Embedder) -> None:
    assert embedder.vectors(texts()).shape == (0, 384)


def test_a_damaged_shard_is_encoded_again(embedder: Embedder, caplog: pytest.LogCaptureFixture) -> None:
    embedder.ensure("p1", texts("cat", "dog"))
    embedder.cache.path("p1").write_bytes(b"no Parquet")
    before = embedder.encoder.encode(["cat"])
    counts = embedder.ensure("p1", texts("cat", "dog"))
    assert counts.encoded == 2
    assert "cannot be read" in caplog.text
    np.testing.assert_allclose(embedder.vectors(texts("cat")), before, atol=1e-6)


def test_long_work_that_is_stopped_goes_on_from_where_it_was_saved(
    embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from annotation_pipelines.distillation import embedding

    monkeypatch.setattr(embedding, "_CHUNK", 2)
    monkeypatch.setattr(embedding, "_SAVE_EVERY_SECONDS", 0.0)

    def stop(done: int, total: int) -> None:
        if done > 4:
            raise KeyboardInterrupt

    words = [f"word {i}" for i in range(7)]
    with pytest.raises(KeyboardInterrupt):
        embedder.ensure("p1", texts(*words), stop)
    assert embedder.ensure("p1", texts(*words)).encoded == 3


def test_a_cache_that_is_only_read_has_its_gaps_filled_and_stays_as_it_is(embedder: Embedder) -> None:
    embedder.ensure("p1", texts("cat"))
    asked: list[str] = []

    class Counting:
        id = "counting"

        def encode(self, given: Sequence[str], progress: Progress | None = None) -> Vectors:
            asked.extend(given)
            return embedder.encoder.encode(given, progress)

    frame = texts("bird", "cat", "bird")
    vectors = ReadOnly(embedder, Counting()).vectors(frame)
    np.testing.assert_allclose(vectors, embedder.encoder.encode(["bird", "cat", "bird"]), atol=1e-6)
    assert asked == ["bird"]
    assert embedder.cache.shards() == ["p1"]
    assert ReadOnly(embedder).vectors(texts()).shape == (0, 384)
    np.testing.assert_allclose(Uncached(embedder.encoder, Counting()).vectors(frame), vectors, atol=1e-6)
    assert asked[1:] == ["bird", "cat", "bird"]


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "embeddings").write_text("a file stands in the way")
    with pytest.raises(StoreError, match="embeddings cannot be written"):
        Embedder(tmp_path / "project", Encoder()).vectors(texts("cat"))
