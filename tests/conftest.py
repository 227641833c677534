"""Order of the tests: files with heavy ones first, so that two workers end at about the same time."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Stable: within a file nothing changes its place."""
    heavy = {item.path for item in items if item.get_closest_marker("heavy")}
    items.sort(key=lambda item: (item.path not in heavy, "test_ui_backfill" not in item.path.name))
