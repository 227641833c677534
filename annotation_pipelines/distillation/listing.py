"""Every model of a project in a line or two: what it is, how good, and what was decided about it."""

from __future__ import annotations

from annotation_pipelines.distillation.registry import Model, ModelRegistry
from annotation_pipelines.project import Project
from annotation_pipelines.store.database import Store

_MAIN = """
SELECT model_version, value, lower, upper, records FROM model_evaluation
WHERE split = 'evaluation' AND slice = '' AND label = '' AND metric = ? AND value IS NOT NULL
"""
_FAILED = "SELECT model_version, check_name FROM model_checks WHERE NOT passed ORDER BY check_name"


def model_lines(store: Store, project: Project) -> list[tuple[str, list[str]]]:
    """The models, newest first, each with lines in words."""
    headline = project.task.headline
    measured = {version: row for version, *row in store.query(_MAIN, [headline]).iter_rows()}
    failed: dict[str, list[str]] = {}
    for version, name in store.query(_FAILED).iter_rows():
        failed.setdefault(version, []).append(name)
    return [
        (f"{model.version}  {model.status}", _lines(model, headline, measured.get(model.version), failed))
        for model in ModelRegistry(store).all()
    ]


def _lines(model: Model, headline: str, row: list[float] | None, failed: dict[str, list[str]]) -> list[str]:
    trained = f"{model.trained_at:%Y-%m-%d %H:%M} UTC on {model.silver:,} silver and {model.gold:,} gold labels"
    lines = [f"{model.student} on {model.encoder}, trained {trained}"]
    name = headline.replace("_", " ")
    if row is None:
        lines.append(f"{name} not measured")
    else:
        value, lower, upper, records = row
        interval = f" ({lower:.3f} to {upper:.3f})" if lower is not None else ""
        lines.append(f"{name} {value:.3f}{interval} on {records:,} held-out gold records")
    if model.version in failed:
        lines.append(f"fails {', '.join(failed[model.version])}")
    if model.promoted_at is not None:
        lines.append(f"champion since, or last, {model.promoted_at:%Y-%m-%d %H:%M} UTC")
    return [*lines, *model.history]
