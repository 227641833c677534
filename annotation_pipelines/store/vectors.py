"""Embeddings, cached by content: one Parquet file a shard, seen in the project's database as the view `embeddings`.

A shard is a partition. It is written to a temporary file and renamed, so that a reader finds the old or the new one and
writers of different shards do not meet. Every page carries a checksum: a damaged file is noticed and counts as empty,
and its texts are encoded again. So nothing here is ever lost that cannot be made anew.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import duckdb
import numpy as np
import polars as pl
from filelock import FileLock
from numpy.typing import NDArray

from annotation_pipelines.errors import StoreError

VIEW = "embeddings"
SHARED = "_shared"
"""The shard for texts that belong to no one partition: held-out records, demonstrations, descriptions of labels."""

SHARED_LIMIT = 50_000
_GROUP = 8_192  # vectors of a row group
_PIECE = 8_192  # vectors that a look-up reads at a time
_READ_AHEAD = 1 << 20
_EMPTY_VIEW = "SELECT ''::VARCHAR AS partition_key, ''::VARCHAR AS content_hash, []::FLOAT[] AS vector WHERE false"

_EMPTY = pl.Schema({"content_hash": pl.String(), "vector": pl.Array(pl.Float32, 0)})

Vectors = NDArray[np.float32]
Found = NDArray[np.bool_]


class VectorStore:
    """The vectors of one encoder in a project's storage folder.

    Args:
        home: The project's storage folder.
        encoder_id: What the vectors were made by; safe as a file's name.
    """

    def __init__(self, home: Path, encoder_id: str) -> None:
        self.folder = home / "embeddings" / encoder_id

    def path(self, shard: str) -> Path:
        """The file of a shard; its name is the partition key, percent-encoded."""
        return self.folder / f"{quote(shard, safe='')}.parquet"

    def shards(self) -> list[str]:
        """The shards that there are, sorted."""
        return sorted(unquote(file.stem) for file in self.folder.glob("*.parquet"))

    def read(self, shard: str) -> pl.DataFrame:
        """A shard as a frame of content_hash and vector (an array of Float32); empty when it is missing or damaged."""
        return self._read(self.path(shard), ["content_hash", "vector"])

    def lookup(self, hashes: Sequence[str]) -> tuple[Vectors, Found]:
        """Vectors by content hash, wherever they lie: in the shared shard first, then in the newest ones.

        Args:
            hashes: n content hashes; duplicates are allowed.

        Returns:
            float32 of shape (n, d), zeros where nothing was found (d is 0 when nothing was found at all), and which
            were found, shape (n,).
        """
        found = np.zeros(len(hashes), dtype=np.bool_)
        vectors: Vectors = np.zeros((len(hashes), 0), dtype=np.float32)
        wanted = pl.DataFrame({"content_hash": pl.Series(hashes, dtype=pl.String)}).with_row_index("position")
        for path in self._newest_first():
            if wanted.is_empty():
                break
            for positions, block in self._hits(path, wanted):
                if not vectors.shape[1]:
                    vectors = np.zeros((len(hashes), block.shape[1]), dtype=np.float32)
                if block.shape[1] != vectors.shape[1]:
                    _warn(path, f"vectors of length {block.shape[1]} among those of length {vectors.shape[1]}")
                    break
                vectors[positions], found[positions] = block, True
            wanted = wanted.filter(~pl.Series(found)[wanted["position"]])
        return vectors, found

    def write(self, shard: str, frame: pl.DataFrame) -> None:
        """Put a frame of content_hash and vector in a shard's place; an empty one removes the shard.

        Raises:
            StoreError: The folder cannot be written, or the disk is full.
        """
        import pyarrow.parquet as parquet

        path = self.path(shard)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        with self._writing(shard):
            if frame.is_empty():
                path.unlink(missing_ok=True)
                return
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                rows = frame.select("content_hash", "vector")
                # In order of the hashes and in small groups: a look-up passes over those that cannot hold its hashes.
                # The shared shard is in order of age.
                parquet.write_table(
                    (rows if shard == SHARED else rows.sort("content_hash")).to_arrow(),
                    temporary,
                    row_group_size=_GROUP,
                    compression="lz4",
                    use_dictionary=False,
                    write_page_checksum=True,
                )
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)

    def share(self, frame: pl.DataFrame) -> None:
        """Add a frame of content_hash and vector to the shared shard, which several runs may do at once.

        It keeps the newest 50,000.

        Raises:
            StoreError: The folder cannot be written, or the disk is full.
        """
        with self._writing(SHARED):
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / f".{SHARED}.lock"):
                old = self.read(SHARED).join(frame, on="content_hash", how="anti")
                self.write(SHARED, together([old, frame]).tail(SHARED_LIMIT))

    def publish(self, con: duckdb.DuckDBPyConnection) -> None:
        """Create or renew the view `embeddings(partition_key, content_hash, vector)` over all shards.

        The view names the files by absolute path: after the folder was moved it answers again once any shard was
        written. It never keeps the database from being opened.
        """
        name = "regexp_extract(filename, '([^/\\\\]+)\\.parquet$', 1)"
        files = _glob_literal(self.folder.resolve())
        rows = (
            f"SELECT url_decode({name}) AS partition_key, content_hash, vector "
            f"FROM read_parquet({files}, filename = true)"
        )
        con.execute(f"CREATE OR REPLACE VIEW {VIEW} AS {rows if self._readable(rows) else _EMPTY_VIEW}")

    def _readable(self, rows: str) -> bool:
        """Whether DuckDB can make a view of it; tried elsewhere, since an error would end the caller's transaction."""
        if not any(self.folder.glob("*.parquet")):
            return False
        try:
            with duckdb.connect() as con:
                con.execute(f"CREATE VIEW {VIEW} AS {rows}")
        except duckdb.Error as error:
            # DuckDB looks into one file here. A damaged one is written anew soon; the view can wait for that.
            _warn(self.folder, str(error).splitlines()[0])
            return False
        return True

    @contextmanager
    def _writing(self, shard: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(
                f"the embeddings cannot be written ({error.strerror or error})",
                where=self.path(shard),
                todo="Free the disk or make the folder writable, and run again; what was encoded before is kept",
            ) from None

    def _newest_first(self) -> Iterator[Path]:
        shared = self.path(SHARED)
        if shared.exists():
            yield shared
        # What a run asks for is mostly what it has just written: among thousands of shards, the first opened.
        others = {file: file.stat().st_mtime_ns for file in self.folder.glob("*.parquet") if file != shared}
        yield from sorted(others, key=lambda file: (-others[file], file))

    def _hits(self, path: Path, wanted: pl.DataFrame) -> Iterator[tuple[NDArray[np.uint32], Vectors]]:
        """Positions and vectors of what a file has of the wanted hashes, a piece at a time; until it is damaged.

        A shard of a million vectors is a file of 1.5 GB, and a caller may want a part of it.
        """
        import pyarrow.parquet as parquet

        low, high = wanted["content_hash"].min(), wanted["content_hash"].max()
        try:
            with parquet.ParquetFile(path, page_checksum_verification=True, buffer_size=_READ_AHEAD) as file:
                found, needed, start = [], [], 0
                for group in range(file.num_row_groups):
                    bounds = file.metadata.row_group(group).column(0).statistics
                    if bounds is not None and bounds.has_min_max and (bounds.max < low or bounds.min > high):
                        continue
                    # The hashes are a twentieth of the file: many groups are passed over without reading a vector.
                    there = _checked(file.read_row_group(group, columns=["content_hash"]), ["content_hash"])
                    rows = wanted.join(there.with_row_index("row", start), on="content_hash")
                    if rows.height:
                        found.append(rows.select("row", "position").sort("row"))
                        needed.append(group)
                        start += there.height
                if not needed:
                    return
                every, start = pl.concat(found), 0
                rows_of, positions_of = every["row"].to_numpy(), every["position"].to_numpy()
                for batch in file.iter_batches(_PIECE, row_groups=needed, columns=["vector"]):
                    block = matrix(_checked(batch, ["vector"])["vector"])
                    first, last = np.searchsorted(rows_of, (start, start + len(block)))
                    if last > first:
                        yield positions_of[first:last], block[rows_of[first:last] - start]
                    start += len(block)
        except FileNotFoundError:
            return
        except Exception as error:  # as in _read
            _warn(path, " ".join(str(error).split())[:200])

    def _read(self, path: Path, columns: list[str]) -> pl.DataFrame:
        import pyarrow.parquet as parquet

        empty = pl.DataFrame(schema=_EMPTY)
        try:
            with parquet.ParquetFile(path, page_checksum_verification=True) as file:
                return _checked(file.read(columns=columns), columns)
        except FileNotFoundError:
            return empty.select(columns)
        # A damaged file ends in any of many errors, those of thrift, pyarrow and polars among them.
        except Exception as error:
            _warn(path, " ".join(str(error).split())[:200])
            return empty.select(columns)


def _checked(table: Any, columns: list[str]) -> pl.DataFrame:
    """An Arrow table as a frame with these columns.

    Raises:
        ValueError: It is not what a shard holds.
    """
    frame = pl.DataFrame(pl.from_arrow(table))
    if frame.columns != columns or frame.schema.get("content_hash", pl.String()) != pl.String:
        raise ValueError(f"it has the columns {table.schema.names}")
    if "vector" in columns and not (
        isinstance(frame.schema["vector"], pl.Array) and frame.schema["vector"].inner == pl.Float32()
    ):
        raise ValueError(f"its vectors are of type {frame.schema['vector']}")
    return frame


def matrix(vectors: pl.Series) -> Vectors:
    """A column of vectors (an array of Float32) as an array of shape (n, d)."""
    dtype = vectors.dtype
    assert isinstance(dtype, pl.Array)
    return vectors.to_numpy().reshape(len(vectors), dtype.size).astype(np.float32, copy=False)


def as_frame(hashes: Sequence[str] | pl.Series, vectors: Vectors) -> pl.DataFrame:
    """Hashes and their vectors, shape (n, d), as the frame that a shard holds."""
    return pl.DataFrame(
        {
            "content_hash": pl.Series(hashes, dtype=pl.String),
            "vector": pl.Series(np.ascontiguousarray(vectors), dtype=pl.Array(pl.Float32, vectors.shape[1])),
        }
    )


def together(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Frames of content_hash and vector as one, empty ones (whose vectors may have no length) left out."""
    filled = [part for part in parts if not part.is_empty()]
    return pl.concat(filled) if filled else pl.DataFrame(schema=_EMPTY)


def _warn(path: Path, problem: str) -> None:
    logging.getLogger(__name__).warning(
        "%s: these embeddings cannot be read (%s); what is needed of them is encoded again", path, problem
    )


def _glob_literal(folder: Path) -> str:
    """The pattern of a folder's Parquet files as an SQL string, the folder's own name taken literally."""
    name = "".join(f"[{c}]" if c in "*?[" else c for c in folder.as_posix())
    return "'" + f"{name}/*.parquet".replace("'", "''") + "'"
