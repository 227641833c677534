"""Every test's own machine-wide state, and the order: files with heavy tests first, for two even workers."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest
from hypothesis import settings

# Two workers have a core each: threads of linear algebra would only wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# An example may take as long as it likes: on a busy machine a time says nothing.
settings.register_profile("without_times", deadline=None)
settings.load_profile("without_times")


@pytest.fixture(autouse=True)
def _machine_state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What was learned of one test's endpoint must not be remembered of another's with the same port."""
    folder = tmp_path_factory.mktemp("machine")
    monkeypatch.setenv("ANNOTATION_PIPELINES_STATE", str(folder))
    return folder


# What takes longest goes first. The UI mostly waits, for Dagster's daemon and for other processes; so does a limited
# endpoint, which goes to the other worker meanwhile.
_FIRST = ("test_ui_backfill", "test_limits")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Stable: within a file nothing changes its place."""
    heavy = {item.path for item in items if item.get_closest_marker("heavy")}
    items.sort(key=lambda item: (item.path not in heavy, item.path.stem not in _FIRST, item.path.stem != _FIRST[0]))


def pytest_collection_finish() -> None:
    """What the tests import is there to the end: the collector need not look at its millions of objects again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def pytest_unconfigure() -> None:
    """At the end all is collected: extension modules complain of what they think was leaked."""
    gc.unfreeze()
