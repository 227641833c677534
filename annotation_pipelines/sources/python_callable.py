"""Records from a function in the project's folder: whatever the other kinds of source cannot read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from annotation_pipelines.errors import SourceError
from annotation_pipelines.partitions import Window
from annotation_pipelines.project import Project
from annotation_pipelines.sources.frames import frame_of_rows
from annotation_pipelines.user_code import line_of, load_module


def read_callable(project: Project, reference: str, window: Window) -> pl.DataFrame:
    """What a function gives when called with start and end (datetimes in UTC, or None where there is no bound).

    Args:
        project: The file lies in its folder.
        reference: file.py:function.
        window: The partition.

    Returns:
        The function's polars or pandas frame, or its rows (an iterable of dicts) as a frame.

    Raises:
        SourceError: There is no such file or function, it raises, or it returns something else.
    """
    name, separator, attribute = reference.rpartition(":")
    if not separator or not name.endswith(".py"):
        raise SourceError(
            f"expected file.py:function, found {reference!r}", where="source.python", todo="Correct it in defs.yaml"
        )
    file = Path(project.resolve(name))
    if not file.is_file():
        raise SourceError("there is no such file", where=file, todo="Put it beside defs.yaml, or correct the name")
    try:
        function = getattr(load_module(file), attribute, None)
        if not callable(function):
            raise SourceError(
                f"there is no function {attribute!r}", where=file, todo="Correct source: python: in defs.yaml"
            )
        return _frame(function(*window), where=reference)
    except SourceError:
        raise
    except Exception as error:
        raise SourceError(
            f"raised {type(error).__name__}: {error}",
            where=f"{line_of(error, file)} ({attribute})",
            todo="Correct the function, or what it reads",
        ) from error


def _frame(given: object, where: str) -> pl.DataFrame:
    if isinstance(given, pl.LazyFrame):
        return given.collect()
    if isinstance(given, pl.DataFrame):
        return given
    if type(given).__module__.partition(".")[0] == "pandas" and hasattr(given, "to_dict"):
        return frame_of_rows(given.to_dict("records"))
    if isinstance(given, Iterable) and not isinstance(given, str | bytes | Mapping):
        return frame_of_rows(_rows(given, where))
    raise SourceError(
        f"expected a polars frame, a pandas frame or an iterable of dicts, found {type(given).__name__}", where=where
    )


def _rows(given: Iterable[Any], where: str) -> Iterator[Mapping[str, Any]]:
    for number, row in enumerate(given, start=1):
        if not isinstance(row, Mapping):
            raise SourceError(f"expected rows as dicts, found {type(row).__name__} as row {number}", where=where)
        yield row
