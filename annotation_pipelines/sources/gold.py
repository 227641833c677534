"""Gold: the labels that people gave, each with the one role it serves in.

- evaluation: the held-out files, and a share of the source's gold, chosen by a hash of the id: a record once held out
  is held out for ever, whatever comes or goes around it.
- demonstration: a pool of fixed size out of the rest. A member stays as long as it has gold; a short pool is topped
  up, a long one cut, always by a hash of seed and id. Another seed draws another pool.
- training: what people labelled later, in the file `human_labels`; of records in the roles above it only corrects the
  label.
- monitor: the remaining gold of the source.

A record that a model wrote is never in evaluation and never a monitor: its gold serves training, if anything.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import polars as pl

from annotation_pipelines.partitions import Calendar
from annotation_pipelines.project import Demonstrations, Partitions, Project, RecordColumns
from annotation_pipelines.sources.files import read_files
from annotation_pipelines.sources.ingest import read_records
from annotation_pipelines.sources.person_labels import SCHEMA, latest, read_person_labels
from annotation_pipelines.sources.records import to_records
from annotation_pipelines.store.database import Store
from annotation_pipelines.store.schema import UNPARTITIONED

STAGE = "human_labels"
ROLES = ("demonstration", "training", "evaluation", "monitor")
_SEED_FACT = "demonstration_seed"


_NO_RECORDS = pl.DataFrame(
    schema={"record_id": pl.String, "content_hash": pl.String, "content": pl.String, "gold": pl.String}
)


@dataclass(frozen=True)
class HumanLabelCounts:
    """What people labelled.

    Attributes:
        roles: Records in each role; every role is there.
        unknown_ids: Records of the `human_labels` file that neither the source nor the held-out files have.
        superseded: Lines of that file that a later one for the same record replaces.
        held_out_in_source: Held-out records whose id the source has too; they stay held out.
        held_out_duplicates: Held-out records with the text of a source record, but for case and blanks.
        held_out_rejected: Rows of the held-out files that are no gold: rejected, without a known label, or synthetic.
        synthetic: Gold on records of the source that a model wrote: it measures nothing.
    """

    roles: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ROLES, 0))
    unknown_ids: int = 0
    superseded: int = 0
    held_out_in_source: int = 0
    held_out_duplicates: int = 0
    held_out_rejected: int = 0
    synthetic: int = 0

    def facts(self) -> dict[str, int]:
        """The counts, flat: name to number."""
        return {
            **self.roles,
            "unknown_ids": self.unknown_ids,
            "superseded": self.superseded,
            "held_out_in_source": self.held_out_in_source,
            "held_out_duplicates": self.held_out_duplicates,
            "held_out_rejected": self.held_out_rejected,
            "synthetic": self.synthetic,
        }


def gather_human_labels(store: Store, project: Project, run_id: str | None = None) -> HumanLabelCounts:
    """Fill `human_labels` from the whole source, the held-out files and the people's file.

    Args:
        store: The project's store.
        project: The project.
        run_id: The Dagster run, kept with the counts.

    Raises:
        SourceError: Something cannot be read, lacks a column, or names a label that the task does not have. Nothing
            was written.
    """
    declaration = project.declaration
    # Roles hold for every record, whether its partition exists yet or not: so no calendar here.
    calendar = Calendar(Partitions(timezone=declaration.partitions.timezone))
    labelled_by_people = declaration.source.gold or declaration.human_labels
    source = read_records(project, None, calendar).records if labelled_by_people else _NO_RECORDS
    held_out, held_out_rejected = _read_held_out(project, calendar)
    given = SCHEMA.to_frame(eager=True)
    if declaration.human_labels:
        file = Path(project.resolve(declaration.human_labels))
        contents = pl.concat([frame.select("record_id", "content") for frame in (source, held_out)])
        given = read_person_labels(file, project.task, dict(contents.iter_rows()), calendar.timezone)
    people = latest(given)

    with store.transaction() as con:
        demonstrations = declaration.demonstrations
        members = _members(con, demonstrations.seed) if demonstrations else set[str]()
        synthetic = _synthetic(con, source, held_out)
        real = held_out.filter(~pl.col("record_id").is_in(list(synthetic)))
        held_out_rejected += len(held_out) - len(real)
        held_out = real
        table = assign_roles(source, held_out, people, declaration.share, demonstrations, members, synthetic)
        store.replace(con, "human_labels", table)
        known = source["record_id"].append(held_out["record_id"])
        roles = dict(table["role"].value_counts().iter_rows())
        counts = HumanLabelCounts(
            roles={role: roles.get(role, 0) for role in ROLES},
            unknown_ids=int((~people["record_id"].is_in(known.implode())).sum()),
            superseded=len(given) - len(people),
            held_out_in_source=len(held_out.join(source, on="record_id", how="semi")),
            held_out_duplicates=count_same_text(held_out, source),
            held_out_rejected=held_out_rejected,
            synthetic=int(table["record_id"].is_in(list(synthetic)).sum()),
        )
        seed = demonstrations.seed if demonstrations else None
        store.record_stage(con, STAGE, UNPARTITIONED, {**counts.facts(), _SEED_FACT: seed}, run_id)
    return counts


def assign_roles(
    source: pl.DataFrame,
    held_out: pl.DataFrame,
    people: pl.DataFrame,
    share: float | None = None,
    demonstrations: Demonstrations | None = None,
    members: Collection[str] = (),
    synthetic: Collection[str] = (),
) -> pl.DataFrame:
    """Give every gold record its role.

    Args:
        source: The source's records: record_id, content_hash, content, gold (null where people gave none).
        held_out: Those of the held-out files, likewise; all have gold.
        people: The people's file, one row a record: record_id, label, person, labelled_at.
        share: The share of the source's gold to hold out.
        demonstrations: The pool that is wanted.
        members: The ids in the pool now.
        synthetic: The ids of records that a model wrote; none of them is in the held-out files.

    Returns:
        The table `human_labels`, sorted by record_id.
    """
    columns = ("record_id", "content_hash", "content", "gold")
    source = source.select(columns).join(held_out, on="record_id", how="anti")
    records = pl.concat(
        [source.with_columns(origin=pl.lit("source")), held_out.select(columns).with_columns(origin=pl.lit("held_out"))]
    )
    gold = source.filter(pl.col("gold").is_not_null())["record_id"].to_list()
    evaluation = {id for id in gold if share is not None and unit_hash("evaluation", id) < share}
    evaluation -= set(synthetic)
    pool = draw_pool([id for id in gold if id not in evaluation], demonstrations, members) if demonstrations else set()
    by_file, corrected = pl.col("label").is_not_null(), pl.col("origin") != "held_out"
    return (
        records.join(people, on="record_id", how="left")
        .filter(pl.col("gold").is_not_null() | by_file)
        .with_columns(
            role=pl.when((pl.col("origin") == "held_out") | pl.col("record_id").is_in(list(evaluation)))
            .then(pl.lit("evaluation"))
            .when(pl.col("record_id").is_in(list(pool)))
            .then(pl.lit("demonstration"))
            .when(by_file | pl.col("record_id").is_in(list(synthetic)))
            .then(pl.lit("training"))
            .otherwise(pl.lit("monitor")),
            # Held-out records are in no partition: their origin tells so, whoever labelled them.
            origin=pl.when(by_file & corrected).then(pl.lit("file")).otherwise("origin"),
            label=pl.coalesce("label", "gold"),
        )
        .select("record_id", "content_hash", "content", "label", "role", "origin", "person", "labelled_at")
        .sort("record_id")
    )


def draw_pool(candidates: Collection[str], demonstrations: Demonstrations, members: Collection[str]) -> set[str]:
    """The demonstrations: members that are still candidates first, then those with the smallest hash."""
    present = set(members).intersection(candidates)
    seed = f"demonstration {demonstrations.seed}"
    order = sorted(candidates, key=lambda id: (id not in present, unit_hash(seed, id), id))
    return set(order[: demonstrations.pool])


def unit_hash(salt: str, record_id: str) -> float:
    """A number from 0 to 1 that depends on the salt and the id only; uniform over ids.

    It decides which records are held out for ever: never change it.
    """
    digest = hashlib.blake2b(f"{salt}\0{record_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64


def count_same_text(held_out: pl.DataFrame, source: pl.DataFrame) -> int:
    """How many held-out records have the text of a source record with another id, but for case and blanks."""
    text = pl.col("content").str.to_lowercase().str.replace_all(r"\s+", " ").alias("text")
    others = source.join(held_out, on="record_id", how="anti").select(text)
    return len(held_out.select(text).join(others, on="text", how="semi"))


def _read_held_out(project: Project, calendar: Calendar) -> tuple[pl.DataFrame, int]:
    """The held-out files' gold records, and how many of their rows are none."""
    declaration = project.declaration
    evaluation, source = declaration.evaluation, declaration.source
    locations = evaluation and (evaluation.csv or evaluation.parquet or evaluation.jsonl)
    if not evaluation or not locations:
        return pl.DataFrame(
            schema={"record_id": pl.String, "content_hash": pl.String, "content": pl.String, "gold": pl.String}
        ), 0
    kind = next(kind for kind in ("csv", "parquet", "jsonl") if getattr(evaluation, kind))
    content = {"parts": source.parts} if source.parts is not None else {"text": source.text}
    columns = RecordColumns.model_validate({"id": source.id, "gold": source.gold, "attributes": [], **content})
    rows = read_files(project, kind, locations, columns)
    if source.synthetic in rows.columns:  # files by people alone need not say so
        columns = columns.model_copy(update={"synthetic": source.synthetic})
    records = to_records(rows, columns, project.task, calendar).records
    gold = records.filter(pl.col("gold").is_not_null())
    return gold, len(rows) - len(gold)


def _synthetic(con: duckdb.DuckDBPyConnection, *frames: pl.DataFrame) -> set[str]:
    """The ids of records that a model wrote: as the sources say now, or said once."""
    marked = {id for (id,) in con.execute("SELECT record_id FROM records WHERE synthetic").fetchall()}
    for frame in frames:
        if "synthetic" in frame.columns:
            marked |= set(frame.filter(pl.col("synthetic"))["record_id"])
    return marked


def _members(con: duckdb.DuckDBPyConnection, seed: int) -> set[str]:
    """The pool as it is, if it was drawn with this seed."""
    row = con.execute(
        "SELECT facts FROM stage_runs WHERE stage = ? AND partition_key = ?", [STAGE, UNPARTITIONED]
    ).fetchone()
    if row is None or json.loads(row[0]).get(_SEED_FACT) != seed:
        return set()
    found = con.execute("SELECT record_id FROM human_labels WHERE role = 'demonstration'").fetchall()
    return {record_id for (record_id,) in found}
