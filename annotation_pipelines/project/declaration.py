"""The declaration of a project as a whole, and the project: a declaration with its name and folder."""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from annotation_pipelines.declaration_parts import NonEmpty, Part, Text
from annotation_pipelines.errors import DeclarationError
from annotation_pipelines.project.annotators import Annotator, EmbeddedAnnotator, Panel, bare_annotator
from annotation_pipelines.project.exports import Export, bare_format, refuse_unfit_exports
from annotation_pipelines.project.promotion import Promotion
from annotation_pipelines.project.safeguards import Budget, Injection, Privacy
from annotation_pipelines.project.source import Partitions, Source
from annotation_pipelines.project.stages import (
    Demonstrations,
    Distillation,
    Evaluation,
    Quality,
    Schedule,
    Selection,
    bare_cron,
)
from annotation_pipelines.project.synthetic import Synthetic
from annotation_pipelines.tasks import base
from annotation_pipelines.tasks.base import Invalid
from annotation_pipelines.tasks.choices import ChoosesAmong
from annotation_pipelines.tasks.registry import Task, make_task

COMPONENT_TYPE = "annotation_pipelines.AnnotationProject"


class Declaration(Part):
    """A project: from records to a distilled model."""

    description: Text = Field(default="", description="What the project is about; heads the quality report.")
    owners: list[NonEmpty] = Field(
        default_factory=list, description="E-mail addresses, or team:name; shown on every asset."
    )
    tags: dict[Text, Text] = Field(default_factory=dict, description="Tags on every asset.")
    source: Source
    partitions: Partitions = Partitions()
    task: Task
    guideline: Text = Field(
        default="", description="How to annotate: a Markdown file beside defs.yaml, or the text itself."
    )
    annotators: list[Annotated[Annotator, BeforeValidator(bare_annotator, json_schema_input_type=Annotator | str)]] = (
        Field(default_factory=lambda: [Annotator(embedded=EmbeddedAnnotator())], min_length=1, max_length=16)
    )
    panel: Panel | None = Field(
        default=None, description="How several annotators make one label; default for several: a jury."
    )
    prompt: Text = Field(
        default="",
        description="The system prompt: a Jinja template in a file beside defs.yaml, or its text, rendered in a "
        "sandbox. Default: the package's own.",
    )
    injection: Injection = Injection()
    privacy: Privacy = Privacy()
    budget: Budget = Budget()
    demonstrations: Demonstrations | None = None
    human_labels: Text | None = Field(
        default=None,
        description="A CSV file beside defs.yaml with labels that people gave later: id, label, and optionally "
        "annotator and labelled_at. They override the silver ones.",
    )
    selection: Selection = Selection()
    quality: Quality = Quality()
    synthetic: Synthetic | None = Field(
        default=None,
        description="How what was generated is checked, in projects with task: generation. Default: rules and "
        "near-duplicates, no judge and no round trip.",
    )
    evaluation: Evaluation | None = None
    distillation: Distillation = Distillation()
    promotion: Promotion = Promotion()
    exports: list[Annotated[Export, BeforeValidator(bare_format, json_schema_input_type=Export | str)]] = Field(
        default_factory=list,
        max_length=16,
        description="Data sets to make of the trusted labels, each an asset of its own: formats, or such parts.",
    )
    schedule: Annotated[Schedule | None, BeforeValidator(bare_cron, json_schema_input_type=Schedule | str | None)] = (
        None
    )

    @model_validator(mode="after")
    def _consistent(self) -> Declaration:
        if self.partitions.every != "none" and not self.source.time:
            raise ValueError(
                f"partitions: every: {self.partitions.every} needs source: time: the column with the event time"
            )
        for name, value in (("demonstrations", self.demonstrations), ("evaluation: share", self.share)):
            if value and not self.source.gold:
                raise ValueError(f"{name} needs source: gold: the column with the label that people gave")
        if self.evaluation and not self.source.gold:
            raise ValueError("evaluation needs source: gold: the column with the label that people gave")
        self._fit_task()
        refuse_unfit_exports(self)
        self._fit_synthetic()
        names = [annotator.called for annotator in self.annotators]
        if len(set(names)) < len(names):
            raise ValueError(f"annotators: two are called the same ({', '.join(names)}): give each a name")
        if self.panel and len(names) == 1:
            raise ValueError(f"panel: needs several annotators, found one ({names[0]})")
        if self.panel and (unknown := set(self.panel.weights) - set(names)):
            raise ValueError(
                f"panel: weights: expected names of annotators ({', '.join(names)}), found {', '.join(sorted(unknown))}"
            )
        return self

    def _fit_task(self) -> None:
        """Refuse what the kind of task does not offer."""
        task = make_task(self.task)
        try:
            task.check(list(self.source.templates))
        except Invalid as problem:
            raise ValueError(f"task: {task.kind}: {problem}") from None
        if self.injection.aliases and task.kind != "classification":
            raise ValueError(f"injection: aliases serves task: classification only, found {task.kind}")
        if self.injection.aliases and isinstance(task, ChoosesAmong) and task.candidates is not None:
            raise ValueError(
                "injection: aliases cannot be used with candidates: the codes are one list for all records. Set "
                "aliases: false, or leave candidates out"
            )
        if (student := self.distillation.student) is not None and student not in task.students:
            offered = f"has {', '.join(task.students)}" if task.students else "has no student"
            raise ValueError(f"distillation: student: task: {task.kind} {offered}, found {student}")
        if self.selection.rounds is not None and not task.student:
            raise ValueError(f"selection: rounds need a student to score the records, and task: {task.kind} has none")
        for annotator in self.annotators:
            if annotator.embedded and not task.embedded:
                raise ValueError(
                    f"annotators: the embedded annotator cannot serve task: {task.kind}: declare an openai annotator"
                )
            if annotator.openai and annotator.openai.confidence == "logprobs" and task.kind != "classification":
                raise ValueError(f"confidence: logprobs serves task: classification only, found {task.kind}")

    def _fit_synthetic(self) -> None:
        """Refuse checks that cannot be made."""
        if self.synthetic is None:
            return
        generation = self.task.generation
        if generation is None:
            raise ValueError(f"synthetic: serves task: generation only, found {self.task.kind}")
        if self.synthetic.round_trip and generation.mode != "texts":
            raise ValueError(
                f"synthetic: round_trip: labels texts that a label was wanted for, found mode {generation.mode}"
            )
        self.synthetic.check_names(self.annotators)

    @property
    def share(self) -> float | None:
        """The share of the source's gold that is held out, if any."""
        return self.evaluation.share if self.evaluation else None


class Project:
    """A declaration with its name and its folder.

    Attributes:
        name: The folder's name; prefix of its assets' keys.
        folder: Where defs.yaml lies; relative paths in the declaration start here.
        declaration: What defs.yaml says.
    """

    def __init__(self, name: str, folder: Path, declaration: Declaration) -> None:
        self.name, self.folder, self.declaration = name, folder, declaration

    @cached_property
    def task(self) -> base.Task:
        """What an annotation is."""
        return make_task(self.declaration.task)

    @property
    def guideline(self) -> str:
        """The text of the guideline, read from its file where it is one.

        Raises:
            DeclarationError: The file is not there or is not UTF-8 text.
        """
        return self.text_of(self.declaration.guideline, "the guideline").strip()

    def text_of(self, given: str, what: str) -> str:
        """A text of the declaration: what is given, or the file beside defs.yaml that it names (.md, .txt).

        Args:
            what: What it is, for the message.

        Raises:
            DeclarationError: The file is not there or is not UTF-8 text.
        """
        if "\n" in given or Path(given).suffix not in (".md", ".txt"):
            return given
        return self.read_text(given, what)

    def read_text(self, file: str, what: str) -> str:
        """The text of a file beside defs.yaml.

        Raises:
            DeclarationError: The file is not there or is not UTF-8 text.
        """
        try:
            return (self.folder / file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DeclarationError(
                f"{what} cannot be read ({error.__class__.__name__})",
                where=self.folder / file,
                todo="Put the file beside defs.yaml, or write the text in its place",
            ) from None

    def resolve(self, path: str) -> str:
        """A path of the declaration as an absolute one; URLs and absolute paths stay as they are."""
        return path if "://" in path or Path(path).is_absolute() else str(self.folder / path)


def digest(value: object) -> str:
    """A stable hash (32 hexadecimal digits) of a JSON-like value, parts of the declaration in it included."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"), default=_plain)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _plain(value: object) -> object:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else str(value)
