"""What commands print of a project: where it stands, and what a run would cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from annotation_pipelines.annotators.plan import Plan
    from annotation_pipelines.project import Project
    from annotation_pipelines.status import Status
    from annotation_pipelines.store.database import Store


def print_status(project: Project, store: Store) -> None:
    """Print where a project stands."""
    from annotation_pipelines.status import project_status

    print_table(project.name, _status_rows(project_status(project, store), project.task.student))


def print_table(title: str, rows: Sequence[tuple[str, str]]) -> None:
    """Print a title, and under it names and values in two columns."""
    width = max(len(name) for name, _ in rows)
    click.echo(title)
    for name, value in rows:
        click.echo(f"  {name:<{width}}  {value}")


def plan_rows(plan: Plan, project: Project) -> Sequence[tuple[str, str]]:
    """What a run would take, as names and values."""
    rows = []
    if plan.not_ingested:
        rows.append(("not ingested yet", f"{plan.not_ingested:,} records of the source; counted in"))
    for member in plan.members:
        # Rounds may end early, and of a cascade the later ones are asked about what the earlier are not sure of.
        cascaded = plan.at_most and member is not plan.members[0]
        at_most = "at most " if cascaded or project.declaration.selection.rounds else ""
        forecast = member.forecast
        rows += [
            (member.annotator, f"{at_most}{member.records:,} records need a label"),
            ("  answered before", f"{member.from_ledger:,}: read again from the ledger"),
            *([("  in batches", f"{member.in_batches:,}: submitted already")] if member.in_batches else []),
            ("  calls", f"{at_most}{forecast.calls:,}"),
            ("  tokens", f"about {forecast.prompt_tokens:,} read, {forecast.completion_tokens:,} written"),
            ("  cost", _dollars(forecast.cost_usd)),
            ("  estimated from", forecast.words),
        ]
    if len(plan.members) > 1:
        rows.append(("together", f"{plan.total.calls:,} calls, {_dollars(plan.total.cost_usd)}"))
    caps = project.declaration.budget.model_dump(exclude_none=True)
    rows.append(("budget", ", ".join(f"{name} {value:,}" for name, value in caps.items()) or "none declared"))
    return rows


def _dollars(usd: float | None) -> str:
    return "unknown: no price is known for the model" if usd is None else f"about ${usd:,.4f}" if usd else "$0"


_EXPLAINED = {
    "over_budget": ": the budget is spent; the next run goes on from there",
    "submitted": ": waiting for a batch",
    "failed": ": no answer; the next run asks again",
}


def _status_rows(status: Status, has_student: bool) -> Sequence[tuple[str, str]]:
    def accuracy(value: float | None, records: int, of: str, missing: str) -> str:
        return f"not measured: {missing}" if value is None else f"{value:.3f} on {records:,} {of}"

    cost = "unknown (no price declared)" if status.cost_usd is None else f"${status.cost_usd:,.2f}"
    teacher = accuracy(
        status.teacher_accuracy, status.teacher_records, "gold records", "no gold besides demonstrations"
    )
    student = accuracy(
        status.student_headline,
        status.student_records,
        "held-out gold records",
        "no held-out gold to measure it on" if status.champion else "no model yet",
    )
    teachers = [("teacher accuracy", teacher)]
    if status.headline != "accuracy":
        measured = accuracy(
            status.teacher_headline, status.teacher_headline_records, "gold records", "no gold besides demonstrations"
        )
        teachers = [(f"teacher {status.headline.replace('_', ' ')}", measured), ("exactly as people", teacher)]
    students = [
        (f"student {status.headline.replace('_', ' ')}", student),
        ("predictions", f"{status.predictions:,} by {status.champion or 'no model yet'}"),
    ]
    return [
        ("records", f"{status.records:,}"),
        ("labelled", f"{status.labelled:,} by the annotator, {status.human:,} by people"),
        *[(f"  {state}", f"{count:,}{_EXPLAINED.get(state, '')}") for state, count in status.unlabelled.items()],
        ("trusted", f"{status.trusted:,}"),
        *teachers,
        *(students if has_student else []),
        ("cost", f"{cost} for {status.calls:,} calls"),
        ("failing expectations", f"{status.failing_expectations:,}"),
        ("database", str(status.database)),
        ("report", str(status.report)),
    ]
