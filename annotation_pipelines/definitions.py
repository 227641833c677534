"""What Dagster loads: every folder of `assets/`, one broken project not taking the others down."""

from __future__ import annotations

import logging
import os
import sys
import warnings

import dagster as dg
from dagster.components.core.component_tree import ComponentTree

from annotation_pipelines.workspace import Workspace

warnings.filterwarnings("ignore", category=dg.PreviewWarning)
warnings.filterwarnings("ignore", category=dg.BetaWarning)


@dg.definitions
def defs() -> dg.Definitions:
    """The definitions of all projects, and of plain Dagster code beside them."""
    workspace = Workspace.find()
    if str(workspace.root) not in sys.path:
        sys.path.insert(0, str(workspace.root))  # so that `assets` is importable without installing the workspace
    if os.environ.get("DAGSTER_IS_DEFS_VALIDATION_CLI"):
        loaded = dg.load_from_defs_folder(path_within_project=workspace.root)
    else:
        loaded = load_folder_by_folder(workspace)
    return dg.Definitions.merge(loaded, dg.Definitions(executor=dg.in_process_executor))


def load_folder_by_folder(workspace: Workspace) -> dg.Definitions:
    """Load each folder on its own; one that cannot be loaded is named in the log and left out."""
    tree = ComponentTree.for_project(workspace.root)
    loaded = []
    for path in sorted(workspace.assets.iterdir()):
        if path.name.startswith((".", "_")) or not (path.is_dir() or path.suffix == ".py"):
            continue
        try:
            loaded.append(tree.build_defs_at_path(path))
        except Exception as error:
            logging.getLogger("dagster").error(
                f"{path.relative_to(workspace.root)} could not be loaded and is left out: {_causes(error)}. "
                "Run `dg check defs` for the whole message."
            )
    return dg.Definitions.merge(*loaded)


def _causes(error: BaseException) -> str:
    """The last cause in one line: what went wrong, not the way there."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split())
