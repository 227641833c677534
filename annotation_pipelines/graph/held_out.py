"""The teacher's labels for held-out records: needed once, to stand beside the student's."""

from __future__ import annotations

from annotation_pipelines.annotators.pending import Wanted
from annotation_pipelines.graph.labels import panel_of
from annotation_pipelines.graph.stage import Metadata, Stage, money
from annotation_pipelines.store.schema import HELD_OUT


def label_held_out(stage: Stage) -> Metadata:
    """Let the annotator label the held-out files' records, through the same ledger as all others."""
    evaluation = stage.project.declaration.evaluation
    if evaluation is None or not evaluation.teacher:
        return {}
    panel, occasion = panel_of(stage)
    counts = panel.label(
        stage.store,
        Wanted.held_out(),
        HELD_OUT,
        occasion=occasion,
        progress=stage.progress("labelling held-out records"),
    )
    if not counts.selected:
        return {}
    with stage.store.transaction() as con:
        stage.store.record_stage(con, "llm_labels", HELD_OUT, counts.facts(), stage.run_id)
    return {"held_out_called": counts.called, "held_out_cost": money(counts.cost_usd)}
