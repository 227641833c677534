"""A champion on real texts without a transformer: a static student of a very small encoder."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from annotation_pipelines.distillation.embedding import Embedder
from annotation_pipelines.distillation.registry import ModelRegistry
from annotation_pipelines.distillation.training import train
from annotation_pipelines.project import Declaration, Project
from annotation_pipelines.sources.records import content_hashes
from tests.distillation.fine_tuning.tiny import write_encoder
from tests.distillation.stars import NOW
from tests.workspaces import Fixture

TRUTH = {"sun": "a storm of fire on the sun", "moon": "the moon was in rain", "star": "a star and a dog"}


class Sky:
    """A project with a champion; another one on request."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "workspace"
        labels = {name: f"about the {name}" for name in TRUTH}
        self.shop = Fixture(
            self.folder,
            pl.DataFrame({"number": ["1"], "title": ["A"], "body": ["text"]}),
            {
                "source": {"csv": "records.csv", "id": "number", "text": "{title}. {body}"},
                "task": {"classification": {"labels": labels}},
                "distillation": {"student": "static", "encoder": "encoder"},
            },
        )
        write_encoder(self.shop.folder / "encoder", layers=1)
        self.project, self.store = self.shop.project, self.shop.store
        self.known = 0
        self.crown(30)

    def declared(self, **distillation: object) -> Project:
        """The project, with other settings of its distillation."""
        attributes = {**self.shop.attributes, "distillation": {**self.shop.attributes["distillation"], **distillation}}
        return Project(self.project.name, self.project.folder, Declaration.model_validate(attributes))

    def crown(self, labels: int) -> str:
        """Train on further labels and make the model the champion."""
        pairs = list(TRUTH.items())
        rows = [
            (f"r{row}", f"{pairs[row % 3][1]} {'abcdefghij'[row % 10]}", pairs[row % 3][0])
            for row in range(self.known, self.known + labels)
        ]
        self.known += labels
        frame = pl.DataFrame(rows, schema=["record_id", "content", "label"], orient="row").with_columns(
            content_hashes(pl.Series([row[1] for row in rows])), partition_key=pl.lit("all")
        )
        with self.store.transaction() as con:
            records = frame.drop("label").with_columns(first_seen=pl.lit(NOW), updated_at=pl.lit(NOW))
            self.store.append(con, "records", records)
            gold = frame.drop("content").with_columns(origin=pl.lit("gold"), weight=pl.lit(1.0), trusted_at=pl.lit(NOW))
            self.store.append(con, "trusted_labels", gold)
        model = train(self.store, self.project, Embedder.for_project(self.project, self.store))
        ModelRegistry(self.store).promote(model.version)
        return model.version


@pytest.fixture(scope="module")
def sky(tmp_path_factory: pytest.TempPathFactory) -> Sky:
    return Sky(tmp_path_factory.mktemp("sky"))
