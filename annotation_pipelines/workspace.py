"""Where things lie: the workspace folder, its projects, their storage."""

from __future__ import annotations

import os
from pathlib import Path

from annotation_pipelines.declaration_file import load_project
from annotation_pipelines.errors import WorkspaceError
from annotation_pipelines.project import Project

DECLARATION_FILE = "defs.yaml"


class Workspace:
    """A folder with `assets/`, `workspace.yaml` and `storage/`.

    Attributes:
        root: The folder.
        storage: Where databases, models and reports go: `storage/` in it, or ANNOTATION_PIPELINES_STORAGE.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        configured = os.environ.get("ANNOTATION_PIPELINES_STORAGE")
        self.storage = Path(configured).resolve() if configured else self.root / "storage"

    @classmethod
    def find(cls, start: Path | None = None) -> Workspace:
        """The workspace around a folder; default: around the current one.

        Raises:
            WorkspaceError: Neither the folder nor any above it holds workspace.yaml and assets/.
        """
        start = (start or Path.cwd()).resolve()
        for folder in (start, *start.parents):
            if (folder / "workspace.yaml").is_file() and (folder / "assets").is_dir():
                return cls(folder)
        raise WorkspaceError(
            "expected a workspace (a folder with workspace.yaml and assets/), found none here or above",
            where=start,
            todo="Go to your workspace, or make one with: annotation-pipelines init FOLDER",
        )

    @property
    def assets(self) -> Path:
        """The folder with one folder a project."""
        return self.root / "assets"

    @property
    def dagster_home(self) -> Path:
        """Where Dagster keeps its records."""
        return self.root / ".dagster"

    def project_names(self) -> list[str]:
        """The folders of `assets/` that hold a declaration of ours, broken ones included."""
        return sorted(
            file.parent.name
            for file in self.assets.glob(f"*/{DECLARATION_FILE}")
            if "annotation_pipelines" in file.read_text(encoding="utf-8", errors="replace")
        )

    def project(self, name: str) -> Project:
        """One project, by its folder's name.

        Raises:
            WorkspaceError: There is no such project.
            DeclarationError: Its declaration is wrong.
        """
        file = self.assets / name / DECLARATION_FILE
        if not file.is_file():
            raise WorkspaceError(
                f"there is no project {name!r}; there are: {', '.join(self.project_names()) or 'none'}",
                where=self.assets,
            )
        return load_project(file)

    def home(self, project: Project | str) -> Path:
        """A project's storage folder."""
        return self.storage / (project if isinstance(project, str) else project.name)
