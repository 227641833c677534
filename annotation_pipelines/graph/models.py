"""The stages below the labels: distilled_model, model_evaluation, predictions, quality_report."""

from __future__ import annotations

import dagster as dg

from annotation_pipelines.errors import TrainingError
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
    student = builder.project.task.student

    def body(stage: Stage) -> Outcome:
        from annotation_pipelines.distillation.embedding import Embedder
        from annotation_pipelines.distillation.evaluate import evaluate
        from annotation_pipelines.graph.held_out import label_held_out

        cost = label_held_out(stage)
        embedder = Embedder.for_project(stage.project, stage.store)
        evaluation = evaluate(stage.store, stage.project, embedder, run_id=stage.run_id)
        check = dg.AssetCheckResult(
            check_name="student_not_worse_than_teacher",
            asset_key=builder.key("model_evaluation"),
            passed=evaluation.student_holds,
            severity=dg.AssetCheckSeverity.WARN,
            description=evaluation.verdict,
        )
        return Outcome(
            {**evaluation.facts(), **cost, "metrics": sample(evaluation.metrics, rows=100)},
            [check] if student else [],
        )

    return builder.asset(
        "model_evaluation",
        body,
        description="Teacher and student side by side on gold that no training step saw, with 95% intervals. A new "
        "model becomes champion unless it is worse than the one before on the same gold."
        if student
        else "The annotator against gold that it was not shown, with 95% intervals.",
        deps=[*(["distilled_model"] if student else []), "human_labels", "llm_labels"],
        kinds={"duckdb"},
        version=[builder.project.declaration.evaluation, builder.project.declaration.distillation],
        partitioned=False,
        checks=[
            dg.AssetCheckSpec(
                "student_not_worse_than_teacher",
                asset=builder.key("model_evaluation"),
                description="The student is not worse than the teacher on held-out gold (paired bootstrap).",
            )
        ]
        if student
        else [],
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
            "SELECT record_id, content, label, confidence FROM predictions p JOIN records USING (record_id) "
            "ORDER BY record_id LIMIT 10"
        )
        return Outcome(
            {"dagster/row_count": counts.predictions, **counts.facts(), "sample": sample(rows, stage.project.task)}
        )

    return builder.asset(
        "predictions",
        body,
        description="The champion's label and confidence for every record of every partition, annotated or not. Only "
        "records that are new, changed or predicted by an earlier champion are predicted.",
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
