"""How long 1,000 of 1,000,000 records take to be chosen, and how much memory: the whole of `select_records` on a store.

Real texts are few: 2,000 questions of banking77 and sentences of climate_stance_gpt4o are encoded, and each stands for
500 records. A record's text is a real one and a number, its vector the real one plus noise of half its length in a
random direction, brought to length 1: records of one text have a cosine of about 0.8 with one another, so that they
are no near-duplicates. The student is a linear one of 77 classes, trained on gold labels of banking77.

Each strategy runs in a process of its own; its peak memory is that of the process, imports included. What is timed
reads records and vectors, scores or clusters, chooses, and writes selected_records.

    python benchmarks/selection.py [--records 1000000] [--strategies margin kmeans] [--folder KEPT]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
from _common import ROOT, environment, figure

from annotation_pipelines.distillation.embedding import Embedder
from annotation_pipelines.distillation.registry import ModelRegistry
from annotation_pipelines.distillation.students.base import Examples
from annotation_pipelines.distillation.students.files import TRAINING_COLUMNS, write_model
from annotation_pipelines.distillation.students.registry import student_class
from annotation_pipelines.project import Declaration, Project
from annotation_pipelines.selection.select import select_records
from annotation_pipelines.store.database import Store
from annotation_pipelines.store.schema import UNPARTITIONED
from annotation_pipelines.store.vectors import as_frame

DATA = ROOT / "benchmarks" / "data"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
TEXTS, BLOCK = 2_000, 100_000
NOISE = 0.5
SECONDS = {"least_confidence": 60, "margin": 60, "entropy": 60, "kmeans": 300, "k_center": 300}
STRATEGIES = [*SECONDS, "typiclust", "badge", "hybrid"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--wanted", type=int, default=1_000)
    parser.add_argument("--strategies", nargs="+", default=STRATEGIES, choices=STRATEGIES)
    parser.add_argument("--folder", type=Path, help="where the store is kept for another time")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measured(given.folder, given.one, given.wanted)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = given.folder or Path(name)
        if not (folder / "built").exists():
            build(folder, given.records)
        for strategy in given.strategies:
            report(folder, strategy, given.records, given.wanted)


def declared(folder: Path, strategy: str, wanted: int) -> Project:
    """The project; its annotator is behind an endpoint, so that the length of a record is a cost."""
    labels = sorted(pl.read_parquet(DATA / "banking77" / "train.parquet")["label"].unique())
    return Project(
        "pool",
        folder,
        Declaration.model_validate(
            {
                "source": {"csv": "records.csv"},
                "task": {"classification": {"labels": labels}},
                "annotators": [{"openai": {"model": "gpt-4o"}}],
                "selection": {"strategy": strategy, "per_partition": wanted},
            }
        ),
    )


def build(folder: Path, records: int) -> None:
    """A store with so many records, their vectors and a champion."""
    folder.mkdir(parents=True, exist_ok=True)
    project = declared(folder, "random", 1)
    store = Store(folder / "pool")
    embedder = Embedder.for_project(project, store)
    banking = pl.concat([pl.read_parquet(DATA / "banking77" / f"{name}.parquet") for name in ("test", "train")])
    banking = banking.unique("text", maintain_order=True)
    stance = pl.read_parquet(DATA / "climate_stance_gpt4o" / "records.parquet")["text"].unique(maintain_order=True)
    questions = banking.head(TEXTS * 3 // 4)
    texts = [*questions["text"], *stance.head(TEXTS - questions.height)]
    vectors = embedder.encoder.encode(texts)
    crown(project, store, embedder, questions, vectors[: questions.height])

    generator = np.random.default_rng(0)
    scale = NOISE / np.sqrt(vectors.shape[1])
    for start in range(0, records, BLOCK):
        numbers = np.arange(start, min(start + BLOCK, records))
        real = vectors[numbers % len(texts)]
        noisy = real + scale * generator.standard_normal(real.shape, dtype=np.float32)
        noisy /= np.linalg.norm(noisy, axis=1, keepdims=True)
        hashes = [f"{number:016x}" for number in numbers]
        embedder.cache.write(f"{UNPARTITIONED} {start}", as_frame(hashes, noisy))
        rows = pl.DataFrame(
            {
                "record_id": [f"r{number}" for number in numbers],
                "content_hash": hashes,
                "content": [f"{texts[number % len(texts)]} ({number})" for number in numbers],
                "partition_key": [UNPARTITIONED] * len(numbers),
                "first_seen": [NOW] * len(numbers),
                "updated_at": [NOW] * len(numbers),
            }
        )
        with store.transaction() as con:
            store.append(con, "records", rows)
    (folder / "built").touch()


def crown(project: Project, store: Store, embedder: Embedder, gold: pl.DataFrame, vectors: np.ndarray) -> None:
    """Train a student on gold and make it champion."""
    hashes = [f"gold {number}" for number in range(gold.height)]
    embedder.cache.write("gold", as_frame(hashes, vectors))
    rows = gold.select(
        record_id=pl.Series(hashes),
        content_hash=pl.Series(hashes),
        content="text",
        label="label",
        origin=pl.lit("gold"),
        weight=pl.lit(1.0),
    )
    kind = student_class(project.task, "linear")
    student = kind(project.task, project.declaration.distillation).fit(Examples.of(rows), embedder)
    registry, name = ModelRegistry(store), embedder.encoder.name
    card = {"encoder": name, "encoder_id": embedder.encoder.id}
    write_model(student, card, rows.select(TRAINING_COLUMNS), registry.folder("champion"))
    registry.register("champion", student="linear", encoder=name, silver=0, gold=rows.height)
    registry.promote("champion")


def report(folder: Path, strategy: str, records: int, wanted: int) -> None:
    """Run one strategy in a process of its own and print its figure."""
    with Store(folder / "pool").transaction() as con:
        con.execute("DELETE FROM selected_records")
    command = [sys.executable, __file__, "--one", strategy, "--folder", str(folder), "--wanted", str(wanted)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    if done.returncode:
        sys.exit(f"{strategy} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    found = json.loads(done.stdout.splitlines()[-1])
    size = f"{records // 1_000_000}m" if records % 1_000_000 == 0 else str(records)
    figure(
        f"select_{size}_{strategy}_seconds",
        round(found["seconds"], 1),
        "s",
        peak_gib=round(found["peak_gib"], 2),
        at_most_seconds=SECONDS.get(strategy),
        at_most_gib=4,
        processor_seconds=round(found["processor_seconds"], 1),
        records=records,
        chosen=found["chosen"],
        decided_by=found["strategy"],
        dimensions=found["dimensions"],
        classes=77,
        cores=os.cpu_count(),
        pool=f"{TEXTS} real texts of banking77 and climate_stance_gpt4o; each record one of them and a number, its "
        f"vector with noise of {NOISE} of its length",
    )


def measured(folder: Path, strategy: str, wanted: int) -> dict[str, object]:
    """Choose once; seconds and peak memory of this process."""
    project = declared(folder, strategy, wanted)
    store = Store(folder / "pool")
    start, used = time.perf_counter(), time.process_time()
    counts = select_records(store, project, UNPARTITIONED)
    seconds, processor = time.perf_counter() - start, time.process_time() - used
    decided = store.query("SELECT DISTINCT strategy FROM selected_records WHERE state = 'selected'")["strategy"]
    return {
        "seconds": seconds,
        "processor_seconds": processor,
        "peak_gib": peak_gib(),
        "chosen": counts["selected"],
        "strategy": decided.item(),
        "dimensions": Embedder.for_project(project, store).dimension,
    }


def peak_gib() -> float:
    """The most memory that this process has held; getrusage would count that of the process which started it, too."""
    status = Path("/proc/self/status")
    if status.exists():
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        if found:
            return int(found[1]) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main()
