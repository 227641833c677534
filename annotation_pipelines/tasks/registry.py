"""The kinds of tasks: one line each."""

from __future__ import annotations

from typing import cast

from pydantic import model_validator

from annotation_pipelines.declaration_parts import Part
from annotation_pipelines.tasks import base
from annotation_pipelines.tasks.classification import Classification
from annotation_pipelines.tasks.critique import Critique
from annotation_pipelines.tasks.entities import Entities
from annotation_pipelines.tasks.extraction import Extraction
from annotation_pipelines.tasks.generation import Generation
from annotation_pipelines.tasks.multilabel import Multilabel
from annotation_pipelines.tasks.preference import Preference
from annotation_pipelines.tasks.rating import Rating
from annotation_pipelines.tasks.relations import Relations
from annotation_pipelines.tasks.settings import TaskSettings


class Task(Part):
    """What an annotation is: exactly one kind of task a project."""

    classification: Classification | None = None
    multilabel: Multilabel | None = None
    generation: Generation | None = None
    rating: Rating | None = None
    preference: Preference | None = None
    entities: Entities | None = None
    relations: Relations | None = None
    extraction: Extraction | None = None
    critique: Critique | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Task:
        found = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(found) != 1:
            raise ValueError(f"expected exactly one of {', '.join(KINDS)}, found {' and '.join(found) or 'none'}")
        return self

    @property
    def kind(self) -> str:
        """Which kind is declared."""
        return next(kind for kind in KINDS if getattr(self, kind) is not None)

    @property
    def settings(self) -> TaskSettings:
        """What is declared of it."""
        return cast("TaskSettings", getattr(self, self.kind))


KINDS = tuple(Task.model_fields)


def make_task(declaration: Task) -> base.Task:
    """The task that a declaration asks for."""
    return declaration.settings.make()
