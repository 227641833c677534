"""What was generated, taken out of the labelled annotations of a partition: one candidate an entry."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

import duckdb

from annotation_pipelines.content import Content
from annotation_pipelines.project import digest
from annotation_pipelines.store.database import Store
from annotation_pipelines.tasks.base import canonical_json
from annotation_pipelines.tasks.generation import GenerationTask
from annotation_pipelines.tasks.generation_modes import PROBLEM, Entry


@dataclass(frozen=True)
class Candidate:
    """One entry of an answer, before any check.

    Attributes:
        synthetic_id: The same for the same entry of the same seed; equal entries of a seed are numbered apart.
        seed: The content of the record that it was generated from.
        content: The entry as the content of a record; None where it is not whole.
        main: What is compared with others: the instruction of a task, otherwise all of it; '' where it is not whole.
        label: The label that it was asked for, in the mode texts.
    """

    synthetic_id: str
    seed_record_id: str
    seed: Content
    entry: Entry
    content: Content | None
    main: str
    label: str | None
    annotator: str
    generated_at: datetime

    @property
    def whole(self) -> bool:
        """Whether it has all fields."""
        return self.content is not None


@dataclass(frozen=True)
class Generated:
    """What a partition's seeds gave.

    Attributes:
        candidates: In the order of the seeds' ids, then in that of the answer.
        seeds: Seeds whose annotation is labelled.
        missing: Entries that were asked for and not given.
        surplus: Entries that were given beyond what was asked for; they are candidates, too.
    """

    candidates: list[Candidate]
    seeds: int
    missing: int
    surplus: int


def find_candidates(store: Store, task: GenerationTask, partition_key: str, annotator: str) -> Generated:
    """The candidates of a partition.

    Args:
        annotator: The name under which the project's annotations are in llm_labels.
    """
    rows = store.query(
        """
        SELECT l.record_id, r.content, l.label, l.annotator, l.labelled_at
        FROM llm_labels l JOIN records r USING (record_id, content_hash)
        WHERE l.partition_key = ? AND l.annotator = ? AND l.state = 'labelled' AND r.deleted_at IS NULL
        ORDER BY l.record_id
        """,
        [partition_key, annotator],
    )
    candidates: list[Candidate] = []
    missing = surplus = 0
    asked = task.settings.per_record
    for record_id, content, label, by, labelled_at in rows.iter_rows():
        entries = task.entries(label)
        missing += max(0, asked - len(entries))
        surplus += max(0, len(entries) - asked)
        candidates += candidates_of(task, record_id, Content.read(content), entries, by, labelled_at)
    return Generated(candidates, rows.height, missing, surplus)


def candidates_of(
    task: GenerationTask,
    record_id: str,
    seed: Content,
    entries: Sequence[Entry],
    annotator: str,
    labelled_at: datetime,
) -> list[Candidate]:
    """The candidates that the entries of one seed's answer make, in their order."""
    occurrences: Counter[str] = Counter()
    found = []
    for entry in entries:
        written = canonical_json(entry)
        content = None if PROBLEM in entry else task.mode.content(entry)
        main = "" if content is None else str(entry.get("instruction", content.text))
        found.append(
            Candidate(
                digest([record_id, written, occurrences[written]]),
                record_id,
                seed,
                entry,
                content,
                main,
                entry.get("label"),
                annotator,
                labelled_at,
            )
        )
        occurrences[written] += 1
    return found


def pool_texts(store: Store) -> list[tuple[str, str]]:
    """The texts that a candidate must not repeat: (record_id, text) of every part of every live record."""
    rows = store.query("SELECT record_id, content FROM records WHERE deleted_at IS NULL ORDER BY record_id")
    return [(id, part.text) for id, content in rows.iter_rows() for part in Content.read(content).parts if part.text]


def kept_elsewhere(
    con: duckdb.DuckDBPyConnection, partition_key: str, without: Collection[str]
) -> list[tuple[str, str]]:
    """The synthetic records of other partitions that were not dropped: (synthetic_id, text to compare).

    Args:
        without: The ids of those that are not wanted.
    """
    rows = Store.frame(
        con,
        "SELECT synthetic_id, content, value FROM synthetic_records WHERE partition_key <> ? AND state <> 'dropped' "
        "ORDER BY synthetic_id",
        [partition_key],
    )
    return [
        (id, json.loads(value).get("instruction", Content.read(content).text))
        for id, content, value in rows.iter_rows()
        if id not in without
    ]
