"""The nightly refresh: find the partitions that need work, label them in runs of their own, then retrain.

The refresh run itself only looks: it compares the source with the store and writes a plan. A sensor turns the plan
into one labelling run a partition, as many at a time as the deployment allows, and into one retraining run when they
have ended. Run keys make each of these happen once, whatever is restarted in between.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

from annotation_pipelines.errors import AnnotationPipelinesError
from annotation_pipelines.graph.stage import StageBuilder
from annotation_pipelines.store.database import Store
from annotation_pipelines.store.schema import UNPARTITIONED

REFRESH_TAG = "annotation_pipelines/refresh"
PARTITION_TAG = "annotation_pipelines/partition"
RETRAIN = "retrain"
_RECENT = 10


@dataclass(frozen=True)
class Step:
    """One run that a refresh asks for: a partition to label, or the retraining."""

    refresh_id: str
    partition_key: str | None

    @property
    def run_key(self) -> str:
        """Unique for ever: Dagster launches a run key once."""
        return f"{self.refresh_id}:{self.partition_key or RETRAIN}"


def next_steps(refresh_id: str, planned: Iterable[str], launched: Mapping[str, bool]) -> list[Step]:
    """What a refresh asks for now.

    Args:
        planned: The partitions of the plan.
        launched: Of the runs it has asked for, by partition or 'retrain': whether each has ended.
    """
    planned = list(planned)
    if RETRAIN in launched:
        return []
    waiting = [key for key in planned if key not in launched]
    if waiting:
        return [Step(refresh_id, key) for key in waiting]
    if all(launched[key] for key in planned):
        return [Step(refresh_id, None)]
    return []


def refresh_job(builder: StageBuilder) -> dg.JobDefinition:
    """Look for work and write the plan."""
    project = builder.project

    @dg.op(
        name=f"{project.name}_plan_refresh",
        description="Compare the source and the declaration with the store; write which partitions need work.",
    )
    def plan_refresh(context: dg.OpExecutionContext) -> None:
        from annotation_pipelines.annotators.refresh import plan

        store = Store(builder.workspace.home(project), announce=context.log.warning)
        try:
            touched = plan(store, project, context.run_id)
        except AnnotationPipelinesError as error:
            raise dg.Failure(str(error), allow_retries=False) from None
        for row in touched.iter_rows(named=True):
            context.log.info(
                "{partition_key}: {new} new, {changed} changed, {deleted} deleted, {stale} to label".format(**row)
            )
        context.log.info(f"{len(touched)} partitions need work")

    @dg.job(
        name=f"{project.name}_refresh",
        description="Ingest what is new, label what is new or stale in every partition it touches, retrain, evaluate, "
        "predict, report. The run looks and plans; its sensor launches the rest.",
        executor_def=dg.in_process_executor,
        tags={"annotation_pipelines/project": project.name},
    )
    def job() -> None:
        plan_refresh()

    return job


def refresh_sensor(
    builder: StageBuilder, *, label_job: str, label_stages: Sequence[str], retrain_job: str, jobs: list[Any]
) -> dg.SensorDefinition:
    """Launch what refresh runs have planned."""
    project = builder.project
    stages = [builder.key(stage) for stage in label_stages]

    @dg.sensor(
        name=f"{project.name}_refresh_sensor",
        jobs=jobs,
        minimum_interval_seconds=15,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Launches the labelling runs that a refresh has planned, and the retraining after them.",
    )
    def launch(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        requests = []
        refreshes = context.instance.get_runs(
            dg.RunsFilter(job_name=f"{project.name}_refresh", statuses=[dg.DagsterRunStatus.SUCCESS]),
            limit=_RECENT,
        )
        for refresh in refreshes:
            runs = context.instance.get_runs(dg.RunsFilter(tags={REFRESH_TAG: refresh.run_id}))
            launched: dict[str, bool] = {}
            for run in runs:  # newest first: a retried run counts, not the one before it
                launched.setdefault(run.tags[PARTITION_TAG], run.is_finished)
            if RETRAIN in launched:
                continue
            store = Store(builder.workspace.home(project), wait=20)
            planned = store.query(
                "SELECT partition_key FROM refresh_plans WHERE refresh_id = ? ORDER BY partition_key DESC",
                [refresh.run_id],
            )["partition_key"]
            for step in next_steps(refresh.run_id, planned, launched):
                requests.append(_request(step, label_job, stages, retrain_job))
        return dg.SensorResult(run_requests=requests)

    return launch


def _request(step: Step, label_job: str, stages: list[dg.AssetKey], retrain_job: str) -> dg.RunRequest:
    """The run of a step; a labelling run leaves human_labels out: the refresh that planned it has gathered them."""
    tags = {REFRESH_TAG: step.refresh_id, PARTITION_TAG: step.partition_key or RETRAIN}
    if step.partition_key is None:
        return dg.RunRequest(run_key=step.run_key, job_name=retrain_job, tags=tags)
    partition = None if step.partition_key == UNPARTITIONED else step.partition_key
    return dg.RunRequest(
        run_key=step.run_key, job_name=label_job, partition_key=partition, asset_selection=stages, tags=tags
    )
