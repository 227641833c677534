"""What every asset of a project has in common: its key, its words in the UI, its store, its errors."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import dagster as dg
import polars as pl

from annotation_pipelines.content import readable
from annotation_pipelines.errors import AnnotationPipelinesError
from annotation_pipelines.progress import Progress
from annotation_pipelines.project import Project, digest
from annotation_pipelines.store.database import Store
from annotation_pipelines.store.schema import TABLES, UNPARTITIONED
from annotation_pipelines.tasks.base import Task
from annotation_pipelines.workspace import Workspace

Metadata = dict[str, Any]
Body = Callable[["Stage"], "Outcome"]


@dataclass(frozen=True)
class Outcome:
    """What an asset shows once it is materialized: metadata, and the results of its checks."""

    metadata: Metadata
    checks: Sequence[dg.AssetCheckResult] = ()


@dataclass(frozen=True)
class Stage:
    """One run of one stage: everything its body needs."""

    project: Project
    store: Store
    context: dg.AssetExecutionContext

    @property
    def partition_key(self) -> str:
        """The partition, or 'all' where there are none."""
        return str(self.context.partition_key) if self.context.has_partition_key else UNPARTITIONED

    @property
    def run_id(self) -> str:
        """The Dagster run."""
        return str(self.context.run_id)

    @property
    def backfill_id(self) -> str | None:
        """The backfill that launched the run, if one did."""
        return self.context.run.tags.get("dagster/backfill")

    def progress(self, what: str) -> Progress:
        """Progress of a piece of work, into the event log and to listeners."""
        return Progress(what, self.context.log.info)


class StageBuilder:
    """Makes the assets of one project alike.

    Args:
        partitions_def: The project's partitions, or None.
    """

    def __init__(
        self, project: Project, workspace: Workspace, partitions_def: dg.PartitionsDefinition[str] | None
    ) -> None:
        self.project, self.workspace, self.partitions_def = project, workspace, partitions_def

    @cached_property
    def home(self) -> str:
        """The project's storage folder, as the UI shows it."""
        return str(self.workspace.home(self.project))

    def key(self, stage: str) -> dg.AssetKey:
        """The asset key of a stage."""
        return dg.AssetKey([self.project.name, stage])

    def check(self, stage: str, name: str, description: str, *, blocking: bool = False) -> dg.AssetCheckSpec:
        """The specification of a check on a partitioned stage."""
        return dg.AssetCheckSpec(
            name,
            asset=self.key(stage),
            description=description,
            blocking=blocking,
            partitions_def=self.partitions_def,
        )

    def asset(
        self,
        stage: str,
        body: Body,
        *,
        description: str,
        deps: Sequence[str],
        kinds: set[str],
        version: object,
        partitioned: bool = True,
        table: str | None = None,
        checks: Sequence[dg.AssetCheckSpec] = (),
        owners: Sequence[str] | None = None,
    ) -> dg.AssetsDefinition:
        """One stage as a Dagster asset.

        Args:
            deps: The stages it reads.
            version: What decides its result, any JSON-like value: its hash is the code version, so that the UI shows
                the stage as stale when the declaration changes.
            table: The DuckDB table it writes; its columns become the asset's column schema.
        """
        declaration = self.project.declaration

        @dg.asset(
            key=self.key(stage),
            deps=[self.key(dep) for dep in deps],
            partitions_def=self.partitions_def if partitioned else None,
            description=description,
            kinds=kinds,
            group_name=self.project.name,
            owners=list(declaration.owners),
            tags={"annotation_pipelines/stage": stage, **declaration.tags},
            code_version=digest(version)[:12],
            metadata=self._definition_metadata(table or stage),
            check_specs=list(checks),
        )
        def run(context: dg.AssetExecutionContext) -> dg.MaterializeResult:  # type: ignore[type-arg]
            store = Store(self.workspace.home(self.project), announce=context.log.warning)
            start = time.monotonic()
            try:
                outcome = body(Stage(self.project, store, context))
            except AnnotationPipelinesError as error:
                raise dg.Failure(str(error), allow_retries=False) from None
            seconds = round(time.monotonic() - start, 2)
            return dg.MaterializeResult(
                metadata={**outcome.metadata, "seconds": seconds}, check_results=list(outcome.checks)
            )

        return run

    def _definition_metadata(self, table: str) -> Metadata:
        metadata: Metadata = {"database": dg.MetadataValue.path(f"{self.home}/{self.project.name}.duckdb")}
        if declared := TABLES.get(table):
            metadata["dagster/column_schema"] = dg.TableSchema(
                columns=[
                    dg.TableColumn(c.name, c.type, c.meaning, dg.TableColumnConstraints(nullable=c.nullable))
                    for c in declared.columns
                ]
            )
            metadata["dagster/table_name"] = f"{self.project.name}.main.{table}"
        return metadata


def sample(frame: pl.DataFrame, task: Task | None = None, *, rows: int = 8, width: int = 120) -> dg.TableMetadataValue:
    """The first rows of a frame as a table in the UI, contents and labels (where the task is given) as people read
    them, long texts cut.
    """
    shown = in_words(frame.head(rows), task).with_columns(
        pl.when(pl.col(pl.String).str.len_chars() > width)
        .then(pl.col(pl.String).str.slice(0, width) + "…")
        .otherwise(pl.col(pl.String))
        .name.keep()
    )
    plain = [
        dg.TableRecord({k: v if isinstance(v, bool | int | float | str | None) else str(v) for k, v in row.items()})
        for row in shown.iter_rows(named=True)
    ]
    columns = [dg.TableColumn(name, _table_type(dtype)) for name, dtype in shown.schema.items()]
    return dg.MetadataValue.table(plain, dg.TableSchema(columns))


def in_words(frame: pl.DataFrame, task: Task | None) -> pl.DataFrame:
    """The same with contents, and labels where the task is given, as people read them."""
    words: dict[str, Callable[[str], str]] = {"content": readable}
    if task is not None:
        words |= dict.fromkeys(("label", "gold"), task.shown)
    return frame.with_columns(
        pl.Series(name, [None if text is None else say(text) for text in frame[name]], pl.String)
        for name, say in words.items()
        if name in frame.columns
    )


def _table_type(dtype: pl.DataType) -> str:
    if dtype.is_integer():
        return "int"
    if dtype.is_float():
        return "float"
    return "bool" if dtype == pl.Boolean else "string"


def money(usd: float | None) -> str:
    """An amount as the UI shows it; unknown is unknown, never 0."""
    return "unknown" if usd is None else f"${usd:,.4f}".rstrip("0").rstrip(".") if usd else "$0"


def numbers(facts: Mapping[str, Any], *names: str) -> Metadata:
    """Some facts as metadata, in order."""
    return {name: facts[name] for name in names}
