"""The stages around the annotator: llm_labels, validation_results, trusted_labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from annotation_pipelines.graph.rounds import label_in_rounds
from annotation_pipelines.graph.stage import Metadata, Outcome, Stage, StageBuilder, money, numbers, sample
from annotation_pipelines.project import Project, digest

if TYPE_CHECKING:
    from annotation_pipelines.annotators.counts import AnnotationCounts, Occasion
    from annotation_pipelines.annotators.panel import Panel


def llm_labels(builder: StageBuilder) -> dg.AssetsDefinition:
    """The annotator's label for every selected record."""
    from annotation_pipelines.annotators.factory import annotator_name

    declaration = builder.project.declaration

    def body(stage: Stage) -> Outcome:
        from annotation_pipelines.annotators.pending import Wanted

        panel, occasion = panel_of(stage)

        def label() -> AnnotationCounts:
            return panel.label(
                stage.store,
                Wanted.of_partition(stage.partition_key),
                stage.partition_key,
                occasion=occasion,
                progress=stage.progress("labelling records"),
            )

        rounds: Metadata = {}
        if declaration.selection.rounds is None:
            counts = label()
        else:
            counts, rounds = label_in_rounds(stage, builder.key("llm_labels"), label)
        facts = counts.facts()
        with stage.store.transaction() as con:
            stage.store.record_stage(con, "llm_labels", stage.partition_key, facts, stage.run_id)
        over_budget = counts.states["over_budget"]
        if over_budget:
            stage.context.log.warning(f"{over_budget:,} records were not asked about: the budget is spent")
        return Outcome(
            {
                "dagster/partition_row_count": counts.selected,
                "annotator": ", ".join(member.name for member in panel.members),
                **numbers(facts, "new", "changed", "stale", "retried", "reused", "called", "repairs"),
                **{state: n for state, n in counts.states.items() if n},
                "cost": money(counts.cost_usd),
                **numbers(facts, "prompt_tokens", "cached_tokens", "completion_tokens"),
                "records_per_second": round(counts.called / counts.seconds, 1) if counts.called else 0,
                "recovered_from_journal": counts.recovered,
                **rounds,
                **_candidate_recall(stage, panel),
                **_pictures(stage),
            },
            [
                dg.AssetCheckResult(
                    check_name="every_call_answered",
                    asset_key=builder.key("llm_labels"),
                    passed=counts.states["failed"] == 0,
                    severity=dg.AssetCheckSeverity.WARN,
                    metadata={"failed": counts.states["failed"], "problems": _problems(stage)},
                ),
                dg.AssetCheckResult(
                    check_name="within_budget",
                    asset_key=builder.key("llm_labels"),
                    passed=over_budget == 0,
                    severity=dg.AssetCheckSeverity.WARN,
                    metadata={"not_asked": over_budget, "cost": money(counts.cost_usd)},
                ),
            ],
        )

    annotators = [annotator.openai for annotator in declaration.annotators]
    kinds = {"openai" if openai else "sentence-transformers" for openai in annotators}
    return builder.asset(
        "llm_labels",
        body,
        description=f"What {annotator_name(builder.project)} says of every selected record. Only new, changed and "
        "stale records are asked about; every reply is kept in `llm_calls` and never bought twice.",
        deps=["selected_records", "embeddings", "human_labels"],
        kinds={*kinds, "duckdb"},
        version=answer_version(builder.project),
        checks=[
            builder.check(
                "llm_labels",
                "every_call_answered",
                "No record ended without an answer; the next run asks again.",
            ),
            builder.check(
                "llm_labels",
                "within_budget",
                "No record was left out because the budget was spent; the next run goes on from there.",
            ),
        ],
    )


def panel_of(stage: Stage) -> tuple[Panel, Occasion]:
    """The project's annotators, and on what occasion they are asked."""
    from annotation_pipelines.annotators.counts import Occasion
    from annotation_pipelines.annotators.factory import make_panel

    occasion = Occasion(stage.run_id, stage.backfill_id, stage.project.declaration.budget)
    return make_panel(stage.project, stage.store), occasion


def answer_version(project: Project) -> object:
    """What of the declaration decides the labels; changed limits, budgets and prices leave them as they are."""
    declaration = project.declaration
    unimportant = ("concurrency", "timeout", "max_retries", "patience", "limits", "mode", "batch", "price")
    annotators = [
        annotator.model_dump(mode="json", exclude={"openai": set(unimportant)}) for annotator in declaration.annotators
    ]
    return [
        declaration.task,
        digest(project.guideline),
        annotators,
        declaration.panel,
        declaration.prompt,
        declaration.injection,
        declaration.privacy,
        declaration.demonstrations,
    ]


def _problems(stage: Stage) -> dict[str, int]:
    rows = stage.store.query(
        "SELECT coalesce(problem, state) AS problem, count(*) AS n FROM llm_labels "
        "WHERE partition_key = ? AND state <> 'labelled' GROUP BY ALL ORDER BY n DESC LIMIT 10",
        [stage.partition_key],
    )
    return dict(rows.iter_rows())


def _candidate_recall(stage: Stage, panel: Panel) -> Metadata:
    """Where records are shown with some of the labels only: the share of gold labels that were among them."""
    from annotation_pipelines.annotators.candidates import recall
    from annotation_pipelines.annotators.endpoint.annotator import OpenAIAnnotator

    gold = stage.store.query(
        "SELECT record_id, content_hash, content, gold FROM llm_labels l JOIN records USING (record_id, content_hash) "
        "WHERE l.partition_key = ? AND l.annotator = ? AND gold IS NOT NULL ORDER BY record_id",
        [stage.partition_key, panel.name],
    )
    for member in panel.members:
        if isinstance(member, OpenAIAnnotator) and (shown := member.labels_shown(gold)):
            share = recall(stage.project.task, gold["gold"].to_list(), shown)
            return {} if share is None else {"candidate_recall": round(share, 4)}
    return {}


def _position_bias(stage: Stage) -> Metadata:
    """How far annotators follow the order in which two parts are shown; nothing for other tasks."""
    from annotation_pipelines.quality.position_bias import position_biases

    biases = position_biases(stage.store, stage.project.task, stage.partition_key)
    if biases.is_empty():
        return {}
    metadata: Metadata = {"position_bias": sample(biases.drop("partition_key"), rows=100)}
    if len(biases) == 1:
        metadata |= {name: biases[name].item() for name in ("position_consistency", "first_shown_wins")}
    return metadata


def _pictures(stage: Stage) -> Metadata:
    """A sample of labelled records, the label distribution and, where gold exists, the confusion matrix."""
    from annotation_pipelines.quality.agreement import confusion, teacher_accuracy
    from annotation_pipelines.quality.validity import named_counts
    from annotation_pipelines.reports import plots
    from annotation_pipelines.reports.bars import text_bars

    joined = "FROM llm_labels l JOIN records USING (record_id) WHERE l.partition_key = ?"
    task = stage.project.task
    labels = list(task.labels)
    counts = dict.fromkeys(labels, 0)
    with stage.store.transaction() as con:
        given = "AND label IS NOT NULL"
        found = stage.store.frame(
            con, f"SELECT label, count(*) AS records {joined} {given} GROUP BY label", [stage.partition_key]
        )
        compared = stage.store.frame(
            con, f"SELECT gold, label {joined} {given} AND gold IS NOT NULL", [stage.partition_key]
        )
        shown = stage.store.frame(
            con,
            f"SELECT record_id, content, label, confidence, l.state, gold {joined} ORDER BY record_id LIMIT 8",
            [stage.partition_key],
        )
    counts.update(dict(named_counts(task, found).iter_rows()))
    metadata: Metadata = {}
    if counts:
        metadata["labels"] = dg.MetadataValue.md(text_bars(counts))
        metadata["label_distribution"] = dg.MetadataValue.md(
            plots.markdown_image(plots.png(plots.label_distribution(counts)), "label distribution")
        )
    accuracy = teacher_accuracy(stage.store, stage.partition_key)
    if accuracy.records:
        metadata["accuracy_against_gold" if task.exclusive else "exactly_as_people"] = accuracy.value
    metadata |= _position_bias(stage)
    if accuracy.records and task.exclusive:
        metadata["confusion_matrix"] = dg.MetadataValue.md(
            plots.markdown_image(
                plots.png(plots.confusion_matrix(confusion(compared["gold"], compared["label"], labels), labels)),
                "confusion matrix",
            )
        )
    return {**metadata, "sample": sample(shown, task)}


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
        return Outcome(
            {"dagster/partition_row_count": len(rows), **counts.facts(), "sample": sample(rows, stage.project.task)}
        )

    return builder.asset(
        "trusted_labels",
        body,
        description="The labels students are trained on: gold with weight 1, silver with the annotator's confidence. "
        "Gold overrides silver; records held out for evaluation never enter.",
        deps=["validation_results", "human_labels"],
        kinds={"duckdb"},
        version=declaration.quality.min_confidence,
    )
