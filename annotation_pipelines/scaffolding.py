"""New projects and new workspaces, written from the packaged templates."""

from __future__ import annotations

import shutil
from importlib.resources import as_file, files
from pathlib import Path

from annotation_pipelines.errors import WorkspaceError

_PROJECT_FILES = ("defs.yaml", "guideline.md", "records.csv")

_PYPROJECT = """\
# Makes the `dg` commands work here: dg check defs, dg list defs, dg scaffold defs, dg dev.
[tool.dg]
directory_type = "project"

[tool.dg.project]
root_module = "assets"
defs_module = "assets"
code_location_target_module = "annotation_pipelines.definitions"
registry_modules = ["annotation_pipelines"]
code_location_name = "annotation_pipelines"

[tool.dg.cli.telemetry]
enabled = false
"""

_WORKSPACE = """\
load_from:
  - python_module:
      module_name: annotation_pipelines.definitions
      working_directory: .
      location_name: annotation_pipelines
"""

_DAGSTER = """\
telemetry:
  enabled: false

concurrency:
  runs:
    max_concurrent_runs: 2

run_monitoring:
  enabled: true
run_retries:
  enabled: true
  max_retries: 1
  retry_on_asset_or_op_failure: false

nux:
  enabled: false
"""

_GITIGNORE = """\
storage/
.dagster/*
!.dagster/dagster.yaml
"""


def write_project(folder: Path) -> None:
    """A commented declaration, a guideline and a few records to try them on.

    Raises:
        WorkspaceError: The folder holds a declaration already; nothing is overwritten.
    """
    if (folder / "defs.yaml").exists():
        raise WorkspaceError("there is a project here already", where=folder, todo="Choose another name")
    folder.mkdir(parents=True, exist_ok=True)
    with as_file(files("annotation_pipelines") / "templates") as templates:
        for name in _PROJECT_FILES:
            shutil.copyfile(templates / name, folder / name)


def write_workspace(folder: Path) -> None:
    """A workspace with one project, `first_project`, ready for `annotation-pipelines run first_project`.

    Raises:
        WorkspaceError: The folder is a workspace already; nothing is overwritten.
    """
    if (folder / "workspace.yaml").exists():
        raise WorkspaceError("there is a workspace here already", where=folder, todo="Choose another folder")
    try:
        (folder / ".dagster").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WorkspaceError(f"the folder cannot be made: {error.strerror}", where=folder) from None
    for name, text in (
        ("pyproject.toml", _PYPROJECT),
        ("workspace.yaml", _WORKSPACE),
        (".dagster/dagster.yaml", _DAGSTER),
        (".gitignore", _GITIGNORE),
    ):
        if not (folder / name).exists():
            (folder / name).write_text(text, encoding="utf-8")
    write_project(folder / "assets" / "first_project")
