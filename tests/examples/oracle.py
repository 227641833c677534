"""An endpoint that answers as people did: for examples that need a model."""

from __future__ import annotations

import json
from collections.abc import Callable

from annotation_pipelines.annotators.fence import unfence_parts
from annotation_pipelines.content import Content
from annotation_pipelines.project import Project
from annotation_pipelines.sources.ingest import read_records
from annotation_pipelines.tasks.base import Annotation
from tests.mock_endpoint import Act, Call, completion


def oracle(project: Project, otherwise: str | None = None) -> Callable[[Call], Act]:
    """Answers every record of a project with its gold label, in every view.

    Args:
        otherwise: The label of records that have no gold.
    """
    task = project.task
    answers: dict[str, str] = {}  # by content
    for stored, gold in read_records(project).records.select("content", "gold").iter_rows():
        label = gold if gold is not None else otherwise
        if label is None:
            continue
        content = Content.read(stored)
        for view in range(task.views):
            shown = task.present(content, view) if view else content
            # To see what an annotation in a view says of the content is the same as the other way round.
            said = task.seen(Annotation("labelled", label), view).label
            assert said is not None
            answers[shown.stored] = json.dumps(task.answer(said, shown, confidence=True))

    def behave(call: Call) -> Act:
        parts = unfence_parts(call.text)
        return completion(answers[Content.of_parts(parts).stored if parts else call.text])

    return behave
