"""Run a project's jobs in this process, recorded in the workspace's Dagster instance like any other run."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
from filelock import FileLock

from annotation_pipelines.errors import AnnotationPipelinesError, WorkspaceError
from annotation_pipelines.graph.project import partitioned_stages, project_definitions
from annotation_pipelines.partitions import Calendar
from annotation_pipelines.project import Project
from annotation_pipelines.store.schema import UNPARTITIONED
from annotation_pipelines.workspace import Workspace

PROCESS_TAG = "annotation_pipelines/process"
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


class RunFailed(AnnotationPipelinesError):
    """A run ended in an error; the message is its first failing step's."""


@dataclass
class RunSummary:
    """How the partitions ended.

    Attributes:
        done: Partitions that ran through.
        blocked: Partitions that a blocking check stopped before trusted_labels, with the checks' names.
    """

    done: list[str] = field(default_factory=list)
    blocked: dict[str, list[str]] = field(default_factory=dict)


def existing_partitions(project: Project, *, now: datetime | None = None) -> list[str]:
    """The partitions that exist now, oldest first."""
    return Calendar(project.declaration.partitions).keys(now or datetime.now(UTC))


def chosen_partitions(project: Project, wanted: Sequence[str]) -> list[str]:
    """The partitions to run: those asked for, or all that exist.

    Raises:
        WorkspaceError: A partition asked for does not exist.
    """
    existing = existing_partitions(project)
    if not wanted:
        return existing
    if unknown := [key for key in wanted if key not in existing]:
        shown = f"{existing[0]} to {existing[-1]}" if existing else "none yet"
        raise WorkspaceError(
            f"there is no partition {', '.join(unknown)}; partitions are every "
            f"{project.declaration.partitions.every}: {shown}",
            where=project.name,
        )
    return list(wanted)


@contextmanager
def dagster_instance(workspace: Workspace) -> Iterator[dg.DagsterInstance]:
    """The workspace's Dagster instance: DAGSTER_HOME, or `.dagster/` in the workspace."""
    home = os.environ.setdefault("DAGSTER_HOME", str(workspace.dagster_home))
    Path(home).mkdir(parents=True, exist_ok=True)
    with FileLock(Path(home) / ".first_use.lock"):
        # Dagster makes its SQLite files on first use, and two processes that do so at once fail.
        instance = dg.DagsterInstance.get()
        instance.get_runs_count()
        instance.event_log_storage.get_maximum_record_id()
        instance.all_instigator_state()
    with instance:
        yield instance


def run_partitions(
    project: Project,
    workspace: Workspace,
    instance: dg.DagsterInstance,
    partitions: Sequence[str],
    *,
    on_done: Callable[[str], None] = lambda key: None,
) -> RunSummary:
    """Run the backfill job on each partition, one after the other.

    A partition stopped by a blocking check does not stop the others.

    Raises:
        RunFailed: A step failed for another reason, which the other partitions would meet too.
    """
    job = project_definitions(project, workspace).resolve_job_def(f"{project.name}_backfill")
    _end_orphans(instance, project)
    summary = RunSummary()
    for number, key in enumerate(partitions):
        # human_labels is the same for all partitions: the first run gathers it.
        stages = [dg.AssetKey([project.name, stage]) for stage in partitioned_stages(project)] if number else None
        result = _execute(job, instance, project, None if key == UNPARTITIONED else key, stages)
        if result.success:
            summary.done.append(key)
        elif failed := _failed_blocking_checks(result):
            summary.blocked[key] = failed
        else:
            raise RunFailed(_why(result), where=f"{project.name} {key}")
        on_done(key)
    return summary


def run_job(
    project: Project,
    workspace: Workspace,
    instance: dg.DagsterInstance,
    name: str,
    *,
    ops: dict[str, Any] | None = None,
) -> None:
    """Run one of the project's unpartitioned jobs, such as retrain.

    Args:
        ops: Settings of its ops, by name.

    Raises:
        RunFailed: A step failed.
    """
    job = project_definitions(project, workspace).resolve_job_def(f"{project.name}_{name}")
    result = _execute(job, instance, project, None, ops=ops)
    if not result.success:
        raise RunFailed(_why(result), where=f"{project.name} {name}")


def _execute(
    job: dg.JobDefinition,
    instance: dg.DagsterInstance,
    project: Project,
    partition: str | None,
    stages: Sequence[dg.AssetKey] | None = None,
    ops: dict[str, Any] | None = None,
) -> dg.ExecuteInProcessResult:
    return job.execute_in_process(
        instance=instance,
        partition_key=partition,
        asset_selection=stages,
        raise_on_error=False,
        run_config={**_QUIET, "ops": ops} if ops else _QUIET,
        tags={
            PROCESS_TAG: f"{socket.gethostname()}:{os.getpid()}",
            "annotation_pipelines/project": project.name,
        },
    )


def _end_orphans(instance: dg.DagsterInstance, project: Project) -> None:
    """Mark runs of killed processes of this machine as failed, so that they do not seem to run for ever."""
    started = instance.get_runs(
        dg.RunsFilter(
            tags={"annotation_pipelines/project": project.name},
            statuses=[
                dg.DagsterRunStatus.STARTED,
                dg.DagsterRunStatus.STARTING,
                dg.DagsterRunStatus.NOT_STARTED,
            ],
        )
    )
    for run in started:
        host, _, pid = run.tags.get(PROCESS_TAG, "").partition(":")
        if host == socket.gethostname() and pid.isdigit() and not _alive(int(pid)):
            instance.report_run_failed(
                run, message="The process of this run was killed. Run it again: paid replies are kept."
            )


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _failed_blocking_checks(result: dg.ExecuteInProcessResult) -> list[str]:
    return [
        evaluation.check_name
        for evaluation in result.get_asset_check_evaluations()
        if evaluation.blocking and not evaluation.passed
    ]


def _why(result: dg.ExecuteInProcessResult) -> str:
    """The first failing step's message in one line: ours as it stands, others with their type."""
    for event in result.all_events:
        if event.is_step_failure:
            data = event.step_failure_data
            if data.user_failure_data and data.user_failure_data.description:
                return data.user_failure_data.description
            error = data.error
            while error is not None and error.cause is not None:
                error = error.cause
            return f"{event.step_key}: {error.message.strip() if error else event.message}"
    return "the run failed; see it in the UI"
