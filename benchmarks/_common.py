"""What the benchmarks share: how a figure is printed, and copies of this workspace to run in."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
COMMAND = Path(sys.executable).parent / "annotation-pipelines"


def figure(name: str, value: float | None, unit: str, **context: object) -> None:
    """Print one figure as a JSON object on a line."""
    print(json.dumps({"figure": name, "value": value, "unit": unit, "context": context}), flush=True)


@contextmanager
def workspace_copy() -> Iterator[Path]:
    """This workspace's projects in a new folder, with nothing run yet."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "workspace"
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "assets", folder / "assets", ignore=ignore)
        shutil.copy(ROOT / "workspace.yaml", folder)
        (folder / ".dagster").mkdir()
        shutil.copy(ROOT / ".dagster" / "dagster.yaml", folder / ".dagster")
        yield folder


def environment(**changes: str) -> dict[str, str]:
    """The environment without settings that would lead elsewhere."""
    ours = ("DAGSTER_HOME", "ANNOTATION_PIPELINES_STORAGE", "ANNOTATION_PIPELINES_PAGES_URL")
    return {**{k: v for k, v in os.environ.items() if k not in ours}, **changes}


def run(folder: Path, *arguments: str) -> None:
    """Run the command line in a workspace; its words are shown where it fails."""
    done = subprocess.run([COMMAND, *arguments], cwd=folder, env=environment(), capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
