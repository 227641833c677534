"""The two projects of this workspace from nothing: how long, how right.

Prints demo_seconds (what `make demo` does after installing), demo_teacher_accuracy and demo_student_accuracy (against
people's labels), and stance_teacher_accuracy (the recorded answers of GPT-4o over HTTP).
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from _common import figure, run, workspace_copy

from annotation_pipelines.annotators.replay import replaying
from annotation_pipelines.project import Project
from annotation_pipelines.status import Status, project_status
from annotation_pipelines.store.database import Store
from annotation_pipelines.workspace import Workspace


def state_of(folder: Path, name: str) -> Status:
    """Where a project of a workspace stands."""
    workspace = Workspace(folder)
    project: Project = workspace.project(name)
    return project_status(project, Store(workspace.home(project)))


def ml_projects(folder: Path) -> None:
    """All of ml_projects, as `make demo` runs it."""
    start = time.perf_counter()
    run(folder, "run", "ml_projects")
    seconds = time.perf_counter() - start
    status = state_of(folder, "ml_projects")
    figure("demo_seconds", round(seconds, 1), "s", cores=os.cpu_count(), records=status.records)
    figure("demo_teacher_accuracy", status.teacher_accuracy, "share", records=status.teacher_records)
    figure("demo_student_accuracy", status.student_headline, "share", held_out=status.student_records)


def climate_stance(folder: Path) -> None:
    """All of climate_stance, against the recorded answers."""
    file = folder / "assets" / "climate_stance" / "defs.yaml"
    with replaying(folder / "assets" / "climate_stance" / "data" / "stance.csv") as url:
        file.write_text(file.read_text().replace("http://127.0.0.1:8089/v1", url))
        start = time.perf_counter()
        run(folder, "run", "climate_stance")
        seconds = time.perf_counter() - start
    status = state_of(folder, "climate_stance")
    figure(
        "stance_teacher_accuracy",
        status.teacher_accuracy,
        "share",
        records=status.teacher_records,
        student=status.student_headline,
        held_out=status.student_records,
        cost_usd=status.cost_usd,
        seconds=round(seconds, 1),
    )


if __name__ == "__main__":
    with workspace_copy() as copy:
        ml_projects(copy)
        climate_stance(copy)
