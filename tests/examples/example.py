"""A project of examples/ in a temporary workspace, run stage by stage as Dagster runs it, without Dagster."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from annotation_pipelines.annotators.counts import AnnotationCounts
from annotation_pipelines.annotators.factory import make_panel
from annotation_pipelines.annotators.pending import Wanted
from annotation_pipelines.distillation.embedding import Embedder
from annotation_pipelines.distillation.evaluate import Evaluation, evaluate
from annotation_pipelines.project import Project
from annotation_pipelines.scaffolding import write_workspace
from annotation_pipelines.selection.select import select_records
from annotation_pipelines.sources.gold import gather_human_labels
from annotation_pipelines.sources.ingest import ingest
from annotation_pipelines.store.database import Store
from annotation_pipelines.store.schema import HELD_OUT
from annotation_pipelines.workspace import Workspace

EXAMPLES = Path(__file__).parents[2] / "examples"


class Example:
    """An example, copied into the assets of a workspace.

    Args:
        changes: Keys of the declaration that are replaced, or dropped where None.
    """

    def __init__(self, folder: Path, name: str, **changes: Any) -> None:
        write_workspace(folder)
        self.workspace, self.name = Workspace(folder), name
        self.folder = folder / "assets" / name
        shutil.copytree(EXAMPLES / name, self.folder, ignore=shutil.ignore_patterns("__pycache__"))
        self.redeclare(**changes)
        self.store = Store(self.workspace.home(name))

    def redeclare(self, **changes: Any) -> None:
        """Replace keys of the declaration, or drop those that are None."""
        document = yaml.safe_load((self.folder / "defs.yaml").read_text(encoding="utf-8"))
        changed = {**document["attributes"], **changes}
        document["attributes"] = {key: value for key, value in changed.items() if value is not None}
        (self.folder / "defs.yaml").write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")

    @property
    def project(self) -> Project:
        """The project as declared."""
        return self.workspace.project(self.name)

    def read(self) -> dict[str, int]:
        """Read the source into records and human labels; the counts of the records."""
        counts = ingest(self.store, self.project, "all")
        gather_human_labels(self.store, self.project)
        return counts.facts()

    def annotate(self) -> AnnotationCounts:
        """Let the declared annotators annotate the selected and the held-out records."""
        select_records(self.store, self.project, "all")
        panel = make_panel(self.project, self.store)
        counts = panel.label(self.store, Wanted.of_partition("all"), "all")
        panel.label(self.store, Wanted.held_out(), HELD_OUT)
        return counts

    def evaluate(self) -> Evaluation:
        """The annotator against gold."""
        return evaluate(self.store, self.project, Embedder.for_project(self.project, self.store))

    def annotations(self) -> pl.DataFrame:
        """All rows of llm_labels with the records they are about."""
        return self.store.query(
            "SELECT l.*, r.content, r.gold, r.attributes FROM llm_labels l JOIN records r USING (record_id) "
            "ORDER BY record_id"
        )


def values(evaluation: Evaluation, label: str = "") -> dict[str, float]:
    """The annotator's metrics on held-out gold, by name."""
    whole = (pl.col("split") == "evaluation") & (pl.col("slice") == "")
    kept = evaluation.metrics.filter(whole & (pl.col("label") == label))
    return dict(kept.select("metric", "value").iter_rows())
