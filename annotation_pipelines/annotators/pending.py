"""The records that an annotator still has to be asked about, on disk, so that a million of them take no memory.

A label is fresh when its record has the same content hash and the annotator the same fingerprint: one anti-join
decides, without rendering a request, and its result goes straight from DuckDB into a scratch file that is read in
chunks.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType

import duckdb
import polars as pl

from annotation_pipelines.annotators.shared_state import is_alive, this_process
from annotation_pipelines.store.database import Store, writing
from annotation_pipelines.tasks.base import UNANSWERED

CHUNK = 4096
"""Records of a chunk; also of a row group of the scratch file, which DuckDB cuts by multiples of 2,048."""

_MEMORY = "256MB"

STALE = f"""l.record_id IS NULL OR l.content_hash <> w.content_hash OR l.fingerprint <> who.fingerprint
    OR l.state IN {UNANSWERED}"""
"""Where a record w needs the annotator `who`, whose label of it is l."""


@dataclass(frozen=True)
class Wanted:
    """The records that are to have a label.

    Attributes:
        sql: Gives record_id, content_hash and content.
        frames: What the statement reads beside the store's tables, by name.
    """

    sql: str
    frames: Mapping[str, pl.DataFrame] = field(default_factory=dict)

    @classmethod
    def of_partition(cls, partition_key: str) -> Wanted:
        """The selected records of a partition."""
        return cls(
            """
            SELECT r.record_id, r.content_hash, r.content
            FROM selected_records s JOIN records r USING (record_id)
            WHERE s.partition_key = (SELECT key FROM wanted_partition) AND s.state = 'selected'
                  AND r.deleted_at IS NULL
            """,
            {"wanted_partition": pl.DataFrame({"key": [partition_key]})},
        )

    @classmethod
    def held_out(cls) -> Wanted:
        """The records that the annotator labels only to be measured: those of the held-out files, and held-out ones of
        the pool that selection sets aside.
        """
        return cls(
            """
            SELECT record_id, content_hash, content FROM human_labels
            WHERE origin = 'held_out' OR (role = 'evaluation'
                AND record_id IN (SELECT record_id FROM selected_records WHERE state = 'gold'))
            """
        )

    @classmethod
    def of_frame(cls, records: pl.DataFrame) -> Wanted:
        """The rows of a frame."""
        return cls(
            "SELECT record_id, content_hash, content FROM wanted_frame",
            {"wanted_frame": records.select("record_id", "content_hash", "content")},
        )


class Pending:
    """The records that need an annotator, as a context manager.

    Args:
        table: Where its labels are: llm_labels, or llm_votes for one of several annotators.

    Attributes:
        wanted: Records that are to have a label.
        why: How many need one because they are new, changed, stale (another declaration) or retried (unanswered).
    """

    def __init__(self, store: Store, wanted: Wanted, *, table: str, annotator: str, fingerprint: str) -> None:
        self._store, self._wanted, self._table = store, wanted, table
        self._who = pl.DataFrame({"annotator": [annotator], "fingerprint": [fingerprint]})
        self._folder = store.home / "pending"
        self._file = self._folder / f"{this_process().replace(':', '-')}-{uuid.uuid4().hex[:8]}.parquet"
        self.wanted = 0
        self.why: Counter[str] = Counter()

    def __len__(self) -> int:
        return self.why.total()

    def __enter__(self) -> Pending:
        with writing(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            self._remove_leftovers()
        with self._store.transaction() as con, registered(con, who=self._who, **self._wanted.frames):
            self.wanted = _count(con, f"SELECT count(*) FROM ({self._wanted.sql})")
            con.execute(f"SET memory_limit = '{_MEMORY}'")  # sorting spills to disk beyond it
            con.execute(
                f"""
                COPY (
                    SELECT w.record_id, w.content_hash, w.content,
                           CASE WHEN l.record_id IS NULL THEN 'new'
                                WHEN l.content_hash <> w.content_hash THEN 'changed'
                                WHEN l.fingerprint <> who.fingerprint THEN 'stale'
                                ELSE 'retried' END AS why
                    FROM ({self._wanted.sql}) w CROSS JOIN who
                    LEFT JOIN {self._table} l ON l.record_id = w.record_id AND l.annotator = who.annotator
                    WHERE {STALE}
                    ORDER BY w.record_id
                ) TO {_quoted(str(self._file))} (FORMAT parquet, ROW_GROUP_SIZE {CHUNK})
                """
            )
            rows = con.execute(
                f"SELECT why, count(*) FROM read_parquet({_quoted(str(self._file))}) GROUP BY why"
            ).fetchall()
        self.why = Counter(dict(rows))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.unlink(missing_ok=True)

    def chunks(self) -> Iterator[pl.DataFrame]:
        """The records in the order of their ids: record_id, content_hash, content, why."""
        import pyarrow.parquet as parquet

        if not len(self):
            return
        with parquet.ParquetFile(self._file) as file:
            for number in range(file.num_row_groups):
                frame = pl.from_arrow(file.read_row_group(number))
                assert isinstance(frame, pl.DataFrame)
                yield frame

    def _remove_leftovers(self) -> None:
        """The scratch files of killed runs."""
        for file in self._folder.glob("*.parquet"):
            pid, started, _ = file.name.split("-", 2)
            if not is_alive(f"{pid}:{started}"):
                file.unlink(missing_ok=True)


class registered:
    """Frames that are visible to statements by their names, as a context manager."""

    def __init__(self, con: duckdb.DuckDBPyConnection, **frames: pl.DataFrame) -> None:
        self._con, self._frames = con, frames

    def __enter__(self) -> None:
        for name, frame in self._frames.items():
            self._con.register(name, frame.to_arrow())

    def __exit__(self, *_: object) -> None:
        for name in self._frames:
            self._con.unregister(name)


def _count(con: duckdb.DuckDBPyConnection, sql: str) -> int:
    row = con.execute(sql).fetchone()
    return int(row[0]) if row else 0


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
