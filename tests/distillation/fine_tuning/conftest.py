from __future__ import annotations

from pathlib import Path

import pytest

from annotation_pipelines.distillation.fine_tuning.encoder import TrainableEncoder
from tests.distillation.fine_tuning.tiny import write_encoder


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("encoders") / "tiny")


@pytest.fixture
def tiny(tiny_folder: Path) -> TrainableEncoder:
    """A copy of its own."""
    return TrainableEncoder.named(str(tiny_folder))
