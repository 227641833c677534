"""The UI: dagster dev on the workspace, with its reports and Data Docs served beside it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from annotation_pipelines.errors import WorkspaceError
from annotation_pipelines.workspace import Workspace

# A shell that starts programs in the background has them ignore interrupts, and dagster dev would inherit that. And
# it must not outlive a killed parent: a daemon that nobody sees would go on launching what schedules ask for.
_DAGSTER_DEV = """
import os, signal, sys, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)
def end_with(parent):
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
from dagster._cli import main
sys.argv[0] = "dagster"
main()
"""


def open_ui(workspace: Workspace, port: int, pages_port: int) -> int:
    """Run `dagster dev` until it is stopped; returns its exit code.

    Raises:
        WorkspaceError: A port is taken.
    """
    from annotation_pipelines.reports.pages import serving_pages

    environment = dict(os.environ)
    environment.setdefault("DAGSTER_HOME", str(workspace.dagster_home))
    environment.setdefault("ANNOTATION_PIPELINES_PAGES_URL", f"http://127.0.0.1:{pages_port}")
    Path(environment["DAGSTER_HOME"]).mkdir(parents=True, exist_ok=True)
    _require_free(port, "--port")
    _require_free(pages_port, "--pages-port")
    with serving_pages(workspace.storage, port=pages_port) as url:
        sys.stderr.write(f"reports and Data Docs: {url}\nDagster UI: http://127.0.0.1:{port}\n")
        return _dagster_dev(workspace, port, environment)


def _require_free(port: int, option: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise WorkspaceError(
                f"port {port} cannot be used: {error.strerror}", todo=f"Choose another with {option}"
            ) from None


def _dagster_dev(workspace: Workspace, port: int, environment: dict[str, str]) -> int:
    """dagster dev in a session of its own, so that one interrupt reaches it once, from here."""
    command = [sys.executable, "-c", _DAGSTER_DEV, "dev", "-w", "workspace.yaml", "-p", str(port)]
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signal_number, signal.default_int_handler)
    with subprocess.Popen(command, cwd=workspace.root, env=environment, start_new_session=True) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                process.send_signal(signal.SIGINT)
