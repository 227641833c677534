"""From the declaration of a task to the task."""

from __future__ import annotations

from annotation_pipelines import project
from annotation_pipelines.tasks.base import Task
from annotation_pipelines.tasks.classification import ClassificationTask


def make_task(declaration: project.Task) -> Task:
    """The task that a declaration asks for."""
    return ClassificationTask(declaration.classification)
