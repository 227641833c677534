"""Who checks synthetic records: the judge with its rubric, and the blind annotator of the round trip."""

from __future__ import annotations

from annotation_pipelines.annotators.base import Annotator
from annotation_pipelines.errors import DeclarationError
from annotation_pipelines.project import Annotator as Declared
from annotation_pipelines.project import Project
from annotation_pipelines.project.synthetic import HIGHEST, LOWEST, RUBRIC, Judge, RoundTrip, Synthetic
from annotation_pipelines.store.database import Store
from annotation_pipelines.tasks.base import Task
from annotation_pipelines.tasks.classification import Classification
from annotation_pipelines.tasks.rating import Rating

SCALE = Rating.model_validate(
    {
        "from": LOWEST,
        "to": HIGHEST,
        "anchors": {
            "1": "unusable: wrong, incoherent, or not what was wanted",
            "2": "poor: a serious fault",
            "3": "usable, with weaknesses",
            "4": "good: a small fault at most",
            "5": "without fault",
        },
    }
)
"""What the judge answers with."""


def make_judge(project: Project, store: Store, settings: Synthetic, judge: Judge) -> Annotator:
    """The judge: an annotator that rates records by the rubric, under a name of its own.

    Raises:
        DeclarationError: There is no annotator of that name, it cannot judge, or the rubric cannot be read.
    """
    declared = _declared(project, settings, judge.annotator, "judge")
    if declared.embedded:
        raise DeclarationError(
            f"expected a language model, found the embedded annotator {declared.called!r}, which cannot read a rubric",
            where="synthetic: judge: annotator",
            todo="Name an openai annotator",
        )
    rubric = project.text_of(judge.rubric or RUBRIC, "the rubric").strip()
    return _make(project, store, declared, SCALE.make(), rubric, f"judge:{declared.called}")


def make_blind(
    project: Project, store: Store, settings: Synthetic, round_trip: RoundTrip, labels: dict[str, str]
) -> Annotator:
    """The annotator of the round trip: it sees a text and the labels, and not which one was wanted.

    Raises:
        DeclarationError: There is no annotator of that name, or the guideline cannot be read.
    """
    declared = _declared(project, settings, round_trip.annotator, "round_trip")
    guideline = project.text_of(round_trip.guideline, "the guideline").strip()
    return _make(project, store, declared, Classification(labels=labels).make(), guideline, f"blind:{declared.called}")


def _declared(project: Project, settings: Synthetic, name: str | None, part: str) -> Declared:
    """The annotator of that name. One that generates is made sober for a check: one answer, at temperature 0."""
    generating = [_sober(annotator) for annotator in project.declaration.annotators]
    known = {annotator.called: annotator for annotator in [*generating, *settings.annotators]}
    if name is None:
        return (settings.annotators or generating)[0]
    if name not in known:
        raise DeclarationError(
            f"expected the name of an annotator ({', '.join(known)}), found {name!r}",
            where=f"synthetic: {part}: annotator",
            todo="Correct it, or declare it under synthetic: annotators",
        )
    return known[name]


def _sober(annotator: Declared) -> Declared:
    if annotator.openai is None:
        return annotator
    changes = {"mode": "live", "samples": 1, "confidence": None}
    if annotator.openai.temperature is not None:
        changes["temperature"] = 0.0
    return annotator.model_copy(update={"openai": annotator.openai.model_copy(update=changes)})


def _make(project: Project, store: Store, declared: Declared, task: Task, guideline: str, name: str) -> Annotator:
    """An annotator with the project's privacy, injection defences and prices, but without its demonstrations."""
    if declared.embedded:
        from annotation_pipelines.annotators.embedded.annotator import EmbeddedAnnotator
        from annotation_pipelines.distillation.embedding import Embedder

        return EmbeddedAnnotator(
            declared.embedded, task, guideline, None, Embedder.for_project(project, store), name=name
        )
    from annotation_pipelines.annotators.endpoint.annotator import OpenAIAnnotator
    from annotation_pipelines.annotators.endpoint.url import endpoint_url
    from annotation_pipelines.annotators.privacy.redaction import Redactor
    from annotation_pipelines.annotators.spending.prices import find_price

    assert declared.openai
    redactor = Redactor(project.declaration.privacy, project.folder)
    return OpenAIAnnotator(
        declared.openai,
        task,
        guideline,
        name=name,
        injection=project.declaration.injection.model_copy(update={"aliases": False}),
        redactor=redactor if redactor.active else None,
        redaction=redactor.fingerprint if redactor.active else None,
        price=find_price(declared.openai, endpoint_url(declared.openai), project.folder),
    )
