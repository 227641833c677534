"""Students for classification beside their teachers, on real answers; and how many labels, and seconds, they take.

Prints, each a mean over five seeds with its 95% interval (Student's t over the seeds):

- `stance_teacher_accuracy`, `stance_student_accuracy`: climate_stance_gpt4o. GPT-4o's recorded answers are the
  teacher, 100 records are gold, 700 are the test, and the rest is what the teacher labels. Each text counts once: the
  253 copies in the set would stand on both sides.
- `banking_teacher_accuracy`, `banking_student_accuracy`: banking77. The embedded annotator with three demonstrations of
  each intent (231 gold records) is the teacher of 3,000 further training records; the test is the published one.
- `<set>_student_accuracy_<ingredient>`: plain takes every label as it is; the others switch one ingredient on and leave
  the rest off; default is what a project gets that declares nothing. `context` holds the paired difference to plain
  with its interval, and what the ingredient did. `_gold_only` has no silver, `_people` has people's labels in the
  teacher's place: what the student could learn at best from these records.
- `<set>_silver_weight_right`, `<set>_silver_weight_wrong`: the mean weight of silver labels that are right and wrong,
  for reweighting.
- `labels_to_match_random_500`: people's labels of banking77, in rounds of 50: with how many labels the mean accuracy of
  the better of margin and hybrid reaches the one that 500 random labels give.
- `train_100k_seconds`: training the student, as it is by default, on 100,000 vectors with 77 classes, in a process of
  its own; context: its peak memory, and what the process held before. The 100,000 are the 10,003 vectors of banking77,
  each ten times, with Gaussian noise of a tenth of their length, of length 1 again: real directions, no two alike.
  231 are gold, and of the others a fifth have labels that were shuffled.

Students and teachers see the same vectors, those of the default encoder, which are computed once a run. `--seeds`,
`--only stance|banking|selection|speed` run a part.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from _common import figure
from _noisy_sets import NoisySet, banking, banking_records, stance, stance_records
from numpy.typing import NDArray

from annotation_pipelines.distillation.embedding import Embedder
from annotation_pipelines.distillation.encoder import Encoder
from annotation_pipelines.distillation.linear_head import LinearHead
from annotation_pipelines.distillation.students.base import Examples
from annotation_pipelines.distillation.students.linear import LinearStudent
from annotation_pipelines.project import Distillation
from annotation_pipelines.selection.diversity import typiclust
from annotation_pipelines.selection.hybrid import hybrid
from annotation_pipelines.selection.uncertainty import margin
from annotation_pipelines.tasks.classification import Classification

OFF: dict[str, object] = {
    "weights": "none",
    "soft_labels": "none",
    "label_smoothing": 0.0,
    "prune": "none",
    "reweight": False,
    "co_teaching": False,
}
INGREDIENTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "confidence": {"weights": "confidence"},
    "audit": {"weights": "audit"},
    "soft_scores": {"soft_labels": "scores"},
    "corrected": {"soft_labels": "corrected"},
    "confusion": {"soft_labels": "confusion"},
    "smoothing": {"label_smoothing": 0.1},
    "prune": {"prune": "confident_learning"},
    "reweight": {"reweight": True},
    "co_teaching": {"co_teaching": True},
}
CORES = len(os.sched_getaffinity(0))
PER_ROUND, MOST, RANDOM = 50, 400, 500
ROWS, NOISE, COPIES, WRONG, AUDITED = 100_000, 0.1, 10, 0.2, 231


class Kept:
    """Vectors in memory: each text is encoded once a run."""

    def __init__(self, embedder: Embedder) -> None:
        self.encoder, self.dimension, self._embedder = embedder.encoder, embedder.dimension, embedder
        self.known: dict[str, NDArray[np.float32]] = {}

    def vectors(self, frame: pl.DataFrame, progress: object = None, *, share: bool = False) -> NDArray[np.float32]:
        """As `Embedder.vectors`."""
        missing = frame.filter([name not in self.known for name in frame["content_hash"]])
        if missing.height:
            found = self._embedder.vectors(missing.select("content_hash", "content"))
            self.known.update(zip(missing["content_hash"], found, strict=True))
        return np.stack([self.known[name] for name in frame["content_hash"]])


def interval(values: list[float]) -> tuple[float, float]:
    """The mean, and half the width of its 95% interval."""
    from scipy.stats import t

    n = len(values)
    if n < 2:
        return float(np.mean(values)), float("nan")
    return float(np.mean(values)), float(t.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n))


def shown(name: str, values: list[float], unit: str = "accuracy", **context: Any) -> None:
    """Print the figure of several seeds."""
    mean, half = interval(values)
    figure(name, round(mean, 4), unit, seeds=len(values), interval_95=_ends(mean, half), **context)


def against(gains: list[float], whom: str) -> dict[str, Any]:
    """The mean of paired differences, with its interval."""
    mean, half = interval(gains)
    return {f"gain_over_{whom}": round(mean, 4), "gain_interval_95": _ends(mean, half)}


def _ends(mean: float, half: float) -> list[float] | None:
    return None if np.isnan(half) else [round(mean - half, 4), round(mean + half, 4)]


_kept: Kept | None = None


def _take_over(known: dict[str, NDArray[np.float32]]) -> None:
    """In a worker: the vectors that are known."""
    global _kept
    _kept = Kept(Embedder(Path(), Encoder()))
    _kept.known = known


def trial(noisy: NoisySet, ingredient: str, seed: int) -> tuple[str, float, dict[str, Any]]:
    """In a worker: train a student; its accuracy on the test, and its figures."""
    assert _kept is not None
    examples = {"gold_only": noisy.gold_alone, "people": noisy.by_people}.get(ingredient, noisy.examples)()
    robust = {} if ingredient == "default" else {**OFF, **INGREDIENTS.get(ingredient, {})}
    student = LinearStudent(noisy.task, Distillation.model_validate({"robust": robust, "seed": seed}))
    said = student.fit(examples, _kept).predict(noisy.test, _kept).labels
    figures = {
        name: round(value, 4) if isinstance(value, float) else value for name, value in student.figures().items()
    }
    return ingredient, float((np.array(said) == noisy.test["label"].to_numpy()).mean()), figures


def compare(name: str, make: Callable[[int], NoisySet], kept: Kept, seeds: range) -> None:
    """Teacher and students of one set; a process for each core trains them."""
    sets = {seed: make(seed) for seed in seeds}
    every = [*INGREDIENTS, "default", "gold_only", "people"]
    accuracies: dict[str, list[float]] = {ingredient: [] for ingredient in every}
    done: dict[str, dict[str, Any]] = {}
    with ProcessPoolExecutor(
        CORES, mp_context=get_context("spawn"), initializer=_take_over, initargs=(kept.known,)
    ) as pool:
        asked = [(noisy, ingredient, seed) for seed, noisy in sets.items() for ingredient in every]
        for ingredient, accuracy, figures in pool.map(trial, *zip(*asked, strict=True)):
            accuracies[ingredient].append(accuracy)
            done[ingredient] = figures
    teachers = [noisy.teacher_accuracy for noisy in sets.values()]
    silver = [noisy.silver_accuracy for noisy in sets.values()]
    shown(f"{name}_teacher_accuracy", teachers, silver_accuracy=round(float(np.mean(silver)), 4))
    beaten = [student - teacher for student, teacher in zip(accuracies["default"], teachers, strict=True)]
    shown(
        f"{name}_student_accuracy", accuracies["default"], **against(beaten, "teacher"), wins=sum(g > 0 for g in beaten)
    )
    for ingredient, values in accuracies.items():
        gains = [one - plain for one, plain in zip(values, accuracies["plain"], strict=True)]
        compared = {} if ingredient == "plain" else against(gains, "plain")
        shown(f"{name}_student_accuracy_{ingredient}", values, **compared, last_seed=done[ingredient])
    weights = [learned(noisy, kept, seed) for seed, noisy in sets.items()]
    shown(f"{name}_silver_weight_right", [right for right, _ in weights], "weight")
    shown(f"{name}_silver_weight_wrong", [wrong for _, wrong in weights], "weight")


def learned(noisy: NoisySet, kept: Kept, seed: int) -> tuple[float, float]:
    """The mean weight that reweighting gives to silver labels that are right, and wrong."""
    from annotation_pipelines.distillation.robust.reweighting import learned_weights

    examples = noisy.examples()
    labels = np.array(examples.labels)
    classes = sorted(set(labels))
    targets = np.eye(len(classes))[np.searchsorted(classes, labels)]
    X = kept.vectors(examples.rows)
    factors = learned_weights(X, targets, np.ones(len(X)), examples.gold, seed=seed)
    truth = dict(zip(noisy.pool["record_id"], noisy.pool["label"], strict=True))
    right = np.array([truth.get(name) == label for name, label in examples.rows.select("record_id", "label").rows()])
    silver = ~examples.gold
    return float(factors[silver & right].mean()), float(factors[silver & ~right].mean())


# -- how many labels ---------------------------------------------------------------------------------------------


def curve(strategy: str, seed: int, pool: pl.DataFrame, X: NDArray[np.float32]) -> Iterator[LinearHead]:
    """A student after each round of labels of people, up to 400; at random there is one after 500 only."""
    labels, texts = pool["label"].to_numpy(), pool["content"].to_list()
    order = np.random.default_rng(seed).permutation(len(X))
    if strategy == "random":
        yield LinearHead(random_state=seed).fit(X[order[:RANDOM]], labels[order[:RANDOM]].tolist())
        return
    # As in a project: what needs a student begins without one.
    chosen = order[:PER_ROUND] if strategy == "margin" else order[typiclust(X[order], PER_ROUND, seed=seed)]
    while True:
        head = LinearHead(random_state=seed).fit(X[chosen], labels[chosen].tolist())
        yield head
        if len(chosen) >= MOST:
            return
        free = order[~np.isin(order, chosen)]
        chosen = np.concatenate([chosen, free[_doubtful(strategy, head, X, free, chosen, texts, seed)]])


def _doubtful(
    strategy: str,
    head: LinearHead,
    X: NDArray[np.float32],
    free: NDArray[np.int64],
    chosen: NDArray[np.int64],
    texts: list[str],
    seed: int,
) -> NDArray[np.int64]:
    doubt = margin(head.predict_proba(X[free]))
    if strategy == "margin":
        return np.argsort(-doubt, kind="stable")[:PER_ROUND]
    return hybrid(
        X[free],
        doubt,
        np.ones(len(free)),
        lambda rows: [texts[row] for row in free[rows]],
        PER_ROUND,
        labelled=X[chosen],
        labelled_texts=[texts[row] for row in chosen],
        seed=seed,
    )


def selection(kept: Kept, seeds: range) -> None:
    """labels_to_match_random_500."""
    pool, test = banking_records("train"), banking_records("test")
    X, unseen, truth = kept.vectors(pool), kept.vectors(test), test["label"].to_numpy()

    def mean(heads: Iterable[LinearHead]) -> float:
        return float(np.mean([(np.array(head.predict(unseen)) == truth).mean() for head in heads]))

    wanted = mean(next(curve("random", seed, pool, X)) for seed in seeds)
    reached: dict[str, int | None] = {}
    means: dict[str, dict[int, float]] = {}
    for strategy in ("margin", "hybrid"):
        reached[strategy], means[strategy] = None, {}
        curves = [curve(strategy, seed, pool, X) for seed in seeds]
        for size, heads in enumerate(zip(*curves, strict=True), 1):
            means[strategy][size * PER_ROUND] = round(mean(heads), 4)
            if means[strategy][size * PER_ROUND] >= wanted:
                reached[strategy] = size * PER_ROUND
                break
    needed = [number for number in reached.values() if number is not None]
    figure(
        "labels_to_match_random_500",
        min(needed, default=None),
        "labels",
        seeds=len(seeds),
        set="banking77, labels of people",
        per_round=PER_ROUND,
        accuracy_of_random_500=round(wanted, 4),
        by_strategy=reached,
        mean_accuracy=means,
    )


# -- how long ----------------------------------------------------------------------------------------------------


def train_here(path: Path) -> None:
    """Train a student on 100,000 vectors made of those in a file; print seconds and memory."""
    loaded = np.load(path)
    generator = np.random.default_rng(0)
    X = np.tile(loaded["vectors"], (COPIES, 1))[:ROWS]
    X += generator.normal(scale=NOISE / np.sqrt(X.shape[1]), size=X.shape).astype(np.float32)
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    truth = np.tile(loaded["labels"], COPIES)[:ROWS]
    wrong = generator.random(ROWS) < WRONG
    given = np.where(wrong, generator.permutation(truth), truth)
    gold = generator.permutation(ROWS) < AUDITED
    names = [str(row) for row in range(ROWS)]
    rows = pl.DataFrame(
        {
            "record_id": names,
            "content_hash": names,
            "content": names,
            "label": np.where(gold, truth, given).tolist(),
            "origin": np.where(gold, "gold", "silver").tolist(),
            "weight": np.where(gold, 1.0, np.where(wrong, 0.6, 0.8)),
        }
    )
    audit = rows.with_columns(given=pl.Series(given.tolist()), confidence=pl.lit(0.7)).filter(gold)

    class Rows:
        """Vectors by the number of the row."""

        encoder = Encoder()

        def vectors(self, frame: pl.DataFrame, progress: object = None) -> NDArray[np.float32]:
            return X[frame["content_hash"].cast(pl.Int64).to_numpy()]

    task = Classification.model_validate({"labels": sorted(set(truth.tolist()))}).make()
    few = Examples.of(rows.head(300), audit)
    LinearStudent(task, Distillation()).fit(few, Rows())  # what is imported late is there
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    student = LinearStudent(task, Distillation()).fit(Examples.of(rows, audit), Rows())
    facts = {
        "seconds": time.perf_counter() - started,
        "rows": ROWS,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "before_mib": before / 1024,
        "figures": student.figures(),
    }
    print(json.dumps(facts))


def speed(kept: Kept) -> None:
    """train_100k_seconds, in a process of its own: its peak memory is nobody else's."""
    pool = banking_records("train")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vectors.npz"
        np.savez(path, vectors=kept.vectors(pool), labels=pool["label"].to_numpy().astype(str))
        done = subprocess.run(
            [sys.executable, __file__, "--train", str(path)], capture_output=True, text=True, check=True
        )
    facts = json.loads(done.stdout)
    figure(
        "train_100k_seconds",
        round(facts["seconds"], 2),
        "seconds",
        rows=facts["rows"],
        classes=facts["figures"]["classes"],
        strength=facts["figures"]["strength"],
        peak_memory_mib=round(facts["peak_mib"]),
        memory_before_mib=round(facts["before_mib"]),
    )
    small = pool.head(500)
    X, y = kept.vectors(small), small["label"].to_list()
    LinearHead().fit(X, y)  # what is imported late is there
    started = time.perf_counter()
    LinearHead().fit(X, y)
    figure("train_500_seconds", round(time.perf_counter() - started, 2), "seconds")


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", choices=("stance", "banking", "selection", "speed"))
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.train is not None:
        train_here(asked.train)
        return
    seeds = range(asked.seeds)
    with tempfile.TemporaryDirectory() as folder:
        kept = Kept(Embedder(Path(folder), Encoder()))
        if asked.only in (None, "stance"):
            kept.vectors(stance_records())
            compare("stance", stance, kept, seeds)
        if asked.only in (None, "banking"):
            kept.vectors(banking_records("test"))
            compare("banking", lambda seed: banking(seed, kept), kept, seeds)
        if asked.only in (None, "selection"):
            selection(kept, seeds)
        if asked.only in (None, "speed"):
            speed(kept)


if __name__ == "__main__":
    main()
