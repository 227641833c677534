"""How fast the champion predicts, beside bare `SentenceTransformer.encode`, and what faster ways cost in accuracy.

The texts are those of banking77's test set and of climate_stance_gpt4o. A linear student and a static one are trained
on gold labels of banking77's training set. Each side of a ratio takes its turn, and the medians are compared: others
may work on the machine, and both sides then suffer alike. The corpus predictions include reading from and writing to
the store; no vector is cached before.

    python benchmarks/prediction.py [--texts 1024] [--turns 3] [--train 2000] [--test 1000]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
from _common import ROOT, figure

from annotation_pipelines.distillation.champion import Champion
from annotation_pipelines.distillation.embedding import Embedder, Uncached
from annotation_pipelines.distillation.fast.choice import FLOAT32, WORTH, Ways
from annotation_pipelines.distillation.prediction import predict
from annotation_pipelines.distillation.registry import ModelRegistry
from annotation_pipelines.distillation.training import train
from annotation_pipelines.project import Declaration, Project
from annotation_pipelines.sources.records import content_hashes
from annotation_pipelines.store.database import Store
from annotation_pipelines.store.vectors import as_frame

DATA = ROOT / "benchmarks" / "data"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
FEW, MANY = 20_000, 100_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=1_024, help="how many texts a turn encodes")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--train", type=int, default=2_000, help="how many gold labels the students learn from")
    parser.add_argument("--test", type=int, default=1_000, help="how many gold records accuracy is measured on")
    parser.add_argument("--memory-of", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.memory_of is not None:
        print(peak_of_prediction(given.memory_of))
        return
    with tempfile.TemporaryDirectory() as name:
        run(Path(name), given.texts, given.turns, given.train, given.test)


def run(folder: Path, texts: int, turns: int, labels: int, tested: int) -> None:
    training = banking("train").sample(labels, seed=0)
    test = banking("test")
    stance = pl.read_parquet(DATA / "climate_stance_gpt4o" / "records.parquet")["text"].unique(maintain_order=True)
    everything = [*test["text"], *stance]
    drawn = np.random.default_rng(0).permutation(len(everything))
    corpus = [everything[row] for row in drawn[:texts]]
    context: dict[str, object] = {
        "texts": texts,
        "characters_each": round(statistics.mean(map(len, corpus))),
        "turns": turns,
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
    }

    plain = World(folder / "plain", training, corpus, fast="never")
    fast = World(folder / "fast", training, corpus)
    static = World(folder / "static", training, everything, student="static")
    plain.train()
    fast.train(after=plain)
    static.train()
    encoder = plain.embedder.encoder
    model = encoder._model()
    ordered = sorted(corpus, key=len, reverse=True)

    def bare() -> None:
        model.encode(ordered, batch_size=32, normalize_embeddings=True, show_progress_bar=False)

    # The first prediction measures the ways; the turns use what it found.
    champion = fast.champion()
    champion.predict(corpus[:8])
    way, _, why = str(champion.encoded_by).partition(": ")
    ways = Ways(fast.store.home, fast.embedder.encoder)
    trial = ways.trial()
    assert trial is not None, why
    frame = pl.DataFrame({"content_hash": [""] * len(everything), "content": everything})
    student = static.champion().student

    seconds = take_turns(
        {
            "bare": bare,
            "encode": lambda: encoder.encode(corpus),
            "predict": plain.predict_anew,
            "fast": fast.predict_anew,
            "static": lambda: student.predict(frame, static.embedder),
            "static_corpus": static.predict_anew,
        },
        turns,
    )
    bare_rate = texts / seconds["bare"]
    context["bare_texts_per_second"] = round(bare_rate, 1)
    figure("encode_vs_bare_encode", round(texts / seconds["encode"] / bare_rate, 3), "ratio", **context)
    figure(
        "predict_vs_bare_encode", round(texts / seconds["predict"] / bare_rate, 3), "ratio", goal=">= 0.95", **context
    )

    measured = test.sample(min(tested, test.height), seed=1)
    asked, gold = measured["text"].to_list(), measured["label"].to_list()
    rows = pl.DataFrame({"content_hash": [""] * len(asked), "content": asked})
    linear = plain.champion().student
    said = {FLOAT32: linear.predict(rows, Uncached(encoder)).labels}
    for name in trial.per_second:
        said[name] = linear.predict(rows, Uncached(encoder, ways.by(name))).labels
    said["static"] = student.predict(rows, static.embedder).labels
    accuracy = {name: round(share(given, gold), 4) for name, given in said.items()}
    figure(
        "fast_predict_vs_bare_encode",
        round(texts / seconds["fast"] / bare_rate, 3),
        "ratio",
        goal=">= 1.5",
        way=way,
        why=why,
        trial_texts_per_second=trial.per_second,
        left_out=trial.left_out,
        test_accuracy=accuracy,
        test_agreement_with_float32={name: round(share(given, said[FLOAT32]), 4) for name, given in said.items()},
        test_records=len(gold),
        **context,
    )
    figure(
        "static_predict_vs_bare_encode",
        round(len(everything) / seconds["static"] / bare_rate, 1),
        "ratio",
        goal=">= 50",
        texts_predicted=len(everything),
        texts_per_second=round(len(everything) / seconds["static"]),
        with_the_store=round(len(everything) / seconds["static_corpus"] / bare_rate, 1),
        test_accuracy={"linear": accuracy[FLOAT32], "static": accuracy["static"]},
        **context,
    )
    peaks = {n: memory(folder / f"memory-{n}", plain, n) for n in (FEW, MANY)}
    figure(
        "predict_peak_memory_growth",
        round(peaks[MANY] - peaks[FEW], 1),
        "MiB",
        records=[FEW, MANY],
        peak_mib={str(n): round(peak, 1) for n, peak in peaks.items()},
        vectors="cached",
    )
    figure(
        "serve_requests_per_second",
        round(served(fast, corpus), 1),
        "1/s",
        texts_a_request=1,
        clients=16,
        way=way,
    )


class World:
    """A project on a store of its own, with a corpus and labels to learn from."""

    def __init__(self, home: Path, training: pl.DataFrame, corpus: Sequence[str], **distillation: object) -> None:
        labels = {label: label.replace("_", " ") for label in sorted(set(training["label"]))}
        declared = {
            "source": {"csv": "records.csv"},
            "task": {"classification": {"labels": labels}},
            "distillation": distillation,
        }
        self.project = Project("benchmark", home.parent, Declaration.model_validate(declared))
        self.store = Store(home)
        self.embedder = Embedder.for_project(self.project, self.store)
        self.training = training
        gold = training.select(
            pl.format("gold{}", pl.int_range(pl.len())).alias("record_id"),
            content_hashes(training["text"]),
            pl.col("text").alias("content"),
            "label",
            role=pl.lit("training"),
            origin=pl.lit("file"),
        )
        trusted = gold.select(
            "record_id",
            "content_hash",
            "label",
            partition_key=pl.lit("all"),
            origin=pl.lit("gold"),
            weight=pl.lit(1.0),
            trusted_at=pl.lit(NOW),
        )
        with self.store.transaction() as con:
            self.store.append(con, "records", records(corpus))
            self.store.append(con, "human_labels", gold)
            self.store.append(con, "trusted_labels", trusted)

    def train(self, after: World | None = None) -> None:
        """Train the student and make it the champion; vectors that another world has are taken over."""
        if after is not None:
            known = after.embedder.cache
            for shard in known.shards():
                self.embedder.cache.write(shard, known.read(shard))
        model = train(self.store, self.project, self.embedder)
        ModelRegistry(self.store).promote(model.version)

    def predict_anew(self) -> None:
        """Predict the whole corpus as if nothing had been predicted."""
        with self.store.transaction() as con:
            con.execute("DELETE FROM predictions")
        predict(self.store, self.project, self.embedder)

    def champion(self) -> Champion:
        return Champion.open(self.store, self.project, wanted=WORTH)


def records(texts: Sequence[str]) -> pl.DataFrame:
    """Rows of the table records, each with a hash of its own."""
    numbers = range(len(texts))
    return pl.DataFrame(
        {
            "record_id": [f"r{number}" for number in numbers],
            "content_hash": content_hashes(pl.Series([f"{number} {text}" for number, text in enumerate(texts)])),
            "content": list(texts),
            "partition_key": ["all"] * len(texts),
            "first_seen": [NOW] * len(texts),
            "updated_at": [NOW] * len(texts),
        }
    )


def banking(part: str) -> pl.DataFrame:
    """text and label of banking77."""
    return pl.read_parquet(DATA / "banking77" / f"{part}.parquet").select("text", "label").unique(maintain_order=True)


def take_turns(sides: dict[str, Callable[[], object]], turns: int) -> dict[str, float]:
    """The median seconds of each side; every side has one turn before, which does not count."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(turns + 1):
        for name, side in sides.items():
            start = time.perf_counter()
            side()
            if turn:
                found[name].append(time.perf_counter() - start)
    return {name: statistics.median(seconds) for name, seconds in found.items()}


def share(given: Sequence[str], truth: Sequence[str]) -> float:
    """How much of two lists is the same."""
    return float(np.mean([a == b for a, b in zip(given, truth, strict=True)]))


def memory(home: Path, plain: World, n: int) -> float:
    """The peak memory, in MiB, of a process that predicts n records whose vectors are cached."""
    copy_store(plain.store.home, home)
    texts = plain.store.query("SELECT content FROM records ORDER BY record_id LIMIT 128")["content"].to_list()
    vectors = plain.embedder.encoder.encode(texts)
    rows = np.arange(n) % len(texts)
    store = Store(home)
    frame = records([texts[row] for row in rows])
    with store.transaction() as con:
        con.execute("DELETE FROM predictions")
        con.execute("DELETE FROM records")
        store.append(con, "records", frame)
    Embedder.for_project(plain.project, store).cache.write("all", as_frame(frame["content_hash"], vectors[rows]))
    (home / "declaration.json").write_text(plain.project.declaration.model_dump_json(exclude_unset=True))
    done = subprocess.run(
        [sys.executable, __file__, "--memory-of", str(home)], capture_output=True, text=True, cwd=Path(__file__).parent
    )
    if done.returncode:
        sys.exit(done.stderr)
    return float(done.stdout)


def copy_store(source: Path, target: Path) -> None:
    """Copy a store with its models."""
    import shutil

    target.mkdir()
    shutil.copytree(source / "models", target / "models")
    shutil.copy(source / f"{source.name}.duckdb", target / f"{target.name}.duckdb")


def peak_of_prediction(home: Path) -> float:
    """Predict the corpus of a store; the process's peak memory, in MiB."""
    project = Project("benchmark", home, Declaration.model_validate_json((home / "declaration.json").read_text()))
    store = Store(home)
    counts = predict(store, project, Embedder.for_project(project, store))
    assert counts.predicted == counts.predictions > 0 and counts.encoded_by is None, counts
    # Not getrusage: its peak is that of the process that started this one, if that is larger.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 1024


def served(world: World, texts: Sequence[str], *, clients: int = 16, seconds: float = 4.0) -> float:
    """Requests a second, of one text each, over HTTP on this machine; clients and server share its cores."""
    import aiohttp
    import uvicorn

    from annotation_pipelines.serving.http import application
    from annotation_pipelines.serving.live import LiveChampion

    live = LiveChampion(world.champion, lambda: None)
    server = uvicorn.Server(uvicorn.Config(application(live, world.project), port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    port = server.servers[0].sockets[0].getsockname()[1]

    async def ask() -> int:
        end = time.perf_counter() + seconds

        async def client(session: aiohttp.ClientSession, number: int) -> int:
            answered = 0
            while time.perf_counter() < end:
                text = texts[(number + answered * clients) % len(texts)]
                async with session.post(f"http://127.0.0.1:{port}/predict", json={"texts": [text]}) as reply:
                    assert reply.status == 200, await reply.text()
                    answered += 1
            return answered

        async with aiohttp.ClientSession() as session:
            return sum(await asyncio.gather(*(client(session, number) for number in range(clients))))

    try:
        return asyncio.run(ask()) / seconds
    finally:
        server.should_exit = True
        thread.join()


if __name__ == "__main__":
    main()
