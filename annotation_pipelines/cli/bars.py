"""How far a command is: a live bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import click


@contextlib.contextmanager
def bars(total: int) -> Iterator[Any]:
    """Progress of parts, and of the work within them. Gives a function to call with its key when a part ends."""
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
