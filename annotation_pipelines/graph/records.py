"""The stages before the annotator: raw_records, embeddings, human_labels, selected_records."""

from __future__ import annotations

from collections import Counter

import dagster as dg

from annotation_pipelines.graph.stage import Metadata, Outcome, Stage, StageBuilder, money, numbers, sample
from annotation_pipelines.store.records import live_records

_INGESTED = ("rows", "new", "changed", "updated", "moved", "restored", "deleted", "unchanged")


def raw_records(builder: StageBuilder) -> dg.AssetsDefinition:
    """Records of a partition, as the source has them now."""
    declaration = builder.project.declaration

    def body(stage: Stage) -> Outcome:
        from annotation_pipelines.sources.ingest import ingest

        counts = ingest(stage.store, stage.project, stage.partition_key, run_id=stage.run_id)
        reasons = dict(Counter(counts.rejected) + Counter(counts.unplaced))
        rejected = sum(reasons.values())
        records = live_records(stage.store, stage.partition_key)
        return Outcome(
            {
                "dagster/partition_row_count": len(records),
                **numbers(vars(counts), *_INGESTED),
                "rejected": rejected,
                "rejected_by_reason": reasons,
                "sample": sample(records.select("record_id", "event_time", "content", "gold"), stage.project.task),
            },
            [
                dg.AssetCheckResult(
                    check_name="no_rows_rejected",
                    asset_key=builder.key("raw_records"),
                    passed=rejected == 0,
                    severity=dg.AssetCheckSeverity.WARN,
                    metadata={"rejected": rejected, "by_reason": reasons},
                )
            ],
        )

    return builder.asset(
        "raw_records",
        body,
        description=(
            f"Records of the source ({declaration.source.kind}): id, content, event time, gold label where people gave "
            "one. New, changed, moved, restored and deleted ones are told apart; rows that cannot be records are kept "
            "in `rejected_records` with the reason."
        ),
        deps=[],
        kinds={declaration.source.kind, "duckdb"},
        version=[declaration.source, declaration.partitions],
        table="records",
        checks=[
            builder.check(
                "raw_records",
                "no_rows_rejected",
                "Every row of the source became a record with a known label.",
            )
        ],
    )


def embeddings(builder: StageBuilder) -> dg.AssetsDefinition:
    """Sentence embeddings of a partition, cached by content."""
    encoder = builder.project.declaration.distillation.encoder

    def body(stage: Stage) -> Outcome:
        from annotation_pipelines.distillation.embedding import Embedder

        embedder = Embedder.for_project(stage.project, stage.store)
        records = live_records(stage.store, stage.partition_key).select("content_hash", "content")
        counts = embedder.ensure(stage.partition_key, records, stage.progress("embedding records"))
        return Outcome(
            {
                "dagster/partition_row_count": counts.records,
                "encoder": encoder,
                "dimensions": embedder.dimension,
                "encoded": counts.encoded,
                "reused": counts.reused,
            }
        )

    return builder.asset(
        "embeddings",
        body,
        description=f"One vector a record, by {encoder}: Parquet beside the database, seen in it as a view. "
        "A text is encoded once, whatever happens around it.",
        deps=["raw_records"],
        kinds={"sentence-transformers", "parquet"},
        version=encoder,
    )


def human_labels(builder: StageBuilder) -> dg.AssetsDefinition:
    """Labels that people gave, each with its role."""
    declaration = builder.project.declaration

    def body(stage: Stage) -> Outcome:
        from annotation_pipelines.sources.gold import gather_human_labels

        counts = gather_human_labels(stage.store, stage.project, run_id=stage.run_id)
        wanted = declaration.demonstrations.pool if declaration.demonstrations else 0
        there = counts.roles["demonstration"]
        rows = stage.store.query("SELECT record_id, role, label, content FROM human_labels ORDER BY role, record_id")
        return Outcome(
            {"dagster/row_count": len(rows), **counts.facts(), "sample": sample(rows, stage.project.task)},
            [
                dg.AssetCheckResult(
                    check_name="demonstration_pool_full",
                    asset_key=builder.key("human_labels"),
                    passed=there >= wanted,
                    severity=dg.AssetCheckSeverity.WARN,
                    metadata={"wanted": wanted, "there": there},
                )
            ],
        )

    return builder.asset(
        "human_labels",
        body,
        description="Gold: labels that people gave, each with the one role it serves in. `demonstration`: shown to "
        "the annotator. `training`: overrides the silver label. `evaluation`: never trained on. `monitor`: measures "
        "the annotator.",
        deps=[],
        kinds={"duckdb"},
        version=[
            declaration.source,
            declaration.demonstrations,
            declaration.evaluation,
            declaration.human_labels,
        ],
        partitioned=False,
        checks=[
            dg.AssetCheckSpec(
                "demonstration_pool_full",
                asset=builder.key("human_labels"),
                description="There are as many gold demonstrations as the declaration asks for.",
            )
        ],
    )


def selected_records(builder: StageBuilder) -> dg.AssetsDefinition:
    """Which records of a partition go to the annotator."""
    selection = builder.project.declaration.selection

    def body(stage: Stage) -> Outcome:
        if selection.rounds is None:
            from annotation_pipelines.selection.select import select_records

            counts = select_records(stage.store, stage.project, stage.partition_key, run_id=stage.run_id)
        else:
            from annotation_pipelines.selection.rounds import choose_first_round

            counts = choose_first_round(stage.store, stage.project, stage.partition_key, run_id=stage.run_id)
        rows = stage.store.query(
            "SELECT record_id, s.state, strategy, score, content FROM selected_records s "
            "JOIN records USING (record_id) WHERE s.partition_key = ? "
            "ORDER BY score DESC NULLS LAST, record_id LIMIT 10",
            [stage.partition_key],
        )
        return Outcome(
            {
                "dagster/partition_row_count": sum(counts.values()),
                **counts,
                **_calls_to_come(stage),
                "sample": sample(rows, stage.project.task),
            }
        )

    size = f"at most {selection.budget} a partition" if selection.budget else "all of them"
    if selection.rounds is not None:
        size = f"{size}, in up to {selection.rounds} rounds of {selection.per_round}; the first one is chosen here"
    return builder.asset(
        "selected_records",
        body,
        description=f"The records that go to the annotator ({selection.strategy}: {size}). A choice stands: a record "
        "once chosen stays chosen. Demonstrations are not asked about: people labelled them.",
        deps=["raw_records", "embeddings", "human_labels"],
        kinds={"duckdb"},
        version=selection,
    )


def _calls_to_come(stage: Stage) -> Metadata:
    """What labelling the selected records will take, where it leaves this machine."""
    if not any(annotator.openai for annotator in stage.project.declaration.annotators):
        return {}
    from annotation_pipelines.annotators.factory import make_panel
    from annotation_pipelines.annotators.pending import Wanted
    from annotation_pipelines.annotators.plan import plan_calls

    panel = make_panel(stage.project, stage.store)
    total = plan_calls(stage.store, panel, Wanted.of_partition(stage.partition_key)).total
    return {
        "planned_calls": total.calls,
        "planned_tokens": total.tokens,
        "planned_cost": money(total.cost_usd),
        "planned_from": total.words,
    }
