"""The command line: a thin layer over the library.

Errors a user can cause are one line on standard error and exit code 2. Exit code 1 means that the run worked and a
blocking check stopped a partition.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from annotation_pipelines.errors import AnnotationPipelinesError

if TYPE_CHECKING:
    from annotation_pipelines.project import Project
    from annotation_pipelines.status import Status
    from annotation_pipelines.store.database import Store
    from annotation_pipelines.workspace import Workspace

EXPORTABLE = ("trusted_labels", "llm_labels", "predictions", "human_labels", "records", "validation_results")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="annotation-pipelines")
def cli() -> None:
    """Scheduled data annotation by large language models, as Dagster assets."""


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path))
def init(folder: Path) -> None:
    """Make a new workspace in FOLDER, with one commented project."""
    from annotation_pipelines.scaffolding import write_workspace

    write_workspace(folder)
    click.echo(
        f"{folder} holds a workspace with one project: {folder}/assets/first_project/defs.yaml\n"
        f"Try it:      cd {folder} && annotation-pipelines run first_project\n"
        "Open the UI: annotation-pipelines ui"
    )


@cli.command()
@click.argument("project")
@click.option("--partition", "partitions", multiple=True, help="Only this partition; may be given again.")
@click.option("--no-train", is_flag=True, help="Label only: no training, evaluation, predictions or report.")
def run(project: str, partitions: tuple[str, ...], no_train: bool) -> None:
    """Run PROJECT here: label what is new or stale in every partition, then train, evaluate, predict and report."""
    from annotation_pipelines.graph.local import chosen_partitions, dagster_instance, run_job, run_partitions

    workspace, loaded, store = _open(project)
    keys = chosen_partitions(loaded, partitions)
    with dagster_instance(workspace) as instance, _bars(len(keys) + (not no_train)) as advance:
        summary = run_partitions(loaded, workspace, instance, keys, on_done=advance)
        if not no_train:
            run_job(loaded, workspace, instance, "retrain")
            advance("retrain")
    _print_status(loaded, store)
    click.echo("Open the UI: annotation-pipelines ui   (or: make ui)")
    if summary.blocked:
        for key, checks in summary.blocked.items():
            click.echo(f"stopped before trusted_labels: partition {key}: {', '.join(checks)}", err=True)
        sys.exit(1)


@cli.command()
@click.argument("project", required=False)
def status(project: str | None) -> None:
    """Show where PROJECT stands; without PROJECT, all of them."""
    from annotation_pipelines.store.database import Store
    from annotation_pipelines.workspace import Workspace

    workspace = Workspace.find()
    broken = 0
    for name in [project] if project else workspace.project_names():
        try:
            loaded = workspace.project(name)
        except AnnotationPipelinesError as error:
            if project:
                raise
            click.echo(f"{name}\n  broken: {error}", err=True)
            broken += 1
            continue
        store = Store(workspace.home(loaded))
        if store.path.exists():
            _print_status(loaded, store)
        else:
            click.echo(f"{name}\n  nothing run yet: annotation-pipelines run {name}")
    if broken:
        sys.exit(2)


@cli.command()
@click.argument("project")
@click.argument("texts", type=click.File("r", encoding="utf-8"), default="-")
def predict(project: str, texts: IO[str]) -> None:
    """Label TEXTS (a file, one text a line; default: standard input) with PROJECT's champion, as JSON Lines."""
    from annotation_pipelines.distillation.prediction import predict_texts

    _, loaded, store = _open(project)
    lines = [line.strip() for line in texts if line.strip()]
    frame = predict_texts(store, loaded, lines)
    click.echo(frame.write_ndjson(), nl=False)


@cli.command()
@click.argument("project")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--table", type=click.Choice(EXPORTABLE), default="trusted_labels", show_default=True)
def export(project: str, file: Path, table: str) -> None:
    """Write a table of PROJECT to FILE: .csv, .jsonl or .parquet, texts included."""
    from annotation_pipelines.export import export_table

    _, _, store = _open(project)
    rows = export_table(store, table, file)
    click.echo(f"{rows:,} rows of {table} in {file}")


@cli.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=int, default=8089, show_default=True)
@click.option("--model", default="gpt-4o", show_default=True, help="The model name that is served.")
@click.option("--text", "text_column", help="Column with the text.")
@click.option("--label", "label_column", help="Column with the recorded label.")
@click.option("--confidence", "confidence_column", help="Column with the recorded confidence.")
def replay(
    file: Path,
    host: str,
    port: int,
    model: str,
    text_column: str | None,
    label_column: str | None,
    confidence_column: str | None,
) -> None:
    """Serve the recorded answers of FILE as an OpenAI-compatible endpoint, until stopped."""
    from annotation_pipelines.annotators.replay import serve

    serve(
        file,
        host,
        port,
        model=model,
        text_column=text_column,
        label_column=label_column,
        confidence_column=confidence_column,
    )


@cli.command()
@click.option("--port", type=int, default=3000, show_default=True, help="Port of the Dagster UI.")
@click.option("--pages-port", type=int, default=3001, show_default=True, help="Port of reports and Data Docs.")
def ui(port: int, pages_port: int) -> None:
    """Open the Dagster UI on this workspace (dagster dev), and serve its reports and Data Docs beside it."""
    from annotation_pipelines.ui import open_ui
    from annotation_pipelines.workspace import Workspace

    sys.exit(open_ui(Workspace.find(), port, pages_port))


def _open(name: str) -> tuple[Workspace, Project, Store]:
    from annotation_pipelines.store.database import Store
    from annotation_pipelines.workspace import Workspace

    workspace = Workspace.find()
    project = workspace.project(name)
    return (
        workspace,
        project,
        Store(workspace.home(project), announce=lambda line: click.echo(line, err=True)),
    )


@contextlib.contextmanager
def _bars(total: int) -> Iterator[Any]:
    """Progress: a live bar on a terminal, a line now and then elsewhere. Gives a function to call when a part ends."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from annotation_pipelines.progress import listening

    console = Console(stderr=True)
    if not console.is_terminal:
        with _lines(total) as advance:
            yield advance
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        outer = progress.add_task("partitions", total=total)
        inner = progress.add_task("starting", total=None)

        def listen(what: str, done: int, count: int) -> None:
            progress.update(inner, description=what, completed=done, total=count)

        with listening(listen):
            yield lambda key: progress.update(outer, advance=1, description=f"partitions ({key})")


@contextlib.contextmanager
def _lines(total: int) -> Iterator[Any]:
    done = 0
    step = max(1, total // 8)

    def advance(key: str) -> None:
        nonlocal done
        done += 1
        if done % step == 0 or done == total:
            click.echo(f"{done} of {total} done ({key})", err=True)

    yield advance


def _print_status(project: Project, store: Store) -> None:
    from annotation_pipelines.status import project_status

    rows = _status_rows(project_status(project, store))
    width = max(len(name) for name, _ in rows)
    click.echo(project.name)
    for name, value in rows:
        click.echo(f"  {name:<{width}}  {value}")


def _status_rows(status: Status) -> Sequence[tuple[str, str]]:
    def accuracy(value: float | None, records: int, of: str, missing: str) -> str:
        return f"not measured: {missing}" if value is None else f"{value:.3f} on {records:,} {of}"

    cost = "unknown (no price declared)" if status.cost_usd is None else f"${status.cost_usd:,.2f}"
    teacher = accuracy(
        status.teacher_accuracy, status.teacher_records, "gold records", "no gold besides demonstrations"
    )
    student = accuracy(
        status.student_accuracy,
        status.student_records,
        "held-out gold records",
        "no held-out gold to measure it on" if status.champion else "no model yet",
    )
    return [
        ("records", f"{status.records:,}"),
        ("labelled", f"{status.labelled:,} by the annotator, {status.human:,} by people"),
        ("trusted", f"{status.trusted:,}"),
        ("teacher accuracy", teacher),
        ("student accuracy", student),
        ("predictions", f"{status.predictions:,} by {status.champion or 'no model yet'}"),
        ("cost", f"{cost} for {status.calls:,} calls"),
        ("failing expectations", f"{status.failing_expectations:,}"),
        ("database", str(status.database)),
        ("report", str(status.report)),
    ]


def main() -> None:
    """The entry point: our errors in one line and exit code 2."""
    logging.captureWarnings(True)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    code = 0
    try:
        cli()
    except AnnotationPipelinesError as error:
        click.echo(f"error: {error}", err=True)
        code = 2
    except BrokenPipeError:
        code = 1
    except SystemExit as exit:
        code = exit.code if isinstance(exit.code, int) else int(exit.code is not None)
    _leave(code)


def _leave(code: int) -> None:
    """End the process with everything said and nothing more: by now all files are closed.

    DuckDB 2.0, loaded beside torch, prints pages about leaked references when the interpreter is taken down in order.
    """
    logging.shutdown()
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)
