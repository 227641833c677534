"""Sets of texts with people's labels and a teacher's real answers, split by a seed into gold, pool and test."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from annotation_pipelines.annotators.embedded.classification import ClassificationAnswerer
from annotation_pipelines.distillation.embedding import Embedder
from annotation_pipelines.distillation.students.base import Examples
from annotation_pipelines.project import EmbeddedAnnotator
from annotation_pipelines.tasks.classification import Classification, ClassificationTask

DATA = Path(__file__).parent / "data"


@dataclass(frozen=True)
class NoisySet:
    """Records with record_id, content_hash, content, label (people's), given, confidence, scores (the teacher's).

    Attributes:
        gold: What people label in the project; the teacher's answers about them are the audit.
        pool: What the teacher labels.
        test: What neither has seen.
    """

    task: ClassificationTask
    gold: pl.DataFrame
    pool: pl.DataFrame
    test: pl.DataFrame

    @property
    def teacher_accuracy(self) -> float:
        """On the test records."""
        return float((self.test["given"] == self.test["label"]).mean())

    @property
    def silver_accuracy(self) -> float:
        """Of the teacher, on the pool."""
        return float((self.pool["given"] == self.pool["label"]).mean())

    def gold_alone(self) -> Examples:
        """What people labelled, and nothing else."""
        return Examples.of(self.examples().rows.filter(pl.col("origin") == "gold"), self.gold)

    def by_people(self) -> Examples:
        """The same records with people's labels everywhere."""
        every = pl.concat([self.gold, self.pool]).with_columns(origin=pl.lit("gold"), weight=pl.lit(1.0))
        return Examples.of(every.sort("content_hash", "label"), self.gold)

    def examples(self) -> Examples:
        """Gold and silver as the trusted labels of a project have them, and the audit."""
        silver = self.pool.select(
            "record_id",
            "content_hash",
            "content",
            label="given",
            origin=pl.lit("silver"),
            weight=pl.col("confidence").clip(0.05, 1.0),
            scores="scores",
        )
        gold = self.gold.select(
            "record_id", "content_hash", "content", "label", origin=pl.lit("gold"), weight=pl.lit(1.0)
        )
        rows = pl.concat([gold, silver], how="diagonal").sort("content_hash", "label")
        return Examples.of(rows, self.gold)


def _records(frame: pl.DataFrame, prefix: str) -> pl.DataFrame:
    """One record for each text, the first of those with the same."""
    whole = frame.unique("text", keep="first", maintain_order=True).rename({"text": "content"})
    hashes = [hashlib.blake2b(text.encode(), digest_size=8).hexdigest() for text in whole["content"]]
    return whole.with_columns(
        record_id=pl.Series([f"{prefix}{row}" for row in range(whole.height)]), content_hash=pl.Series(hashes)
    )


def _task(labels: Sequence[str] | Mapping[str, str]) -> ClassificationTask:
    return Classification.model_validate({"labels": labels}).make()


def stance_records() -> pl.DataFrame:
    """All records of climate_stance_gpt4o, each text once.

    GPT-4o states one number: it is the score of its label, and the others share the rest.
    """
    records = _records(pl.read_parquet(DATA / "climate_stance_gpt4o" / "records.parquet"), "s")
    stated = records.select("given", "confidence").rows()
    return records.with_columns(scores=pl.Series([json.dumps({label: number}) for label, number in stated]))


def stance(seed: int) -> NoisySet:
    """100 gold records, 700 for the test, the rest as pool; GPT-4o's recorded answers."""
    records = stance_records()
    drawn = records[np.random.default_rng(seed).permutation(records.height)]
    return NoisySet(_task(sorted(set(records["label"]))), drawn[:100], drawn[800:], drawn[100:800])


def banking_records(part: str) -> pl.DataFrame:
    """The records of banking77, of `train` or `test`."""
    return _records(pl.read_parquet(DATA / "banking77" / f"{part}.parquet"), part)


def banking(seed: int, embedder: Embedder, *, shots: int = 3, pool: int = 3_000) -> NoisySet:
    """Three gold records of each intent, 3,000 records as pool, the published test set.

    The embedded annotator, with the gold records as demonstrations and the intents' names as descriptions, answers; a
    demonstration does not vote on itself.
    """
    train, test = banking_records("train"), banking_records("test")
    test = test.join(train, on="content", how="anti", maintain_order="left")
    drawn = train[np.random.default_rng(seed).permutation(train.height)]
    gold = drawn.filter(pl.int_range(pl.len()).over("label") < shots)
    rest = drawn.join(gold, on="record_id", how="anti", maintain_order="left")[:pool]
    task = _task({name: name.replace("_", " ") for name in sorted(set(train["label"]))})
    answerer = ClassificationAnswerer(EmbeddedAnnotator(), task, gold, embedder)
    return NoisySet(task, *(_answered(part, answerer.answers(part)) for part in (gold, rest, test)))


def _answered(records: pl.DataFrame, answers: list[dict[str, Any]]) -> pl.DataFrame:
    return records.with_columns(
        given=pl.Series([answer["label"] for answer in answers]),
        confidence=pl.Series([answer["confidence"] for answer in answers], dtype=pl.Float64),
        scores=pl.Series([json.dumps(answer["scores"]) for answer in answers]),
    )
