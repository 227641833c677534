"""The annotator that a project declares, ready to annotate."""

from __future__ import annotations

import numpy as np
import polars as pl

from annotation_pipelines.annotators.base import Annotator
from annotation_pipelines.project import Project
from annotation_pipelines.store.database import Store
from annotation_pipelines.tasks.registry import make_task


def make_annotator(project: Project, store: Store) -> Annotator:
    """The declared annotator, with the project's demonstrations.

    No model is loaded and nothing is asked before `requests` or `annotate` is called.
    """
    from annotation_pipelines.distillation.embedding import Embedder

    declaration = project.declaration
    task = make_task(declaration.task)
    demonstrations = load_demonstrations(store) if declaration.demonstrations else None
    if demonstrations is not None and demonstrations.is_empty():
        demonstrations = None
    embedder = Embedder.for_project(project, store)
    annotator = declaration.annotators[0]
    if annotator.embedded:
        from annotation_pipelines.annotators.embedded import EmbeddedAnnotator

        return EmbeddedAnnotator(annotator.embedded, task, project.guideline, demonstrations, embedder)
    assert annotator.openai
    from annotation_pipelines.annotators.endpoint.annotator import OpenAIAnnotator
    from annotation_pipelines.selection.demonstrations import nearest_to_records

    per_prompt = declaration.demonstrations.per_prompt if declaration.demonstrations else 0

    def nearest(records: pl.DataFrame) -> np.ndarray:
        assert demonstrations is not None
        return nearest_to_records(embedder, records, demonstrations, per_prompt)

    return OpenAIAnnotator(
        annotator.openai,
        task,
        project.guideline,
        demonstrations=demonstrations if per_prompt else None,
        per_prompt=per_prompt,
        nearest=nearest if demonstrations is not None and per_prompt else None,
    )


def annotator_name(project: Project) -> str:
    """How tables call the declared annotator; the same as `make_annotator(...).name`."""
    annotator = project.declaration.annotators[0]
    return f"openai:{annotator.openai.model}" if annotator.openai else "embedded"


def load_demonstrations(store: Store) -> pl.DataFrame:
    """The demonstration pool: record_id, content_hash, content, label, in a stable order."""
    return store.query(
        "SELECT record_id, content_hash, content, label FROM human_labels WHERE role = 'demonstration' "
        "ORDER BY record_id"
    )
