"""A small document that the processes of this machine change in turns: who is sending how much, what is spent.

A JSON object in a file. A turn locks the file (the lock goes with the process, also when it is killed), reads, and
writes back what was changed. A turn takes microseconds: nothing waits inside one. A document that was cut off or
damaged counts as empty: whoever keeps something here can make it again from the ledger or the endpoint's answers.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from annotation_pipelines.errors import StoreError

Document = dict[str, Any]

_SLACK = 4096


class SharedState:
    """One document.

    Args:
        path: Its file; folder and file are made when first used, readable by this user alone.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None

    @contextmanager
    def turn(self) -> Iterator[Document]:
        """The document, to read and to change in place; written back when the block ends without an error.

        Raises:
            StoreError: The file cannot be read or written.
        """
        try:
            file = self._locked()
        except OSError as error:
            raise self._unusable(error) from None
        try:
            before, document = _read(file)
            yield document
            after = json.dumps(document, separators=(",", ":")).encode()
            if after != before.rstrip():
                _write(file, after, len(before))
        except OSError as error:
            raise self._unusable(error) from None
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Give the file back; a later turn opens it again."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _locked(self) -> int:
        """The file, locked; made again if somebody has removed it."""
        while True:
            file = self._open()
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.fstat(file).st_nlink:
                return file
            self.close()

    def _open(self) -> int:
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        return self._file

    def _unusable(self, error: OSError) -> StoreError:
        return StoreError(
            f"cannot be used: {error.strerror or error}", where=self.path, todo="Free the disk or make it writable"
        )


def machine_folder() -> Path:
    """Where processes of this user and machine meet: ANNOTATION_PIPELINES_STATE, else a folder below the temporary one.

    Raises:
        StoreError: The folder belongs to somebody else.
    """
    if configured := os.environ.get("ANNOTATION_PIPELINES_STATE"):
        return Path(configured)
    folder = Path(tempfile.gettempdir()) / f"annotation-pipelines-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise StoreError(
            "belongs to another user", where=folder, todo="Name another folder in ANNOTATION_PIPELINES_STATE"
        )
    return folder


def this_process() -> str:
    """A name of this process that no later one gets: its id and when it started."""
    pid = os.getpid()
    return f"{pid}:{_started(pid)}"


def is_alive(process: str) -> bool:
    """Whether the process with this name still runs."""
    pid, _, started = process.partition(":")
    return pid.isdigit() and _started(int(pid)) == started and started != ""


def _started(pid: int) -> str:
    """When a process started, in ticks since the machine did; '' where it does not run or cannot be looked at."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "" if Path("/proc/self/stat").exists() else _asked(pid)
    fields = stat.rsplit(")", 1)[-1].split()
    return "" if fields[0] in ("Z", "X") else fields[19]


def _asked(pid: int) -> str:
    """Without /proc the id alone must do."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return "running"


def _read(file: int) -> tuple[bytes, Document]:
    """What the file holds, and the document in it."""
    size = os.fstat(file).st_size
    text = os.pread(file, size, 0) if size else b""
    try:
        document = json.loads(text) if text else {}
    except ValueError:
        document = None
    return text, document if isinstance(document, dict) else {}


def _write(file: int, text: bytes, size: int) -> None:
    """Write a document over one of so many bytes, in one step: blanks fill up what it is shorter."""
    filled = text.ljust(size) if size <= 2 * len(text) + _SLACK else text
    if os.pwrite(file, filled, 0) != len(filled):
        raise OSError("no space left on device")
    if len(filled) < size:
        os.ftruncate(file, len(filled))
