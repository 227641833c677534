"""A folder that is written whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from annotation_pipelines.errors import WorkspaceError

MARK = "schema.json"
"""Every export has it: only a folder that holds it, or nothing, is replaced."""


@contextmanager
def swapped(folder: Path) -> Iterator[Path]:
    """A new folder to write into, which takes the place of `folder` when the block ends, and not when it raises.

    What a killed writer left is cleared away, or put back, by the next one. Two writers take turns.

    Raises:
        WorkspaceError: The folder holds something else than an export, or cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_name(f".{folder.name}.lock")):
            new, old = folder.with_name(f".{folder.name}.new"), folder.with_name(f".{folder.name}.old")
            _recover(folder, new, old)
            if folder.exists() and not _ours(folder):
                raise WorkspaceError(
                    "expected an earlier export, an empty folder or nothing, found something else",
                    where=folder,
                    todo="Name another folder: what is there would be lost",
                )
            new.mkdir()
            try:
                yield new
                _sync(new)
                if folder.exists():
                    folder.rename(old)
                new.rename(folder)
                shutil.rmtree(old, ignore_errors=True)
            finally:
                shutil.rmtree(new, ignore_errors=True)
    except OSError as error:
        raise WorkspaceError(f"cannot be written: {error.strerror or error}", where=folder) from None


def _recover(folder: Path, new: Path, old: Path) -> None:
    """Undo what a writer left that was killed: between the two renames the old folder is all there is."""
    if old.exists():
        if folder.exists():
            shutil.rmtree(old)
        else:
            old.rename(folder)
    if new.exists():
        shutil.rmtree(new)


def _ours(folder: Path) -> bool:
    return folder.is_dir() and ((folder / MARK).is_file() or not any(folder.iterdir()))


def _sync(folder: Path) -> None:
    """See that all files are on the disk before they take the place of others."""
    for file in folder.rglob("*"):
        if file.is_file():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
