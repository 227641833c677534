"""The batch sensor: asks after open batches every minute, and launches the labelling runs that read what they brought.

A run that submits a batch ends; nothing waits for a day. What comes next is decided from the tables alone: a partition
has labels that wait for a batch, and none of its batches is open any more. Run keys make each run happen once.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

from annotation_pipelines.annotators.endpoint.batch_rows import BY_HAND, BatchRow, batch_rows
from annotation_pipelines.errors import AnnotationPipelinesError
from annotation_pipelines.graph.refresh import PARTITION_TAG
from annotation_pipelines.graph.stage import StageBuilder
from annotation_pipelines.project import digest
from annotation_pipelines.store.database import Store
from annotation_pipelines.store.schema import HELD_OUT, UNPARTITIONED

BATCHES_TAG = "annotation_pipelines/batches"
EVERY_SECONDS = 60
POLL_SECONDS = 30.0
"""No batch is begun after this time of a tick, of which Dagster allows 60 seconds; the next tick goes on."""

_NO_ROOM = "token_limit_exceeded"
"""The code of a batch that failed because too many tokens were enqueued already."""

_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@dataclass(frozen=True)
class Reading:
    """A labelling run to ask for: the partition, and what makes the run happen once."""

    partition_key: str
    run_key: str


def next_readings(
    batches: Sequence[BatchRow], submitted: Iterable[str], auto: Collection[str], launched: Callable[[str], bool]
) -> list[Reading]:
    """The labelling runs to ask for now.

    A partition whose latest batches have brought answers is labelled: its run reads them, and submits what remains, so
    that each run needs answers that no run has read. Where they brought none, another run would fail the same way, and
    the next refresh tries: unless the rest is asked live. What found no room at the endpoint follows one partition at a
    time, as batches end. After a cancellation by hand nothing starts by itself.

    Args:
        batches: All batches of the project.
        submitted: Partitions with labels that wait for a batch, and with no run in progress.
        auto: The annotators that ask live what a batch has left.
        launched: Whether a run key was launched before.
    """
    readings, without_room = [], []
    for partition_key in sorted(submitted):
        own = [row for row in batches if row.partition_key == partition_key]
        latest = [row for row in own if row.run_id == own[-1].run_id]
        if any(row.open for row in own) or any(row.error == BY_HAND for row in latest):
            continue
        reading = Reading(partition_key, f"{partition_key}:{digest([row.batch_id for row in latest])}")
        brought = any(row.answered for row in latest)
        live = any(row.annotator in auto for row in latest)
        if latest and (brought or live) and not launched(reading.run_key):
            readings.append(reading)
        elif brought or all(_NO_ROOM in (row.error or "") for row in latest):
            without_room.append(partition_key)
    ended = [row for row in batches if row.answered and row.harvested_at]
    if ended and without_room:
        last = max(ended, key=lambda row: (row.harvested_at, row.batch_id))
        run_key = f"room:{last.batch_id}"
        if not launched(run_key):
            readings.append(Reading(without_room[0], run_key))
    return readings


def batches_sensor(
    builder: StageBuilder,
    *,
    label_job: str,
    label_stages: Sequence[str],
    retrain_job: str,
    jobs: list[Any],
) -> dg.SensorDefinition | None:
    """Ask after the project's batches, and launch what follows; None where no annotator uses the batch API.

    Args:
        label_job: The partitioned job that labels; of it, `label_stages` run.
        retrain_job: The job that labels held-out records.
    """
    project = builder.project
    endpoints = [a for a in project.declaration.annotators if a.openai and a.openai.mode != "live"]
    if not endpoints:
        return None
    auto = {a.called for a in endpoints if a.openai and a.openai.mode == "auto"}
    stages = [builder.key(stage) for stage in label_stages]

    @dg.sensor(
        name=f"{project.name}_batches_sensor",
        jobs=jobs,
        minimum_interval_seconds=EVERY_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Asks after the batches at the endpoint, brings their answers in, and launches the labelling runs "
        "that read them.",
    )
    def follow(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        from annotation_pipelines.annotators.open_batches import poll_batches

        store = Store(builder.workspace.home(project), wait=20)
        if not store.path.exists():
            return dg.SensorResult(skip_reason="nothing was submitted yet")
        problem = None
        try:
            poll_batches(project, store, seconds=POLL_SECONDS)
        except AnnotationPipelinesError as error:
            context.log.warning(str(error))
            problem = str(error)
        busy = _partitions_in_progress(context.instance, project.name)
        waiting = {key for key in _submitted(store) if _as_run(key) not in busy}
        readings = next_readings(
            batch_rows(store), waiting, auto, lambda run_key: _launched(context.instance, project.name, run_key)
        )
        if not readings:
            return dg.SensorResult(skip_reason=problem or "no batch has brought answers to read")
        requests = [_request(reading, project.name, label_job, stages, retrain_job) for reading in readings]
        return dg.SensorResult(run_requests=requests)

    return follow


def _submitted(store: Store) -> list[str]:
    """The partitions with labels that wait for a batch."""
    rows = store.query(
        "SELECT DISTINCT partition_key FROM (SELECT partition_key, state FROM llm_labels UNION ALL "
        "SELECT partition_key, state FROM llm_votes) WHERE state = 'submitted'"
    )
    return rows["partition_key"].to_list()


def _as_run(partition_key: str) -> str | None:
    """The partition of the runs that label it; none where they have none."""
    return None if partition_key in (UNPARTITIONED, HELD_OUT) else partition_key


def _partitions_in_progress(instance: dg.DagsterInstance, project: str) -> set[str | None]:
    """The partitions of the project's unfinished runs: these read and submit by themselves."""
    runs = instance.get_runs(dg.RunsFilter(tags={"annotation_pipelines/project": project}, statuses=_UNFINISHED))
    return {run.tags.get("dagster/partition") for run in runs}


def _launched(instance: dg.DagsterInstance, project: str, run_key: str) -> bool:
    tags = {"annotation_pipelines/project": project, BATCHES_TAG: run_key}
    return bool(instance.get_runs(dg.RunsFilter(tags=tags), limit=1))


def _request(
    reading: Reading, project: str, label_job: str, stages: list[dg.AssetKey], retrain_job: str
) -> dg.RunRequest:
    tags = {
        "annotation_pipelines/project": project,
        BATCHES_TAG: reading.run_key,
        PARTITION_TAG: reading.partition_key,
    }
    if reading.partition_key == HELD_OUT:
        return dg.RunRequest(run_key=reading.run_key, job_name=retrain_job, tags=tags)
    return dg.RunRequest(
        run_key=reading.run_key,
        job_name=label_job,
        partition_key=_as_run(reading.partition_key),
        asset_selection=stages,
        tags=tags,
    )
