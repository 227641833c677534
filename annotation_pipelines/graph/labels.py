"""The stages around the annotator: llm_labels, validation_results, trusted_labels."""

from __future__ import annotations

import dagster as dg
import polars as pl

from annotation_pipelines.graph.stage import Metadata, Outcome, Stage, StageBuilder, money, numbers, sample
from annotation_pipelines.project import Project, digest
from annotation_pipelines.store.records import records_to_annotate


def llm_labels(builder: StageBuilder) -> dg.AssetsDefinition:
    """The annotator's label for every selected record."""
    from annotation_pipelines.annotators.factory import annotator_name

    declaration = builder.project.declaration
    annotator = declaration.annotators[0]

    def body(stage: Stage) -> Outcome:
        from annotation_pipelines.annotators.annotation import annotate_records
        from annotation_pipelines.annotators.factory import make_annotator

        records = records_to_annotate(stage.store, stage.partition_key)
        annotator = make_annotator(stage.project, stage.store)
        counts = annotate_records(
            stage.store,
            annotator,
            records,
            stage.partition_key,
            run_id=stage.run_id,
            progress=stage.progress("labelling records"),
        )
        facts = counts.facts()
        with stage.store.transaction() as con:
            stage.store.record_stage(con, "llm_labels", stage.partition_key, facts, stage.run_id)
        return Outcome(
            {
                "dagster/partition_row_count": counts.selected,
                "annotator": annotator.name,
                **numbers(facts, "new", "changed", "stale", "retried", "reused", "called"),
                **{state: n for state, n in counts.states.items() if n},
                "cost": money(counts.cost_usd),
                **numbers(facts, "prompt_tokens", "completion_tokens"),
                "records_per_second": round(counts.called / counts.seconds, 1) if counts.called else 0,
                "recovered_from_journal": counts.recovered,
                **_pictures(stage),
            },
            [
                dg.AssetCheckResult(
                    check_name="every_call_answered",
                    asset_key=builder.key("llm_labels"),
                    passed=counts.states["failed"] == 0,
                    severity=dg.AssetCheckSeverity.WARN,
                    metadata={"failed": counts.states["failed"], "problems": _problems(stage)},
                )
            ],
        )

    return builder.asset(
        "llm_labels",
        body,
        description=f"What {annotator_name(builder.project)} says of every selected record. Only new, changed and "
        "stale records are asked about; every reply is kept in `llm_calls` and never bought twice.",
        deps=["selected_records", "embeddings", "human_labels"],
        kinds={"openai" if annotator.openai else "sentence-transformers", "duckdb"},
        version=[declaration.task, _guideline_digest(builder.project), annotator, declaration.demonstrations],
        checks=[
            builder.check(
                "llm_labels",
                "every_call_answered",
                "No record ended without an answer; the next run asks again.",
            )
        ],
    )


def _guideline_digest(project: Project) -> str:
    return digest(project.guideline)


def _problems(stage: Stage) -> dict[str, int]:
    rows = stage.store.query(
        "SELECT coalesce(problem, state) AS problem, count(*) AS n FROM llm_labels "
        "WHERE partition_key = ? AND state <> 'labelled' GROUP BY ALL ORDER BY n DESC LIMIT 10",
        [stage.partition_key],
    )
    return dict(rows.iter_rows())


def _pictures(stage: Stage) -> Metadata:
    """A sample of labelled records, the label distribution and, where gold exists, the confusion matrix."""
    from annotation_pipelines.quality.agreement import confusion, teacher_accuracy
    from annotation_pipelines.reports import plots
    from annotation_pipelines.reports.bars import text_bars

    rows = stage.store.query(
        "SELECT record_id, content, label, confidence, l.state, gold FROM llm_labels l JOIN records USING (record_id) "
        "WHERE l.partition_key = ? ORDER BY record_id",
        [stage.partition_key],
    )
    labels = list(stage.project.declaration.task.classification.labels)
    counts = dict.fromkeys(labels, 0)
    counts.update(dict(rows.drop_nulls("label")["label"].value_counts().iter_rows()))
    metadata: Metadata = {
        "labels": dg.MetadataValue.md(text_bars(counts)),
        "label_distribution": dg.MetadataValue.md(
            plots.markdown_image(plots.png(plots.label_distribution(counts)), "label distribution")
        ),
    }
    accuracy = teacher_accuracy(stage.store, stage.partition_key)
    if accuracy.records:
        compared = rows.filter(pl.col("gold").is_not_null() & pl.col("label").is_not_null())
        metadata["accuracy_against_gold"] = accuracy.value
        metadata["confusion_matrix"] = dg.MetadataValue.md(
            plots.markdown_image(
                plots.png(plots.confusion_matrix(confusion(compared["gold"], compared["label"], labels), labels)),
                "confusion matrix",
            )
        )
    return {**metadata, "sample": sample(rows)}


def validation_results(builder: StageBuilder) -> dg.AssetsDefinition:
    """Great Expectations on the labels of a partition."""
    from annotation_pipelines.annotators.factory import annotator_name
    from annotation_pipelines.quality.expectations import expectations_for

    declared = expectations_for(builder.project.declaration, builder.project.name)

    def body(stage: Stage) -> Outcome:
        from annotation_pipelines.quality.validation import validate
        from annotation_pipelines.reports.pages import page_url

        report = validate(
            stage.store,
            stage.project,
            stage.partition_key,
            annotator_name(stage.project),
            run_id=stage.run_id,
        )
        results = [
            dg.AssetCheckResult(
                check_name=r.check_name,
                asset_key=builder.key("validation_results"),
                passed=r.success,
                severity=dg.AssetCheckSeverity.ERROR if r.blocking else dg.AssetCheckSeverity.WARN,
                description=r.observed,
                metadata={
                    "expectation": r.expectation,
                    "rows": r.element_count or 0,
                    "unexpected": r.unexpected_count or 0,
                    "examples": list(r.examples),
                },
            )
            for r in report.results
        ]
        return Outcome(
            {
                "dagster/partition_row_count": len(report.results),
                "met": sum(r.success for r in report.results),
                "not_met": sum(not r.success for r in report.results),
                "blocking": sum(r.blocking and not r.success for r in report.results),
                "data_docs": dg.MetadataValue.url(page_url(stage.project.name, "data_docs")),
                "data_docs_file": dg.MetadataValue.path(str(report.data_docs)),
            },
            results,
        )

    return builder.asset(
        "validation_results",
        body,
        description="Great Expectations on the labels of the partition, as asset checks and Data Docs. A blocking one "
        "that is not met stops the partition before `trusted_labels`.",
        deps=["llm_labels"],
        kinds={"great-expectations", "duckdb"},
        version=[builder.project.declaration.quality, builder.project.declaration.task],
        checks=[
            builder.check("validation_results", e.check_name, e.description, blocking=e.blocking) for e in declared
        ],
    )


def trusted_labels(builder: StageBuilder) -> dg.AssetsDefinition:
    """The labels that students learn from."""
    from annotation_pipelines.annotators.factory import annotator_name

    declaration = builder.project.declaration

    def body(stage: Stage) -> Outcome:
        from annotation_pipelines.quality.trust import publish

        counts = publish(
            stage.store,
            stage.project,
            stage.partition_key,
            annotator_name(stage.project),
            run_id=stage.run_id,
        )
        rows = stage.store.query(
            "SELECT record_id, content, label, origin, weight FROM trusted_labels JOIN records USING (record_id) "
            "WHERE trusted_labels.partition_key = ? ORDER BY record_id",
            [stage.partition_key],
        )
        return Outcome({"dagster/partition_row_count": len(rows), **counts.facts(), "sample": sample(rows)})

    return builder.asset(
        "trusted_labels",
        body,
        description="The labels students are trained on: gold with weight 1, silver with the annotator's confidence. "
        "Gold overrides silver; records held out for evaluation never enter.",
        deps=["validation_results", "human_labels"],
        kinds={"duckdb"},
        version=declaration.quality.min_confidence,
    )
