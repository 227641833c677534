"""The teacher's labels for held-out records: needed once, to stand beside the student's."""

from __future__ import annotations

from annotation_pipelines.annotators.annotation import annotate_records
from annotation_pipelines.annotators.factory import make_annotator
from annotation_pipelines.graph.stage import Metadata, Stage, money
from annotation_pipelines.store.schema import HELD_OUT


def label_held_out(stage: Stage) -> Metadata:
    """Let the annotator label the held-out files' records, through the same ledger as all others."""
    evaluation = stage.project.declaration.evaluation
    if evaluation is None or not evaluation.teacher:
        return {}
    records = stage.store.query(
        "SELECT record_id, content_hash, content FROM human_labels WHERE origin = 'held_out' ORDER BY record_id"
    )
    if records.is_empty():
        return {}
    counts = annotate_records(
        stage.store,
        make_annotator(stage.project, stage.store),
        records,
        HELD_OUT,
        run_id=stage.run_id,
        progress=stage.progress("labelling held-out records"),
    )
    with stage.store.transaction() as con:
        stage.store.record_stage(con, "llm_labels", HELD_OUT, counts.facts(), stage.run_id)
    return {"held_out_called": counts.called, "held_out_cost": money(counts.cost_usd)}
