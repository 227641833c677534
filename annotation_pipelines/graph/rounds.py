"""Rounds of active selection as they are seen in the UI: an observation for each that ends, and the learning curve."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import dagster as dg
import polars as pl

from annotation_pipelines.graph.stage import Metadata, Stage, money, sample

if TYPE_CHECKING:
    from annotation_pipelines.annotators.counts import AnnotationCounts
    from annotation_pipelines.selection.round_history import Round


def label_in_rounds(
    stage: Stage, key: dg.AssetKey, label: Callable[[], AnnotationCounts]
) -> tuple[AnnotationCounts, Metadata]:
    """Choose, annotate and train round by round; each round that ends is an observation of the asset.

    Args:
        key: The asset that is observed.
        label: Brings the labels of the partition's selected records up to date.

    Returns:
        What was annotated, and metadata with the learning curve.
    """
    from annotation_pipelines.distillation.embedding import Embedder
    from annotation_pipelines.selection.rounds import run_rounds

    partition = stage.partition_key if stage.context.has_partition_key else None

    def observe(ended: Round) -> None:
        stage.context.log.info(in_words(ended))
        stage.context.log_event(
            dg.AssetObservation(asset_key=key, partition=partition, description=in_words(ended), metadata=shown(ended))
        )

    outcome = run_rounds(
        stage.store,
        stage.project,
        stage.partition_key,
        label,
        Embedder.for_project(stage.project, stage.store),
        on_round=observe,
        run_id=stage.run_id,
    )
    return outcome.counts, _summary(outcome.rounds, outcome.ended, stage.project.declaration.selection.stop.agreement)


def in_words(ended: Round) -> str:
    """A round in one line."""
    measured = "" if ended.value is None else f", {ended.metric} {ended.value:.3f} on {ended.gold} gold records"
    agreed = "" if ended.agreement is None else f", agreement with the round before {ended.agreement:.3f}"
    stopped = f"; no round follows: {ended.stopped}" if ended.stopped else ""
    return (
        f"round {ended.round}: {ended.chosen} records by {ended.strategy}, {ended.silver} silver labels in all"
        f"{measured}{agreed}, cost {money(ended.cost_usd)}{stopped}"
    )


def shown(ended: Round) -> Metadata:
    """A round as metadata: its figures are drawn over time in the UI."""
    figures: Metadata = {
        "round": ended.round,
        "strategy": ended.strategy,
        "chosen": ended.chosen,
        "labelled": ended.labelled,
        "silver": ended.silver,
        "gold": ended.gold,
        ended.metric: ended.value,
        "agreement": ended.agreement,
        "cost_usd": ended.cost_usd,
        "seconds": ended.seconds,
        "stopped": ended.stopped,
    }
    return {
        name: round(value, 6) if isinstance(value, float) else value
        for name, value in figures.items()
        if value is not None
    }


def _summary(rounds: Sequence[Round], ended: str, enough: float) -> Metadata:
    from annotation_pipelines.reports.drawing import markdown_image, png
    from annotation_pipelines.reports.rounds_plot import learning_curve

    metadata: Metadata = {"rounds": len(rounds), "rounds_ended": ended}
    if not rounds:
        return metadata
    frame = pl.DataFrame([vars(each) for each in rounds])
    last = rounds[-1]
    if last.value is not None:
        metadata[f"round_{last.metric}"] = round(last.value, 4)
    columns = ["round", "strategy", "chosen", "labelled", "silver", "value", "agreement", "cost_usd", "seconds"]
    return {
        **metadata,
        "learning_curve": dg.MetadataValue.md(
            markdown_image(png(learning_curve(frame, enough=enough)), "learning curve")
        ),
        "table_of_rounds": sample(frame.select(columns).with_columns(pl.col(pl.Float64).round(4)), rows=100),
    }
