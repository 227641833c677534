"""The annotators that a project declares, ready to annotate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from annotation_pipelines.annotators.base import Annotator
from annotation_pipelines.annotators.panel import Panel
from annotation_pipelines.project import Annotator as Declared
from annotation_pipelines.project import Panel as PanelSettings
from annotation_pipelines.project import Project
from annotation_pipelines.store.database import Store
from annotation_pipelines.tasks.base import Task
from annotation_pipelines.tasks.choices import ChoosesAmong

if TYPE_CHECKING:
    from annotation_pipelines.annotators.candidates import Candidates
    from annotation_pipelines.annotators.endpoint.annotator import Choose
    from annotation_pipelines.distillation.embedding import Embedder


def make_panel(project: Project, store: Store) -> Panel:
    """The declared annotators, with the project's demonstrations.

    No model is loaded and nothing is asked before requests are made.

    Raises:
        DeclarationError: The prompt template, the recognizers or an endpoint are wrong.
        AnnotatorError: A demonstration has a label that is not the task's.
    """
    declaration = project.declaration
    task = project.task
    demonstrations = load_demonstrations(store) if declaration.demonstrations else None
    if demonstrations is not None and demonstrations.is_empty():
        demonstrations = None
    members = [_make(project, store, declared, task, demonstrations) for declared in declaration.annotators]
    return Panel(annotator_name(project), members, task, declaration.panel or PanelSettings())


def annotator_name(project: Project) -> str:
    """The name under which the project's labels are in llm_labels: its annotator's, or jury, or cascade."""
    declaration = project.declaration
    if len(declaration.annotators) == 1:
        return declaration.annotators[0].called
    return (declaration.panel or PanelSettings()).combine


def load_demonstrations(store: Store) -> pl.DataFrame:
    """The demonstration pool: record_id, content_hash, content, label, in a stable order."""
    return store.query(
        "SELECT record_id, content_hash, content, label FROM human_labels WHERE role = 'demonstration' "
        "ORDER BY record_id"
    )


def _make(
    project: Project, store: Store, declared: Declared, task: Task, demonstrations: pl.DataFrame | None
) -> Annotator:
    from annotation_pipelines.distillation.embedding import Embedder

    declaration = project.declaration
    embedder = Embedder.for_project(project, store)
    if declared.embedded:
        from annotation_pipelines.annotators.embedded.annotator import EmbeddedAnnotator

        return EmbeddedAnnotator(
            declared.embedded, task, project.guideline, demonstrations, embedder, name=declared.called
        )
    from annotation_pipelines.annotators.endpoint.annotator import OpenAIAnnotator
    from annotation_pipelines.annotators.endpoint.url import endpoint_url
    from annotation_pipelines.annotators.privacy.redaction import Redactor
    from annotation_pipelines.annotators.spending.prices import find_price
    from annotation_pipelines.selection.demonstrations import choice

    assert declared.openai
    settings = declared.openai
    redactor = Redactor(declaration.privacy, project.folder)
    return OpenAIAnnotator(
        settings,
        task,
        project.guideline,
        name=declared.called,
        template=system_template(project),
        injection=declaration.injection,
        redactor=redactor if redactor.active else None,
        redaction=redactor.fingerprint if redactor.active else None,
        demonstrations=demonstrations,
        choose=None if demonstrations is None else _choose(project, embedder, demonstrations),
        choice=choice(declaration.demonstrations, declaration.distillation.encoder),
        candidates=_candidates(task, demonstrations, embedder),
        price=find_price(settings, endpoint_url(settings), project.folder),
    )


def _candidates(task: Task, demonstrations: pl.DataFrame | None, embedder: Embedder) -> Candidates | None:
    """What chooses the labels to show with each record, where the task shows only some."""
    from annotation_pipelines.annotators.candidates import Candidates

    if not isinstance(task, ChoosesAmong) or task.candidates is None:
        return None
    return Candidates(task, task.candidates, demonstrations, embedder)


def system_template(project: Project) -> str | None:
    """The user's template of the system prompt; None for the package's own."""
    text = project.declaration.prompt
    if not text.strip():
        return None
    if "\n" in text or "{" in text:
        return text
    return project.read_text(text, "the prompt's template")


def _choose(project: Project, embedder: Embedder, demonstrations: pl.DataFrame) -> Choose | None:
    """Which demonstrations go with each record of a frame."""
    from annotation_pipelines.selection.demonstrations import chooser

    settings = project.declaration.demonstrations
    return None if settings is None else chooser(settings, project.task, embedder, demonstrations)
