"""The way back, as one run: the champion before takes its place again, predicts, and the report says so."""

import dagster as dg

from annotation_pipelines.errors import AnnotationPipelinesError
from annotation_pipelines.graph.stage import Metadata, StageBuilder
from annotation_pipelines.progress import Progress
from annotation_pipelines.store.database import Store


def rollback_job(builder: StageBuilder) -> dg.JobDefinition:
    """Roll back, predict with the earlier champion, and write the report.

    One op: the stages after it must see the model that it brought back.
    """
    project = builder.project
    op_name = f"{project.name}_roll_back"

    @dg.op(
        name=op_name,
        description="Make the champion before the present one the champion again; the present one is rejected, and not "
        "offered again. All records are predicted anew.",
        config_schema={
            "version": dg.Field(
                str, default_value="", description="An earlier champion to go back to. Default: the one before."
            ),
            "reason": dg.Field(str, default_value="", description="Why; it is kept with both models."),
        },
    )
    def roll_back(context: dg.OpExecutionContext) -> None:
        from annotation_pipelines.distillation.embedding import Embedder
        from annotation_pipelines.distillation.prediction import predict
        from annotation_pipelines.distillation.promotion import roll_back as back
        from annotation_pipelines.reports.page import write_quality_report
        from annotation_pipelines.reports.pages import page_url

        store = Store(builder.workspace.home(project), announce=context.log.warning)
        try:
            embedder = Embedder.for_project(project, store)
            config = context.op_config
            now, gone = back(store, project, embedder, reason=config["reason"], to=config["version"] or None)
            context.log.info(f"{now.version} is the champion again; {gone.version} is rejected")
            counts = predict(
                store,
                project,
                embedder,
                progress=Progress("predicting records", context.log.info),
                run_id=context.run_id,
            )
            path = write_quality_report(store, project, run_id=context.run_id)
        except AnnotationPipelinesError as error:
            raise dg.Failure(str(error), allow_retries=False) from None
        predicted: Metadata = {"dagster/row_count": counts.predictions, **counts.facts(), "rolled_back": gone.version}
        context.log_event(dg.AssetMaterialization(builder.key("predictions"), metadata=predicted))
        report: Metadata = {
            "report": dg.MetadataValue.url(page_url(project.name, "report")),
            "file": dg.MetadataValue.path(str(path)),
        }
        context.log_event(dg.AssetMaterialization(builder.key("quality_report"), metadata=report))

    @dg.job(
        name=f"{project.name}_rollback",
        description="Go back to the champion before this one, predict with it and report. The present champion is "
        "rejected: it is not offered again.",
        executor_def=dg.in_process_executor,
        tags={"annotation_pipelines/project": project.name},
    )
    def job() -> None:
        roll_back()

    return job
