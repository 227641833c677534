"""A storage folder that cannot be written: one clear line before anything is bought."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.labelling import command, environment, filled_store, label
from tests.mock_endpoint import MockEndpoint, answer

BOUND = """
import ctypes, os, sys
for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH: permissions do not bind who has them, as root does
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.parametrize("closed", ["project", "project/journal", "project/project.duckdb"])
def test_a_folder_without_write_permission_stops_the_run_before_it_buys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: str
) -> None:
    state = tmp_path / "state"
    monkeypatch.setenv("ANNOTATION_PIPELINES_STATE", str(state))
    home = tmp_path / "project"
    filled_store(home, 100)
    (home / "journal").mkdir()
    (tmp_path / closed).chmod(0o555)
    with MockEndpoint(lambda call: answer("agrees")) as mock:
        bound = [sys.executable, "-c", BOUND, *command(home, mock.url)]
        run = subprocess.run(bound, env=environment(state), capture_output=True, text=True)
        assert_refused(run, "Permission denied")
        assert not mock.calls
        (tmp_path / closed).chmod(0o755)
        assert label(home, mock.url, concurrency=8)["labelled"] == 100


def test_a_file_system_that_is_mounted_read_only_stops_the_run_before_it_buys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state"
    monkeypatch.setenv("ANNOTATION_PIPELINES_STATE", str(state))
    home = tmp_path / "project"
    filled_store(home, 100)
    with MockEndpoint(lambda call: answer("agrees")) as mock:
        mounted = [
            subprocess.run(["mount", *options, home], capture_output=True, text=True)
            for options in (["--bind", home], ["-o", "remount,bind,ro"])
        ]
        if any(step.returncode for step in mounted):
            pytest.skip(f"nothing can be mounted here: {mounted[-1].stderr.strip()}")
        try:
            run = subprocess.run(command(home, mock.url), env=environment(state), capture_output=True, text=True)
        finally:
            subprocess.run(["umount", home], check=True)
        assert_refused(run, "Read-only file system")
        assert not mock.calls
        assert label(home, mock.url, concurrency=8)["labelled"] == 100


def assert_refused(run: subprocess.CompletedProcess[str], reason: str) -> None:
    """The run ended in one line that names the reason."""
    assert run.returncode == 2, run.stderr[-2000:]
    assert len(run.stderr.strip().splitlines()) == 1, run.stderr
    assert reason in run.stderr
