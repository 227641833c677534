"""The stages below the labels: distilled_model, model_evaluation, predictions, quality_report."""

from __future__ import annotations

import dagster as dg

from annotation_pipelines.errors import TrainingError
from annotation_pipelines.graph.evaluation import evaluation_check_specs, evaluation_checks, shown_evaluation
from annotation_pipelines.graph.stage import Outcome, Stage, StageBuilder, sample


def distilled_model(builder: StageBuilder) -> dg.AssetsDefinition:
    """The student, trained on the trusted labels of all partitions."""
    distillation = builder.project.declaration.distillation
    kind = (distillation.student or builder.project.task.students[0]).replace("_", "-")

    def body(stage: Stage) -> Outcome:
        from annotation_pipelines.distillation.embedding import Embedder
        from annotation_pipelines.distillation.training import train

        def check(passed: bool, why: str) -> list[dg.AssetCheckResult]:
            return [
                dg.AssetCheckResult(
                    check_name="enough_labels",
                    asset_key=builder.key("distilled_model"),
                    passed=passed,
                    severity=dg.AssetCheckSeverity.WARN,
                    description=why,
                )
            ]

        embedder = Embedder.for_project(stage.project, stage.store)
        try:
            model = train(stage.store, stage.project, embedder, run_id=stage.run_id)
        except TrainingError as error:
            stage.context.log.warning(str(error))
            return Outcome({"trained": False, "why": str(error)}, check(False, str(error)))
        return Outcome(
            {"trained": model.trained, **model.facts(), "folder": dg.MetadataValue.path(str(model.path))},
            check(True, f"{model.silver} silver and {model.gold} gold labels"),
        )

    return builder.asset(
        "distilled_model",
        body,
        description=f"The student: a {kind} model on {distillation.encoder}, trained on the trusted "
        "labels with their weights. The same labels give the same version, and nothing is trained again.",
        deps=["trusted_labels", "embeddings", "human_labels"],
        kinds={"sentence-transformers", "scikitlearn"},
        version=distillation,
        partitioned=False,
        table="models",
        checks=[
            dg.AssetCheckSpec(
                "enough_labels",
                asset=builder.key("distilled_model"),
                description=f"There are at least {distillation.min_labels} trusted labels, of two classes or more.",
            )
        ],
    )


def model_evaluation(builder: StageBuilder) -> dg.AssetsDefinition:
    """Teacher and student on gold that no training step saw; the champion is chosen here."""
    student, task = builder.project.task.student, builder.project.task

    def body(stage: Stage) -> Outcome:
        from annotation_pipelines.distillation.embedding import Embedder
        from annotation_pipelines.distillation.evaluate import evaluate
        from annotation_pipelines.graph.held_out import label_held_out

        cost = label_held_out(stage)
        embedder = Embedder.for_project(stage.project, stage.store)
        evaluation = evaluate(stage.store, stage.project, embedder, run_id=stage.run_id)
        metadata = {**evaluation.facts(), **cost, **shown_evaluation(evaluation)}
        return Outcome(metadata, evaluation_checks(builder, evaluation) if student else [])

    return builder.asset(
        "model_evaluation",
        body,
        description="Teacher and student side by side on gold that no training step saw, with 95% intervals: by class, "
        "by slice, with calibration, learning curve and cost. A new model becomes champion when it is not worse than "
        f"the one before on the same gold ({task.headline.replace('_', ' ')}, at most "
        f"{100 * builder.project.declaration.promotion.margin:.1f} points, beyond chance) and passes the behavioural "
        "checks."
        if student
        else "The annotator against gold that it was not shown, with 95% intervals.",
        deps=[*(["distilled_model"] if student else []), "human_labels", "llm_labels"],
        kinds={"duckdb"},
        version=[
            builder.project.declaration.evaluation,
            builder.project.declaration.distillation,
            builder.project.declaration.promotion,
        ],
        partitioned=False,
        checks=evaluation_check_specs(builder) if student else [],
    )


def predictions(builder: StageBuilder) -> dg.AssetsDefinition:
    """The champion's label for every record."""

    def body(stage: Stage) -> Outcome:
        from annotation_pipelines.distillation.embedding import Embedder
        from annotation_pipelines.distillation.prediction import predict

        embedder = Embedder.for_project(stage.project, stage.store)
        counts = predict(
            stage.store,
            stage.project,
            embedder,
            progress=stage.progress("predicting records"),
            run_id=stage.run_id,
        )
        rows = stage.store.query(
            "SELECT record_id, content, label, confidence, state FROM predictions p JOIN records USING (record_id) "
            "ORDER BY record_id LIMIT 10"
        )
        return Outcome(
            {"dagster/row_count": counts.predictions, **counts.facts(), "sample": sample(rows, stage.project.task)}
        )

    return builder.asset(
        "predictions",
        body,
        description="The champion's label and confidence for every record of every partition, annotated or not. Only "
        "records that are new, changed or predicted by an earlier champion are predicted; with too little confidence "
        "the champion abstains.",
        deps=["model_evaluation", "embeddings"],
        kinds={"sentence-transformers", "duckdb"},
        version=builder.project.declaration.distillation,
        partitioned=False,
    )


def quality_report(builder: StageBuilder) -> dg.AssetsDefinition:
    """One page over all partitions."""

    def body(stage: Stage) -> Outcome:
        from annotation_pipelines.reports.page import write_quality_report
        from annotation_pipelines.reports.pages import page_url

        path = write_quality_report(stage.store, stage.project, run_id=stage.run_id)
        return Outcome(
            {
                "report": dg.MetadataValue.url(page_url(stage.project.name, "report")),
                "file": dg.MetadataValue.path(str(path)),
                "kilobytes": round(path.stat().st_size / 1024),
            }
        )

    return builder.asset(
        "quality_report",
        body,
        description="One self-contained HTML page over all partitions: what was labelled, how far to trust it, what it "
        "cost, and how the student stands beside the teacher.",
        deps=[*(["predictions"] if builder.project.task.student else []), "model_evaluation", "validation_results"],
        kinds={"html"},
        version=1,
        partitioned=False,
    )
