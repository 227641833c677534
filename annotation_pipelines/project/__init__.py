"""The declaration of a project: what one `defs.yaml` may say, typed.

`Declaration` is the whole of it. Everything has a default but `source` and `task`. Unknown keys, wrong types and
impossible values are refused; `declaration_file.load_project` reports them with file, line, what was found and what is
allowed. Only `prompt` is a template, rendered in a sandbox; braces elsewhere are only braces. Secrets are named by the
environment variable that holds them, never written.
"""

from annotation_pipelines.declaration_parts import Day, NonEmpty, Part, Text
from annotation_pipelines.project.annotators import (
    Annotator,
    Batch,
    EmbeddedAnnotator,
    Limits,
    OpenAIAnnotator,
    Panel,
    Price,
)
from annotation_pipelines.project.declaration import COMPONENT_TYPE, Declaration, Project, digest
from annotation_pipelines.project.promotion import Expected, Promotion
from annotation_pipelines.project.safeguards import PERSONAL_DATA, Budget, Injection, Privacy
from annotation_pipelines.project.source import (
    SOURCE_KINDS,
    DuckDBQuery,
    Locations,
    Partitions,
    RecordColumns,
    Source,
    SqlQuery,
)
from annotation_pipelines.project.stages import (
    Demonstrations,
    Distillation,
    Evaluation,
    FineTuning,
    Quality,
    Robust,
    Schedule,
    Selection,
    Stopping,
    Strategy,
)
from annotation_pipelines.project.synthetic import Judge, RoundTrip, Synthetic
from annotation_pipelines.tasks.classification import Classification
from annotation_pipelines.tasks.registry import Task
from annotation_pipelines.tasks.settings import ABSTAIN

__all__ = [
    "ABSTAIN",
    "COMPONENT_TYPE",
    "PERSONAL_DATA",
    "SOURCE_KINDS",
    "Annotator",
    "Batch",
    "Budget",
    "Classification",
    "Day",
    "Declaration",
    "Demonstrations",
    "Distillation",
    "DuckDBQuery",
    "EmbeddedAnnotator",
    "Evaluation",
    "Expected",
    "FineTuning",
    "Injection",
    "Judge",
    "Limits",
    "Locations",
    "NonEmpty",
    "OpenAIAnnotator",
    "Panel",
    "Part",
    "Partitions",
    "Price",
    "Privacy",
    "Project",
    "Promotion",
    "Quality",
    "RecordColumns",
    "Robust",
    "RoundTrip",
    "Schedule",
    "Selection",
    "Source",
    "SqlQuery",
    "Stopping",
    "Strategy",
    "Synthetic",
    "Task",
    "Text",
    "digest",
]
