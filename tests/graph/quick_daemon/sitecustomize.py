"""Dagster's daemon takes up and looks after backfills every 30 seconds, a constant of its source. Here every two.

Python imports this module at its start in the processes that have this folder on PYTHONPATH.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

_MODULE, _CONSTANT, _SECONDS = "dagster._daemon.controller", "DEFAULT_DAEMON_INTERVAL_SECONDS", 2


class _Quick(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _MODULE:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return None
        loader: Any = spec.loader
        whole = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            whole(module)
            assert hasattr(module, _CONSTANT)
            setattr(module, _CONSTANT, _SECONDS)

        loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, _Quick())
