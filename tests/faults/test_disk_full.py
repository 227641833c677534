"""A full disk: one clear line, no purchase beyond those in flight, and nothing that was paid for is lost.

Most of it runs on a small disk of its own, for which one must be root; without, a limit on the size of files stands in.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from annotation_pipelines.store.journal import read_journal
from tests.faults.labelling import command, environment, filled_store, label, ledger
from tests.mock_endpoint import MockEndpoint, answer

RECORDS = 1500
CONCURRENCY = 8
DISK_MB = 32
KB, MB = 2**10, 2**20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", folder], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"a disk of its own cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def fill(disk: Path, spare: int) -> Path:
    """A file that leaves so many bytes free."""
    ballast = disk / "ballast"
    free = os.statvfs(disk)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize - spare)
    return ballast


@pytest.mark.parametrize("spare", [100 * KB, 4 * MB + 600 * KB, 6 * MB])
def test_a_full_disk_stops_the_run_in_one_line_and_the_next_goes_on(
    small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spare: int
) -> None:
    state = tmp_path / "state"
    monkeypatch.setenv("ANNOTATION_PIPELINES_STATE", str(state))
    home = small_disk / "project"
    filled_store(home, RECORDS)
    ballast = fill(small_disk, spare)
    with MockEndpoint(lambda call: answer("agrees"), latency=0.002) as mock:
        run = subprocess.run(
            command(home, mock.url, CONCURRENCY), env=environment(state), capture_output=True, text=True
        )
        assert run.returncode == 2, run.stderr[-2000:]
        assert len(run.stderr.strip().splitlines()) == 1, run.stderr
        assert "No space left on device" in run.stderr
        paid, kept = len(mock.billed), ledger(home)
        assert len(kept.calls) == paid, "an answer that was paid for is not on the disk"
        assert paid == 0 or spare > 4 * MB, "something was bought without room to keep it"
        after_failure = [len(read_journal(path)[0]) for path in home.glob("journal/*-reserve.jsonl")]
        assert sum(after_failure) <= CONCURRENCY, "requests were sent after an answer could not be written"

        ballast.unlink()
        counts = label(home, mock.url, CONCURRENCY)

        assert counts["labelled"] == RECORDS
        assert len(mock.billed) == RECORDS, "something was bought twice"
    assert kept.calls.items() <= ledger(home).calls.items()


def test_without_room_for_the_replies_in_flight_nothing_is_bought(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under a limit on the size of files, which binds anybody."""
    state = tmp_path / "state"
    monkeypatch.setenv("ANNOTATION_PIPELINES_STATE", str(state))
    home = tmp_path / "project"
    filled_store(home, 100)
    limit = (home / "project.duckdb").stat().st_size + 200 * KB
    with MockEndpoint(lambda call: answer("agrees")) as mock:
        limited = [sys.executable, "-c", LIMITED, str(limit), *command(home, mock.url)]
        run = subprocess.run(limited, env=environment(state), capture_output=True, text=True)
        assert run.returncode == 2, run.stderr[-2000:]
        assert len(run.stderr.strip().splitlines()) == 1, run.stderr
        assert "File too large" in run.stderr
        assert not mock.calls
        assert label(home, mock.url, CONCURRENCY)["labelled"] == 100


LIMITED = """
import os, resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
os.execv(sys.argv[2], sys.argv[2:])
"""
