"""Everything Dagster knows of one project: its assets, jobs, schedule and sensor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from annotation_pipelines.graph import batches, exports, labels, models, records, refresh, rollback, synthetic
from annotation_pipelines.graph.partitions import partitions_definition
from annotation_pipelines.graph.stage import StageBuilder
from annotation_pipelines.project import Project
from annotation_pipelines.workspace import Workspace

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

PARTITIONED = (
    "raw_records",
    "embeddings",
    "selected_records",
    "llm_labels",
    "validation_results",
    "trusted_labels",
)


def partitioned_stages(project: Project) -> tuple[str, ...]:
    """The stages that run partition by partition, in order."""
    if project.task.kind != "generation":
        return PARTITIONED
    # What was generated is checked: nothing else of it is trusted.
    return (*(stage for stage in PARTITIONED if stage != "trusted_labels"), "synthetic_records")


def project_definitions(project: Project, workspace: Workspace) -> dg.Definitions:
    """Everything Dagster knows of one project."""
    partitions_def = partitions_definition(project.declaration.partitions)
    builder = StageBuilder(project, workspace, partitions_def)
    stages = partitioned_stages(project)
    assets = [
        records.raw_records(builder),
        records.embeddings(builder),
        records.human_labels(builder),
        records.selected_records(builder),
        labels.llm_labels(builder),
        labels.validation_results(builder),
        models.model_evaluation(builder),
        models.quality_report(builder),
        *exports.exports(builder),
    ]
    publish = synthetic.synthetic_records if "synthetic_records" in stages else labels.trusted_labels
    assets.append(publish(builder))
    below = ["model_evaluation", "quality_report"]
    if project.task.student:
        assets += [models.distilled_model(builder), models.predictions(builder)]
        below += ["distilled_model", "predictions"]
    backfill = _job(
        builder,
        "backfill",
        ("human_labels", *stages),
        "Ingest, embed, select, label, validate and publish one partition. Launch a backfill from here to do many.",
        partitions_def,
    )
    retrain = _job(
        builder,
        "retrain",
        ("human_labels", *below, *exports.export_stages(builder)),
        "Train, evaluate, predict and report, over all partitions."
        if project.task.student
        else "Evaluate and report, over all partitions.",
    )
    jobs = [backfill, retrain]
    if project.task.student:
        jobs.append(
            _job(
                builder,
                "predict",
                ("predictions", "quality_report"),
                "Predict with the champion and report, without training.",
            )
        )
    # A job of ops: it brings an earlier model back before anything reads it.
    way_back = [rollback.rollback_job(builder)] if project.task.student else []
    refresh_job = refresh.refresh_job(builder)
    sensor = refresh.refresh_sensor(
        builder,
        label_job=f"{project.name}_backfill",
        label_stages=stages,
        retrain_job=f"{project.name}_retrain",
        jobs=[backfill, retrain],
    )
    batch_sensor = batches.batches_sensor(
        builder,
        label_job=f"{project.name}_backfill",
        label_stages=stages,
        retrain_job=f"{project.name}_retrain",
        jobs=[backfill, retrain],
    )
    return dg.Definitions(
        assets=assets,
        jobs=[refresh_job, *jobs, *way_back],
        schedules=_schedules(project, refresh_job),
        sensors=[sensor, *([batch_sensor] if batch_sensor else [])],
    )


def _job(
    builder: StageBuilder,
    name: str,
    stages: tuple[str, ...],
    description: str,
    partitions_def: dg.PartitionsDefinition[str] | None = None,
) -> UnresolvedAssetJobDefinition:
    return dg.define_asset_job(
        f"{builder.project.name}_{name}",
        dg.AssetSelection.assets(*(builder.key(stage) for stage in stages)),
        description=description,
        partitions_def=partitions_def,
        executor_def=dg.in_process_executor,
        tags={"annotation_pipelines/project": builder.project.name},
    )


def _schedules(project: Project, refresh_job: dg.JobDefinition) -> list[dg.ScheduleDefinition]:
    schedule = project.declaration.schedule
    if schedule is None:
        return []
    return [
        dg.ScheduleDefinition(
            name=f"{project.name}_nightly",
            job=refresh_job,
            cron_schedule=schedule.cron,
            execution_timezone=schedule.timezone or project.declaration.partitions.timezone,
            description="Refresh: ingest, label what is new or stale, retrain, evaluate, predict, report.",
            default_status=dg.DefaultScheduleStatus.RUNNING if schedule.enabled else dg.DefaultScheduleStatus.STOPPED,
        )
    ]
