"""Workspaces for tests: a real folder with real records, declared as a user would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import yaml

from annotation_pipelines.distillation.embedding import Embedder
from annotation_pipelines.project import Project
from annotation_pipelines.scaffolding import write_workspace
from annotation_pipelines.sources.ingest import read_records
from annotation_pipelines.store.database import Store
from annotation_pipelines.workspace import Workspace

ROOT = Path(__file__).parents[1]
ML_PROJECTS = ROOT / "assets" / "ml_projects"
STANCE = ROOT / "assets" / "climate_stance" / "data" / "stance.csv"

LABELS = {
    "computer-vision": "images, video, object detection, segmentation",
    "natural-language-processing": "text, language models, translation, speech",
    "mlops": "deployment, serving and monitoring of models",
    "other": "graphs, reinforcement learning, tabular data, time series",
}


FIRST_DAY = "2020-03-16"


def ml_records(days: int = 21) -> pl.DataFrame:
    """The real Made With ML records of some days, from Monday 2020-03-16 on; there are about two a day."""
    frame = pl.read_csv(ML_PROJECTS / "data" / "dataset.csv", infer_schema=False)
    first = pl.lit(FIRST_DAY).str.to_datetime()
    return frame.filter(
        pl.col("created_on").str.to_datetime().is_between(first, first + pl.duration(days=days), "left")
    )


def declaration(**changes: Any) -> dict[str, Any]:
    """Made With ML by week, labelled on this machine without demonstrations; keys may be replaced, or None to drop."""
    attributes: dict[str, Any] = {
        "source": {
            "csv": "records.csv",
            "id": "id",
            "text": "{title}. {description}",
            "time": "created_on",
            "gold": "tag",
        },
        "partitions": {"every": "week", "start": FIRST_DAY, "end": "2020-04-06"},
        "task": {"classification": {"labels": LABELS}},
        "guideline": "Choose the one tag a reader would look under.",
    }
    return {key: value for key, value in {**attributes, **changes}.items() if value is not None}


def know_vectors(shop: Fixture, *, but: str | None = None) -> None:
    """One run is enough to prove that a run encodes; those of other partitions are spared the import of the encoder."""
    records = read_records(shop.project).records.filter(pl.col("partition_key").ne_missing(but))
    Embedder.for_project(shop.project, shop.store).vectors(records.select("content_hash", "content"))


def openai_annotator(url: str, **settings: Any) -> list[dict[str, Any]]:
    """An annotator behind a mock or replay endpoint."""
    return [{"openai": {"model": "gpt-4o", "base_url": url, "concurrency": 8, "max_retries": 2, **settings}}]


class Fixture:
    """A workspace with one project, `shop`, whose records and declaration a test may change."""

    def __init__(self, folder: Path, records: pl.DataFrame, attributes: dict[str, Any]) -> None:
        write_workspace(folder)
        for file in (folder / "assets" / "first_project").iterdir():
            file.unlink()
        (folder / "assets" / "first_project").rmdir()
        self.workspace = Workspace(folder)
        self.folder = folder / "assets" / "shop"
        self.folder.mkdir()
        self.attributes = attributes
        self.declare()
        self.write_records(records)

    def declare(self, **changes: Any) -> None:
        """Write defs.yaml, with some keys replaced."""
        self.attributes = {**self.attributes, **changes}
        document = {"type": "annotation_pipelines.AnnotationProject", "attributes": self.attributes}
        (self.folder / "defs.yaml").write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")

    def write_records(self, records: pl.DataFrame) -> None:
        """Put these records in the place of the source's."""
        self.records = records
        records.write_csv(self.folder / "records.csv")

    @property
    def project(self) -> Project:
        """The project as declared now."""
        return self.workspace.project("shop")

    @property
    def store(self) -> Store:
        """Its store."""
        return Store(self.workspace.home("shop"))

    def facts(self, stage: str, partition_key: str) -> dict[str, Any]:
        """The counts of a stage's latest run."""
        import json

        rows = self.store.query(
            "SELECT facts FROM stage_runs WHERE stage = ? AND partition_key = ?", [stage, partition_key]
        )
        loaded: dict[str, Any] = json.loads(rows["facts"].item())
        return loaded
