"""Every error a user can cause, in one small hierarchy.

    AnnotationPipelinesError
    ├── DeclarationError     a project file (defs.yaml, guideline, labels) says something impossible
    ├── WorkspaceError       no workspace, no such project, a folder that cannot be written
    ├── SourceError          the records cannot be read, or lack a column
    ├── StoreError           the DuckDB file or the journal
    │   ├── StoreLocked      somebody else held it for longer than the wait
    │   ├── StoreCorrupted   the file is damaged
    │   └── StoreTooNew      written by a later version of this package
    ├── AnnotatorError       the annotator cannot work at all (a bad key, an unknown model, no server)
    ├── BudgetSpent          nothing more may be spent: a cap of the declared budget is reached
    ├── TrainingError        nothing to train on, or a class without examples
    └── MissingExtra         an optional package is not installed

Each message has what was expected, what was found, where, and what to do, in one line. The command line prints it
and exits with code 2; a Dagster run fails with it as its description.
"""

from __future__ import annotations


class AnnotationPipelinesError(Exception):
    """A problem the user can solve.

    Args:
        problem: What was expected and what was found.
        where: The file and line, the table, the URL or the partition it was found in.
        todo: What to do about it.
    """

    def __init__(self, problem: str, *, where: object = None, todo: str | None = None) -> None:
        self.problem, self.where, self.todo = problem, where, todo
        message = f"{where}: {problem}" if where is not None else problem
        if todo:
            message = f"{message.rstrip('.')}. {todo}"
        super().__init__(" ".join(message.split()))


class DeclarationError(AnnotationPipelinesError):
    """A project file says something impossible."""


class WorkspaceError(AnnotationPipelinesError):
    """There is no workspace here, no such project, or a folder that cannot be written."""


class SourceError(AnnotationPipelinesError):
    """The records cannot be read, or lack a column."""


class StoreError(AnnotationPipelinesError):
    """The DuckDB file or the journal cannot be used."""


class StoreLocked(StoreError):
    """Somebody else held the store for longer than the wait."""


class StoreCorrupted(StoreError):
    """The DuckDB file is damaged."""


class StoreTooNew(StoreError):
    """The DuckDB file was written by a later version of this package."""


class AnnotatorError(AnnotationPipelinesError):
    """The annotator cannot work at all: a bad key, an unknown model, no server."""


class BudgetSpent(AnnotationPipelinesError):
    """A cap of the declared budget is reached."""


class TrainingError(AnnotationPipelinesError):
    """There is nothing to train on, or a class has no examples."""


class MissingExtra(AnnotationPipelinesError):
    """An optional package is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package}, which is not installed",
            todo=f"Install it with: pip install 'annotation-pipelines[{extra}]'",
        )
