"""The exports: one asset for each data set that the declaration asks for."""

from __future__ import annotations

import dagster as dg

from annotation_pipelines.graph.stage import Outcome, Stage, StageBuilder
from annotation_pipelines.project.exports import SPLITS, Export

_SHOWN = 1_000
_LEAKS_SHOWN = 5


def export_stages(builder: StageBuilder) -> tuple[str, ...]:
    """The names of the export's assets."""
    return tuple(_stage(export) for export in builder.project.declaration.exports)


def exports(builder: StageBuilder) -> list[dg.AssetsDefinition]:
    """An asset for each declared export."""
    return [_export(builder, export) for export in builder.project.declaration.exports]


def _export(builder: StageBuilder, export: Export) -> dg.AssetsDefinition:
    stage_name = _stage(export)

    def body(stage: Stage) -> Outcome:
        from annotation_pipelines.exports.dataset import export_dataset

        exported = export_dataset(stage.store, stage.project, export, run_id=stage.run_id)
        shown = exported.card.partition("---\n\n")[2]
        return Outcome(
            {
                "dagster/row_count": sum(exported.entries.values()),
                **{split: exported.rows.get(split, 0) for split in SPLITS},
                **{f"left out: {why}": number for why, number in sorted(exported.left_out.items())},
                **exported.notes,
                "folder": dg.MetadataValue.path(str(exported.folder)),
                "card": dg.MetadataValue.md(shown if len(shown) <= _SHOWN else f"{shown[: _SHOWN - 1]}…"),
            },
            [
                dg.AssetCheckResult(
                    check_name="no_leak",
                    asset_key=builder.key(stage_name),
                    passed=not exported.leaks,
                    severity=dg.AssetCheckSeverity.ERROR,
                    description=_said(exported.leaks),
                )
            ],
        )

    labels = "synthetic_records" if builder.project.task.kind == "generation" else "trusted_labels"
    shares = ", ".join(f"{name} {share:g}" for name, share in export.split.shares)
    return builder.asset(
        stage_name,
        body,
        description=f"The trusted labels as a data set in the format {export.format} ({shares}), with a card and a "
        "schema. Near-duplicates stay in one split; gold that is held out for evaluation is never in train.",
        deps=[labels, "human_labels", "model_evaluation"],
        kinds={"parquet" if export.format == "parquet" else "json"},
        version=export,
        partitioned=False,
        checks=[
            dg.AssetCheckSpec(
                "no_leak",
                asset=builder.key(stage_name),
                description="No text of one split says nearly the same as a text of another.",
            )
        ],
    )


def _stage(export: Export) -> str:
    return f"export_{export.called}"


def _said(leaks: list[tuple[str, str, float]]) -> str:
    if not leaks:
        return "no near-duplicates in different splits"
    shown = "; ".join(f"{one} and {other} ({figure:.2f})" for one, other, figure in leaks[:_LEAKS_SHOWN])
    return f"{len(leaks)} near-duplicates in different splits: {shown}"
