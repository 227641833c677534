"""Which class of student serves which task, and what is written of it in a declaration."""

from __future__ import annotations

from importlib import import_module

from annotation_pipelines.distillation.students.base import Student
from annotation_pipelines.errors import DeclarationError
from annotation_pipelines.tasks.base import Task

_HERE = "annotation_pipelines.distillation.students"

STUDENTS: dict[tuple[str, str], str] = {
    ("classification", "linear"): f"{_HERE}.linear:LinearStudent",
    ("classification", "fine_tuned"): f"{_HERE}.fine_tuned:FineTunedStudent",
    ("classification", "static"): f"{_HERE}.static:StaticStudent",
    ("entities", "linear"): f"{_HERE}.tagger:TaggerStudent",
    ("entities", "fine_tuned"): f"{_HERE}.fine_tuned_tagger:FineTunedTagger",
    ("preference", "linear"): f"{_HERE}.pair_scorer:PairScorer",
    ("relations", "linear"): f"{_HERE}.relations:RelationStudent",
    ("relations", "fine_tuned"): f"{_HERE}.fine_tuned:FineTunedStudent",
}
"""Kind of task and of student -> module and class; loaded when they are needed."""


def student_class(task: Task, declared: str | None) -> type[Student]:
    """The class for a task and the declared kind of student; None is the task's first.

    Raises:
        DeclarationError: There is no such student for the task.
    """
    kind = declared or (task.students[0] if task.students else "")
    where = STUDENTS.get((task.kind, kind))
    if where is None or kind not in task.students:
        raise DeclarationError(
            f"there is no student {kind or 'at all'} for task: {task.kind}",
            where="distillation: student",
            todo=f"Choose among {', '.join(task.students)}" if task.students else "Leave distillation out",
        )
    module, _, name = where.partition(":")
    found: type[Student] = getattr(import_module(module), name)
    return found
