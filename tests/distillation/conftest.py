from __future__ import annotations

from pathlib import Path

import pytest

from tests.distillation.stars import Stars


@pytest.fixture
def stars(tmp_path: Path) -> Stars:
    return Stars(tmp_path)
