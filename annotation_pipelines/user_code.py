"""Python files of a project: loaded as they are now, and where in them an error arose."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType


def load_module(file: Path) -> ModuleType:
    """The file as a module of its own, read anew each time, so that an edit counts from the next run."""
    name = f"annotation_pipelines_user_{hashlib.blake2b(str(file).encode(), digest_size=8).hexdigest()}"
    specification = importlib.util.spec_from_file_location(name, file)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module  # dataclasses and pickles look their module up
    specification.loader.exec_module(module)
    return module


def line_of(error: BaseException, file: Path) -> str:
    """The last line of the user's file that the error passed through."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    if isinstance(error, SyntaxError) and error.filename == str(file):
        return f"{file}:{error.lineno}"
    return f"{file}:{frames[-1].lineno}" if frames else str(file)
