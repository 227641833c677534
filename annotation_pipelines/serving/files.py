"""The champion's labels for a file or a stream, written as they come."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import polars as pl

from annotation_pipelines.content import readable
from annotation_pipelines.distillation.champion import Champion
from annotation_pipelines.errors import WorkspaceError

WRITTEN = (".csv", ".jsonl", ".parquet")

_PREDICTED = pl.Schema(
    {"text": pl.String(), "label": pl.String(), "confidence": pl.Float64(), "abstained": pl.Boolean()}
)

Write = Callable[[pl.DataFrame], None]


def predicted_chunks(
    champion: Champion, chunks: Iterable[pl.DataFrame], say: Callable[[str], None], *, every: float = 5.0
) -> Iterator[pl.DataFrame]:
    """The champion's predictions of contents, chunk by chunk.

    Args:
        chunks: Each with content, and an id before it, if any; see `read_chunks`.
        say: Told how far it is, every few seconds.
        every: Seconds between two lines.

    Yields:
        The id, text, label, confidence, abstained; where the text is empty the last three are null.
    """
    start = said = time.monotonic()
    done = 0
    for chunk in chunks:

        def advance(now: int, _: int, before: int = done) -> None:
            nonlocal said
            if time.monotonic() - said >= every:
                said = time.monotonic()
                say(f"{before + now:,} texts predicted ({(before + now) / (said - start):,.1f}/s)")

        full = chunk["content"] != ""
        found = champion.predict(chunk.filter(full)["content"].to_list(), advance)
        done += chunk.height
        advance(0, 0, done)
        texts = pl.Series("text", [readable(content) for content in chunk["content"]], pl.String)
        rows = chunk.drop("content").with_columns(texts).with_row_index("_row")
        labels = rows.filter(full).select("_row").hstack(found)
        yield rows.join(labels, on="_row", how="left", maintain_order="left").drop("_row")


def predict_file(
    champion: Champion,
    chunks: Iterable[pl.DataFrame],
    write: Write,
    say: Callable[[str], None],
) -> tuple[int, int]:
    """Write the champion's predictions of contents as they come; see `predicted_chunks`.

    Returns:
        How many texts there were, and of how many it abstained.
    """
    texts = abstained = 0
    for rows in predicted_chunks(champion, chunks, say):
        write(rows)
        texts += rows.height
        abstained += int(rows["abstained"].sum())
    if not texts:
        write(pl.DataFrame(schema=_PREDICTED))
    return texts, abstained


@contextmanager
def writing(file: Path) -> Iterator[Write]:
    """Gives a function that adds rows to a file, which is there when all are written, and never half.

    Args:
        file: Ending in .csv, .jsonl or .parquet.

    Raises:
        WorkspaceError: It has another ending, or cannot be written.
    """
    if file.suffix not in WRITTEN:
        raise WorkspaceError(f"expected a file ending in {', '.join(WRITTEN)}, found {file.name!r}", where=file)
    part = file.with_name(f".{file.name}.part")
    try:
        with part.open("wb") as stream:
            if file.suffix == ".parquet":
                with _parquet(stream) as write:
                    yield write
            else:
                yield _lines(stream, header=file.suffix == ".csv")
        part.replace(file)
    except OSError as error:
        raise WorkspaceError(f"cannot be written: {error.strerror or error}", where=file) from None
    finally:
        part.unlink(missing_ok=True)


def _lines(stream: IO[bytes], *, header: bool) -> Write:
    first = True

    def write(frame: pl.DataFrame) -> None:
        nonlocal first
        if header:
            frame.write_csv(stream, include_header=first)
        else:
            frame.write_ndjson(stream)
        first = False

    return write


@contextmanager
def _parquet(stream: IO[bytes]) -> Iterator[Write]:
    import pyarrow.parquet as parquet

    writer: Any = None

    def write(frame: pl.DataFrame) -> None:
        nonlocal writer
        table = frame.to_arrow()
        if writer is None:
            writer = parquet.ParquetWriter(stream, table.schema, compression="zstd")
        writer.write_table(table)

    try:
        yield write
    finally:
        if writer is not None:
            writer.close()
