"""The UI: dagster dev on the workspace, with its reports and Data Docs served beside it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from annotation_pipelines.errors import WorkspaceError
from annotation_pipelines.workspace import Workspace


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
    try:
        pages = serving_pages(workspace.storage, port=pages_port)
        with pages as url:
            sys.stderr.write(f"reports and Data Docs: {url}\nDagster UI: http://127.0.0.1:{port}\n")
            return _dagster_dev(workspace, port, environment)
    except OSError as error:
        raise WorkspaceError(
            f"port {pages_port} cannot be used: {error.strerror or error}",
            todo="Choose another with --pages-port",
        ) from None


def _dagster_dev(workspace: Workspace, port: int, environment: dict[str, str]) -> int:
    """dagster dev in a process of its own, with default signal handlers: an interrupt then stops it in seconds."""
    command = [sys.executable, "-m", "dagster", "dev", "-w", "workspace.yaml", "-p", str(port)]
    with subprocess.Popen(command, cwd=workspace.root, env=environment) as process:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                process.send_signal(signal.SIGINT)
