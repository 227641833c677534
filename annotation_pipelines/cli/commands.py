"""The commands.

Errors a user can cause are one line on standard error and exit code 2. Exit code 1 means that the run worked and a
blocking check stopped a partition.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import click

from annotation_pipelines.cli.bars import bars
from annotation_pipelines.cli.tables import plan_rows, print_status, print_table
from annotation_pipelines.errors import AnnotationPipelinesError

if TYPE_CHECKING:
    from annotation_pipelines.project import Project
    from annotation_pipelines.store.database import Store
    from annotation_pipelines.workspace import Workspace

Kind = Literal["txt", "csv", "jsonl", "parquet"]
KINDS = get_args(Kind)

REVIEW_QUEUE = "review_queue"
EXPORTABLE = (
    "trusted_labels",
    "llm_labels",
    "predictions",
    "human_labels",
    "records",
    "synthetic_records",
    "validation_results",
    REVIEW_QUEUE,
)


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
    with dagster_instance(workspace) as instance, bars(len(keys) + (not no_train)) as advance:
        summary = run_partitions(loaded, workspace, instance, keys, on_done=advance)
        if not no_train:
            run_job(loaded, workspace, instance, "retrain")
            advance("retrain")
    print_status(loaded, store)
    click.echo("Open the UI: annotation-pipelines ui   (or: make ui)")
    if summary.blocked:
        for key, checks in summary.blocked.items():
            click.echo(f"stopped before trusted_labels: partition {key}: {', '.join(checks)}", err=True)
        sys.exit(1)


@cli.command()
@click.argument("project")
@click.option("--partition", "partitions", multiple=True, help="Only this partition; may be given again.")
@click.option("--show-prompt", is_flag=True, help="Show the first request as it would be sent.")
def plan(project: str, partitions: tuple[str, ...], show_prompt: bool) -> None:
    """Say how many calls, tokens and dollars a run of PROJECT would take. Nothing is sent."""
    from annotation_pipelines.annotators.plan import plan_run
    from annotation_pipelines.graph.local import chosen_partitions

    _, loaded, store = _open(project)
    planned = plan_run(store, loaded, chosen_partitions(loaded, partitions) if partitions else None)
    print_table(project, plan_rows(planned, loaded))
    if show_prompt:
        for member in planned.members:
            if member.prompt:
                click.echo(f"\nThe first request to {member.annotator}:")
                click.echo(json.dumps(json.loads(member.prompt), indent=2, ensure_ascii=False))


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
            print_status(loaded, store)
        else:
            click.echo(f"{name}\n  nothing run yet: annotation-pipelines run {name}")
    if broken:
        sys.exit(2)


@cli.command()
@click.argument("project")
@click.option("--poll", is_flag=True, help="Ask the endpoint first, and bring in what has ended.")
@click.option("--cancel", "ids", multiple=True, metavar="ID", help="Cancel this batch; may be given again.")
@click.option("--cancel-all", is_flag=True, help="Cancel all open batches.")
def batches(project: str, poll: bool, ids: tuple[str, ...], cancel_all: bool) -> None:
    """List PROJECT's batches; ask after them or cancel them."""
    from annotation_pipelines.annotators.endpoint.batch_rows import batch_rows
    from annotation_pipelines.annotators.open_batches import cancel_batches, described, poll_batches

    _, loaded, store = _open(project)
    if ids or cancel_all:
        cancel_batches(loaded, store, None if cancel_all else ids)
    if poll:
        poll_batches(loaded, store)
    rows = batch_rows(store)
    for row in rows:
        click.echo(described(row))
    if not rows:
        click.echo("no batch was submitted yet")


@cli.command()
@click.argument("project")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True), default="-")
@click.option("--to", "target", type=click.Path(path_type=Path, dir_okay=False), help="A .csv, .jsonl or .parquet.")
@click.option("--text", help="The column with the text, or a template over columns.  [default: as the source declares]")
@click.option("--format", "kind", type=click.Choice(KINDS), help="What FILE is.  [default: by its ending; stdin: txt]")
def predict(project: str, file: Path, target: Path | None, text: str | None, kind: Kind | None) -> None:
    """Label the texts of FILE (default: standard input) with PROJECT's champion, as JSON Lines.

    FILE is .txt (a text a line), .csv, .jsonl or .parquet. It is read in chunks, and may be of any length.
    """
    from annotation_pipelines.distillation.champion import Champion
    from annotation_pipelines.distillation.fast.choice import WORTH
    from annotation_pipelines.serving.files import predict_file, writing
    from annotation_pipelines.serving.reading import Texts, kind_of, read_chunks

    _, loaded, store = _open(project)
    champion = Champion.open(store, loaded)
    stdin = str(file) == "-"
    chunks = read_chunks(
        sys.stdin.buffer if stdin else file,
        kind or ("txt" if stdin else kind_of(file)),
        Texts.declared(loaded.declaration.source, text),
    )

    def say(line: str) -> None:
        click.echo(line, err=True)

    if target is None:
        texts, abstained = predict_file(champion, chunks, lambda rows: click.echo(rows.write_ndjson(), nl=False), say)
    else:
        with writing(target) as write:
            texts, abstained = predict_file(champion, chunks, write, say)
        aside = f", {abstained:,} of them abstained" if champion.abstain_below else ""
        click.echo(f"{texts:,} predictions of model {champion.model.version} in {target}{aside}")
    if champion.encoded_by is not None and texts >= WORTH:
        say(f"texts were encoded by {champion.encoded_by}")


@cli.command()
@click.argument("project")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=int, default=8090, show_default=True)
def serve(project: str, host: str, port: int) -> None:
    """Answer HTTP requests with PROJECT's champion, until stopped: POST /predict, GET /health, GET /model."""
    from annotation_pipelines.serving.http import serve as answer

    _, loaded, store = _open(project)
    answer(store, loaded, host, port, lambda line: click.echo(line, err=True))


@cli.command()
@click.argument("project")
def models(project: str) -> None:
    """List PROJECT's models, the newest first: what each is, how good, and what was decided about it."""
    from annotation_pipelines.distillation.listing import model_lines

    _, loaded, store = _open(project)
    listed = model_lines(store, loaded)
    for title, lines in listed:
        click.echo("\n  ".join([title, *lines]))
    if not listed:
        click.echo(f"no model was trained yet: annotation-pipelines run {project}")


@cli.command()
@click.argument("project")
@click.argument("version")
@click.option("--reason", required=True, help="Why; it is kept with the model.")
def promote(project: str, version: str, reason: str) -> None:
    """Make model VERSION of PROJECT the champion by hand, whatever its evaluation says."""
    from annotation_pipelines.distillation.embedding import Embedder
    from annotation_pipelines.distillation.promotion import promote as by_hand

    _, loaded, store = _open(project)
    model = by_hand(store, loaded, Embedder.for_project(loaded, store), version, reason)
    click.echo(f"{model.version} is the champion; the job {project}_predict, or the next run, predicts with it")


@cli.command()
@click.argument("project")
@click.option("--to", "version", default="", help="An earlier champion to go back to.  [default: the one before]")
@click.option("--reason", default="", help="Why; it is kept with both models.")
def rollback(project: str, version: str, reason: str) -> None:
    """Go back to PROJECT's champion before this one, predict all records with it and write the report.

    The present champion is rejected: it is not offered again.
    """
    from annotation_pipelines.distillation.registry import ModelRegistry
    from annotation_pipelines.graph.local import dagster_instance, run_job

    workspace, loaded, store = _open(project)
    gone = ModelRegistry(store).champion()
    config = {f"{project}_roll_back": {"config": {"version": version, "reason": reason}}}
    with dagster_instance(workspace) as instance:
        run_job(loaded, workspace, instance, "rollback", ops=config)
    champion = ModelRegistry(store).champion()
    if champion and gone:
        click.echo(f"{champion.version} is the champion again; {gone.version} is rejected")


@cli.command()
@click.argument("project")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), required=False)
@click.option("--table", type=click.Choice(EXPORTABLE), help="The table to write.  [default: trusted_labels]")
@click.option("--format", "chosen", help="Write a data set: a declared export by name, or a format such as chat.")
@click.option("--to", "folder", type=click.Path(path_type=Path, file_okay=False), help="The data set's folder.")
def export(project: str, file: Path | None, table: str | None, chosen: str | None, folder: Path | None) -> None:
    """Write a table of PROJECT to FILE (.csv, .jsonl or .parquet, texts included), or a data set to a folder."""
    if chosen is None:
        if file is None or folder is not None:
            raise click.UsageError("expected FILE for a table, or --format and --to for a data set")
        from annotation_pipelines.export import export_review_queue, export_table

        _, loaded, store = _open(project)
        if table == REVIEW_QUEUE:
            rows = export_review_queue(store, loaded, file)
        else:
            rows = export_table(store, table or "trusted_labels", file)
        click.echo(f"{rows:,} rows of {table or 'trusted_labels'} in {file}")
        return
    if file is not None or table is not None:
        raise click.UsageError("--format writes a data set: name its folder with --to, and neither FILE nor --table")
    from annotation_pipelines.exports.dataset import chosen_export, export_dataset

    _, loaded, store = _open(project)
    exported = export_dataset(store, loaded, chosen_export(loaded, chosen), folder)
    counts = ", ".join(f"{split} {number:,}" for split, number in exported.rows.items()) or "no record"
    click.echo(f"{counts} in {exported.folder}")
    for why, number in sorted(exported.left_out.items()):
        click.echo(f"left out, {number:,}: {why}")


@cli.command()
@click.argument("project")
@click.argument("text", required=False)
@click.option("-k", "count", type=click.IntRange(min=0), help="How many demonstrations; default: as declared.")
def prompt(project: str, text: str | None, count: int | None) -> None:
    """Print what PROJECT's annotator would be asked about TEXT (default: standard input), as chat messages in JSON.

    Where a record has several parts, TEXT is a JSON object with a text for each.
    """
    from annotation_pipelines.in_context import Library

    _, loaded, store = _open(project)
    given = sys.stdin.read() if text is None else text
    messages = Library(loaded, store).messages(_parts(given, loaded), count)
    click.echo(json.dumps(messages, ensure_ascii=False, indent=2))


def _parts(given: str, project: Project) -> str | dict[str, str]:
    """A text, or the parts of a record that a JSON object gives."""
    if project.declaration.source.parts is None:
        return given
    try:
        found = json.loads(given)
    except ValueError:
        return given
    return {str(name): str(text) for name, text in found.items()} if isinstance(found, dict) else given


@cli.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=int, default=8089, show_default=True)
@click.option("--model", default="gpt-4o", show_default=True, help="The model name that is served.")
@click.option("--text", "text_column", help="Column with the text.")
@click.option("--label", "label_column", help="Column with the recorded label.")
@click.option("--confidence", "confidence_column", help="Column with the recorded confidence.")
@click.option("--rationale", "rationale_column", help="Column with the recorded reasons.")
@click.option(
    "--project", help="The project that asks; needed for tasks other than classification, and for injection: aliases."
)
def replay(
    file: Path,
    host: str,
    port: int,
    model: str,
    text_column: str | None,
    label_column: str | None,
    confidence_column: str | None,
    rationale_column: str | None,
    project: str | None,
) -> None:
    """Serve the recorded answers of FILE as an OpenAI-compatible endpoint, until stopped."""
    from annotation_pipelines.annotators.replay import serve
    from annotation_pipelines.tasks.registry import make_task
    from annotation_pipelines.workspace import Workspace

    declaration = Workspace.find().project(project).declaration if project else None
    serve(
        file,
        host,
        port,
        model=model,
        text_column=text_column,
        label_column=label_column,
        confidence_column=confidence_column,
        rationale_column=rationale_column,
        task=make_task(declaration.task) if declaration else None,
        source=declaration.source if declaration else None,
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
