"""How far annotators follow the order in which two responses are shown, partition by partition."""

from __future__ import annotations

import json

import polars as pl

from annotation_pipelines.store.database import Store
from annotation_pipelines.tasks.base import Task
from annotation_pipelines.tasks.metrics.preference import position_bias
from annotation_pipelines.tasks.preference import BothOrdersTask

SCHEMA = pl.Schema(
    {
        "partition_key": pl.String(),
        "annotator": pl.String(),
        "criterion": pl.String(),
        "records": pl.Int64(),
        "disagreeing": pl.Int64(),
        "position_consistency": pl.Float64(),
        "first_shown_wins": pl.Float64(),
    }
)

# What a panel makes of its votes says nothing of orders: its members stand in llm_votes.
_ANNOTATIONS = """
SELECT partition_key, annotator, scores FROM llm_labels WHERE state = 'labelled' AND scores IS NOT NULL
UNION ALL
SELECT partition_key, annotator, scores FROM llm_votes WHERE state = 'labelled' AND scores IS NOT NULL
"""


def position_biases(store: Store, task: Task, partition_key: str | None = None) -> pl.DataFrame:
    """The bias of every annotator that was asked in both orders.

    Args:
        partition_key: Default: every partition.

    Returns:
        partition_key, annotator, criterion ('' for the whole), records (answered in both orders), disagreeing (of
        these, those whose orders disagree), position_consistency (the share of the others), first_shown_wins (how often
        the response shown first was preferred, of the answers that are no ties: 0.5 is fair). No rows for other tasks.
    """
    if not isinstance(task, BothOrdersTask):
        return SCHEMA.to_frame(eager=True)
    found = store.query(
        f"SELECT partition_key, annotator, list(scores) AS scores FROM ({_ANNOTATIONS}) "
        "WHERE $key IS NULL OR partition_key = $key GROUP BY ALL ORDER BY ALL",
        {"key": partition_key},
    )
    rows = [
        (key, annotator, b.criterion, b.records, b.disagreeing, b.position_consistency, b.first_shown_wins)
        for key, annotator, scores in found.iter_rows()
        for b in position_bias([json.loads(each) for each in scores], task.criteria)
        if b.records
    ]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")
