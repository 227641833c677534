from __future__ import annotations

from pathlib import Path

import pytest

from annotation_pipelines.distillation.encoder import Encoder
from annotation_pipelines.distillation.fast.export import export_encoder
from tests.distillation.fine_tuning.tiny import write_encoder


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return Encoder(str(write_encoder(tmp_path_factory.mktemp("encoders") / "small", layers=1)))


@pytest.fixture(scope="session")
def exported(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with its graphs; exporting takes seconds, so it is done once."""
    folder = tmp_path_factory.mktemp("fast") / "graph"
    export_encoder(encoder, folder)
    return folder
