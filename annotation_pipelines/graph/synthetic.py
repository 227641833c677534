"""The stage of projects that generate: synthetic_records."""

from __future__ import annotations

import dagster as dg

from annotation_pipelines.graph.stage import Metadata, Outcome, Stage, StageBuilder, money, numbers, sample
from annotation_pipelines.project import Synthetic


def synthetic_records(builder: StageBuilder) -> dg.AssetsDefinition:
    """What was generated, checked: kept, or dropped with a reason."""
    from annotation_pipelines.annotators.factory import annotator_name

    settings = builder.project.declaration.synthetic or Synthetic()

    def body(stage: Stage) -> Outcome:
        from annotation_pipelines.annotators.counts import Occasion
        from annotation_pipelines.distillation.embedding import Embedder
        from annotation_pipelines.synthetic.check import check_generated
        from annotation_pipelines.synthetic.report import diversity_of

        counts = check_generated(
            stage.store,
            stage.project,
            stage.partition_key,
            annotator_name(stage.project),
            settings,
            occasion=Occasion(stage.run_id, stage.backfill_id, stage.project.declaration.budget),
            progress=stage.progress("checking synthetic records"),
        )
        embedder = Embedder.for_project(stage.project, stage.store)
        diversity = diversity_of(stage.store, stage.partition_key, embedder, run_id=stage.run_id)
        facts = counts.facts()
        return Outcome(
            {
                "dagster/partition_row_count": counts.generated,
                **numbers(facts, "seeds", "generated", "missing", "surplus", "kept", "waiting", "dropped"),
                "dropped_by_reason": dict(counts.dropped),
                "called": counts.called,
                "cost": money(counts.cost_usd),
                "diversity": {name: value for name, value in diversity.facts().items() if value is not None},
                **({"kept_by_label": dict(counts.labels)} if counts.labels else {}),
                **_samples(stage),
            },
            [
                dg.AssetCheckResult(
                    check_name="every_record_checked",
                    asset_key=builder.key("synthetic_records"),
                    passed=counts.waiting == 0,
                    severity=dg.AssetCheckSeverity.WARN,
                    metadata={"waiting": counts.waiting, "cost": money(counts.cost_usd)},
                )
            ],
        )

    asked = [name for name, part in (("a judge", settings.judge), ("a round trip", settings.round_trip)) if part]
    return builder.asset(
        "synthetic_records",
        body,
        description="What the annotator generated, one row an entry: kept, or dropped with the first check that it did "
        f"not pass. Checks: {', '.join(['rules', 'near-duplicates', *asked])}. All of it is marked as synthetic for "
        "ever, and none of it enters evaluation. Unchanged entries are not asked about again.",
        deps=["llm_labels", "validation_results"],
        kinds={"duckdb"},
        version=[settings, builder.project.declaration.task],
        checks=[
            builder.check(
                "synthetic_records",
                "every_record_checked",
                "No synthetic record waits for a judge or a round trip; the next run asks again.",
            )
        ],
    )


def _samples(stage: Stage) -> Metadata:
    """Some of what was kept, and one example of each reason for which something was dropped."""
    kept = stage.store.query(
        "SELECT synthetic_id, seed_record_id, content, label, judge_score FROM synthetic_records "
        "WHERE partition_key = ? AND state = 'kept' ORDER BY judge_score DESC NULLS LAST, synthetic_id LIMIT 8",
        [stage.partition_key],
    )
    dropped = stage.store.query(
        "SELECT reason, problem, seed_record_id, content FROM synthetic_records "
        "WHERE partition_key = ? AND state = 'dropped' "
        "QUALIFY row_number() OVER (PARTITION BY reason ORDER BY synthetic_id) = 1 ORDER BY reason",
        [stage.partition_key],
    )
    return {"sample": sample(kept), "dropped_examples": sample(dropped, rows=20)}
