"""What was folded into the ledger, compressed: the ledger can be made again from it.

A database that is damaged, or gone, or an old backup takes no paid answer with it: the next run sees that the ledger
has fewer rows than were ever folded, and puts the missing ones back. It costs about a tenth of the journal's bytes.

One file a folded segment, `folded/SEGMENT.ROWS.jsonl.zst`: the journal's own lines, checksums included.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

from annotation_pipelines.errors import StoreError
from annotation_pipelines.store.database import Store
from annotation_pipelines.store.journal_lines import add_rows, decode

_SUFFIX = ".jsonl.zst"
_log = logging.getLogger(__name__)


def archive(segment: Path, rows: int) -> None:
    """Move a folded segment into the archive.

    Raises:
        OSError: It cannot be written; the segment is where it was.
    """
    import pyarrow as pa

    folder = segment.parent / "folded"
    folder.mkdir(exist_ok=True)
    kept = folder / f"{segment.stem}.{rows}{_SUFFIX}"
    unfinished = folder / f"{segment.stem}.unfinished"
    compressed = pa.BufferOutputStream()
    with pa.CompressedOutputStream(compressed, "zstd") as stream:
        stream.write(segment.read_bytes())
    try:
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(compressed.getvalue())
            file.flush()
            os.fdatasync(file.fileno())
        unfinished.replace(kept)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    segment.unlink()


def restore(store: Store) -> int:
    """Put back what the ledger has lost; returns how many replies that were.

    Raises:
        StoreError: The archive cannot be read, or the store not written.
    """
    files = dict(_archived(store.home / "journal" / "folded"))
    if not files:
        return 0
    with store.transaction() as con:
        held: int = store.frame(con, "SELECT count(*) AS n FROM llm_calls")["n"].item()
        if held >= sum(files.values()):
            return 0
        restored = 0
        for file, promised in files.items():
            rows, _ = decode(_read(file))
            if len(rows) != promised:  # damaged: the next run must not look for what is not there
                _log.warning("%s: %d of its %d replies can be read", file, len(rows), promised)
                file.rename(file.with_name(f"{_segment(file)}.{len(rows)}{_SUFFIX}"))
            restored += add_rows(con, rows)
    if restored:
        _log.warning("%s: %d replies that the database had lost are back from %s", store.path, restored, file.parent)
    return restored


def _archived(folder: Path) -> Iterator[tuple[Path, int]]:
    """The files of the archive, and how many rows each has."""
    for file in sorted(folder.glob(f"*{_SUFFIX}")):
        rows = file.name.removesuffix(_SUFFIX).rpartition(".")[2]
        if rows.isdigit():
            yield file, int(rows)


def _segment(file: Path) -> str:
    return file.name.removesuffix(_SUFFIX).rpartition(".")[0]


def _read(file: Path) -> bytes:
    """What can be decompressed of a file."""
    import pyarrow as pa

    parts: list[bytes] = []
    try:
        with pa.OSFile(str(file)) as source, pa.CompressedInputStream(source, "zstd") as stream:
            while part := stream.read(2**16):
                parts.append(part)
    except pa.ArrowException:
        pass
    except OSError as error:
        if error.errno:
            raise StoreError(
                f"cannot be read: {error.strerror}", where=file, todo="Make the folder readable, and run again"
            ) from None
    return b"".join(parts)
