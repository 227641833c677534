"""Vectors for records: looked up where they are known, encoded where they are not, each text once."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import polars as pl

from annotation_pipelines.content import readable
from annotation_pipelines.distillation.encoder import Encoder
from annotation_pipelines.project import Project
from annotation_pipelines.store.database import Store
from annotation_pipelines.store.vectors import SHARED, Vectors, VectorStore, as_frame, matrix, together

_CHUNK = 2_048
_SAVE_EVERY_SECONDS = 60.0

# An empty frame that was made by hand has columns without a type.
_TEXTS = pl.col("content_hash", "content").cast(pl.String)

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class EmbedCounts:
    """What happened to the records of a shard; `encoded` and `reused` sum to `records`.

    Attributes:
        encoded: Texts that the encoder read.
        reused: Records whose vector was there, or whose text stands in another record too.
    """

    records: int
    encoded: int
    reused: int


class Embedder:
    """An encoder with its cache.

    Args:
        home: The project's storage folder.
        encoder: Asked only for texts whose vector is not cached.
    """

    def __init__(self, home: Path, encoder: Encoder) -> None:
        self.home, self.encoder = home, encoder
        self.cache = VectorStore(home, encoder.id)

    @classmethod
    def for_project(cls, project: Project, store: Store) -> Embedder:
        """The embedder that a project declares, on its storage; a folder beside defs.yaml goes before other names."""
        name = project.declaration.distillation.encoder
        beside = project.folder / name
        device = project.declaration.distillation.device
        return cls(store.home, Encoder(str(beside) if beside.is_dir() else name, device=device))

    @property
    def dimension(self) -> int:
        """The length of a vector."""
        return self.encoder.dimension

    def ensure(self, shard: str, frame: pl.DataFrame, progress: Progress | None = None) -> EmbedCounts:
        """Make a shard hold the vectors of a frame, and no others; the view in the database is renewed.

        Long work is saved every minute: a run that is stopped goes on from there.

        Args:
            frame: content_hash and content.
            progress: Called with (done, total) texts while encoding.

        Raises:
            DeclarationError: The encoder cannot be loaded.
            StoreError: The vectors cannot be written.
        """
        texts = frame.select(_TEXTS).unique("content_hash", keep="first", maintain_order=True)
        stored = self.cache.read(shard)
        kept = stored.join(texts, on="content_hash", how="semi")
        missing = texts.join(kept, on="content_hash", how="anti", maintain_order="left")
        # A record that moved to another partition left its vector in the old one.
        vectors, found = self.cache.lookup(missing["content_hash"].to_list())
        parts = [kept, as_frame(missing.filter(found)["content_hash"], vectors[found])]
        encoded = self._encode(missing.filter(~found), parts, shard, progress)
        if missing.height or kept.height < stored.height or texts.is_empty():
            self.cache.write(shard, together(parts))
        with Store(self.home).transaction() as con:
            self.cache.publish(con)
        return EmbedCounts(frame.height, encoded, frame.height - encoded)

    def vectors(self, frame: pl.DataFrame, progress: Progress | None = None, *, share: bool = False) -> Vectors:
        """The vectors of a frame's texts, in its order.

        What the cache lacks is encoded and kept in the shared shard: held-out texts are asked for in every run.

        Args:
            frame: content_hash and content.
            progress: Called with (done, total) texts while encoding.
            share: Whether all of them are put into the shared shard, where later runs find them in one file:
                demonstrations are spread over many partitions and needed in each.

        Returns:
            float32, shape (n, dimension), each row of length 1.

        Raises:
            DeclarationError: The encoder cannot be loaded.
            StoreError: The vectors cannot be written.
        """
        vectors, found = self.cache.lookup(frame["content_hash"].to_list())
        if not found.all():
            missing = frame.filter(~found).unique("content_hash", keep="first", maintain_order=True)
            parts: list[pl.DataFrame] = []
            self._encode(missing, parts, None, progress)
            new = together(parts)
            self.cache.share(new)
            asked = frame.filter(~found).select("content_hash")
            block = matrix(asked.join(new, on="content_hash", how="left", maintain_order="left")["vector"])
            if not found.any():
                vectors = np.zeros((frame.height, block.shape[1]), dtype=np.float32)
            vectors[~found] = block
        if share:
            shared = self.cache.read(SHARED).select("content_hash")
            every = as_frame(frame["content_hash"], vectors).unique("content_hash", maintain_order=True)
            absent = every.join(shared, on="content_hash", how="anti")
            if not absent.is_empty():
                self.cache.share(absent)
        return vectors if frame.height else np.zeros((0, self.dimension), dtype=np.float32)

    def _encode(
        self, texts: pl.DataFrame, parts: list[pl.DataFrame], shard: str | None, progress: Progress | None
    ) -> int:
        """Encode in chunks, add each to the parts, and save them to the shard now and then."""
        saved = time.monotonic()
        for start in range(0, texts.height, _CHUNK):
            chunk = texts.slice(start, _CHUNK)

            def advance(done: int, _: int, start: int = start) -> None:
                if progress is not None:
                    progress(start + done, texts.height)

            parts.append(
                as_frame(
                    chunk["content_hash"], self.encoder.encode([readable(text) for text in chunk["content"]], advance)
                )
            )
            if shard is not None and time.monotonic() - saved > _SAVE_EVERY_SECONDS:
                self.cache.write(shard, together(parts))
                saved = time.monotonic()
        return texts.height


class TextEncoder(Protocol):
    """What makes vectors of texts: an `Encoder`, or a faster way to the same."""

    @property
    def id(self) -> str: ...

    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> Vectors: ...


class Uncached:
    """An encoder without a cache: for texts that are not to be kept.

    Args:
        encoder: The encoder.
        by: What encodes in its place: a faster way.
    """

    def __init__(self, encoder: Encoder, by: TextEncoder | None = None) -> None:
        self.encoder, self._by = encoder, by or encoder

    def vectors(self, frame: pl.DataFrame, progress: Progress | None = None) -> Vectors:
        """The vectors of a frame's texts (content), in its order: float32, shape (n, dimension), rows of length 1."""
        return self._by.encode([readable(text) for text in frame["content"]], progress)


class ReadOnly:
    """An encoder behind a cache that is read and not written: memory is flat, and a faster way may fill the gaps.

    Args:
        embedder: Its cache is read.
        by: What encodes the texts that the cache lacks; default: the embedder's encoder.
    """

    def __init__(self, embedder: Embedder, by: TextEncoder | None = None) -> None:
        self.encoder, self._cache, self._by = embedder.encoder, embedder.cache, by or embedder.encoder

    def vectors(self, frame: pl.DataFrame, progress: Progress | None = None) -> Vectors:
        """The vectors of a frame of content_hash and content, as `Embedder.vectors` gives them."""
        vectors, found = self._cache.lookup(frame["content_hash"].to_list())
        if found.all() and frame.height:
            return vectors
        texts = [readable(text) for text in frame.filter(~found)["content"]]
        distinct = list(dict.fromkeys(texts))
        place = {text: row for row, text in enumerate(distinct)}
        encoded = self._by.encode(distinct, progress)
        if not found.any():
            vectors = np.zeros((frame.height, encoded.shape[1]), dtype=np.float32)
        vectors[~found] = encoded[[place[text] for text in texts]]
        return vectors
