"""AnnotationProject: the Dagster component that turns one declaration into a project's definitions."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
from pydantic import BaseModel

from annotation_pipelines.graph.project import project_definitions
from annotation_pipelines.project import Declaration, Project
from annotation_pipelines.scaffolding import write_project
from annotation_pipelines.workspace import Workspace


class AnnotationProjectScaffolder(dg.Scaffolder[BaseModel]):
    """Writes a commented declaration and a few records to try it on."""

    def scaffold(self, request: dg.ScaffoldRequest[BaseModel]) -> None:
        """Write the project's folder."""
        write_project(request.target_path)


@dg.scaffold_with(AnnotationProjectScaffolder)
class AnnotationProject(dg.Component):
    """Scheduled annotation of records by a language model, from source to distilled model."""

    def __init__(self, declaration: Declaration, folder: Path) -> None:
        self.declaration, self.folder = declaration, folder

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        """The declaration: its schema is what `dg check yaml` holds a file against."""
        return Declaration

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> AnnotationProject:
        """Take the declaration as it stands: its strings never pass through a template engine."""
        assert isinstance(attributes, Declaration)
        return cls(attributes, Path(context.path))

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """The project's definitions."""
        project = Project(self.folder.name, self.folder, self.declaration)
        return project_definitions(project, Workspace(Path(context.project_root)))
