"""Records from a function in the project's folder: whatever the other kinds of source cannot read."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl

from annotation_pipelines.errors import SourceError
from annotation_pipelines.partitions import Window
from annotation_pipelines.project import Project
from annotation_pipelines.sources.frames import frame_of_rows


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
        function = getattr(_load(file), attribute, None)
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
            where=f"{_line(error, file)} ({attribute})",
            todo="Correct the function, or what it reads",
        ) from error


def _load(file: Path) -> ModuleType:
    """The file as a module of its own, read anew each time, so that an edit counts from the next run."""
    name = f"annotation_pipelines_source_{hashlib.blake2b(str(file).encode(), digest_size=8).hexdigest()}"
    specification = importlib.util.spec_from_file_location(name, file)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module  # dataclasses and pickles look their module up
    specification.loader.exec_module(module)
    return module


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


def _line(error: BaseException, file: Path) -> str:
    """The last line of the user's file that the error passed through."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    if isinstance(error, SyntaxError) and error.filename == str(file):
        return f"{file}:{error.lineno}"
    return f"{file}:{frames[-1].lineno}" if frames else str(file)
