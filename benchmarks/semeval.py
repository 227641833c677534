"""A student of relations beside its teacher, on ChatGPT's recorded labels bought in rounds; and SemEval-2010 Task 8.

`semeval_teacher_accuracy` and `semeval_student_accuracy` are measured on re_semeval2010_chatgpt: 2,713 sentences with
people's relation (10 classes, without direction) and what ChatGPT said in 2023. Each of five seeds orders the sentences
anew: the first 1,000 are the test, the next 1,700 the pool. 100 of the pool, drawn at random, are gold: the student
learns people's label of them, and what ChatGPT says of them tells how it errs. Of the other 1,600 silver labels are
bought, 50 in each of ten rounds; a student of all labels so far chooses the next 50. Figures are means over the seeds,
with the 95% interval of the mean (Student's t, 4 degrees of freedom). STUDENT, the declared configuration, was chosen
on the tests of three other orders of the same sentences, and the features of the student on the test sentences of
SemEval-2010 Task 8, which these are: the figures flatter by as much as such a choice among some tens can.

`semeval_gold_f1` is the official macro F1 of SemEval-2010 Task 8 (19 classes, direction counts) on its 2,717 test
sentences, of students of the 8,000 training sentences, with people's labels and with a share of them replaced.

    python benchmarks/semeval.py              # five seeds, students with a frozen encoder
    python benchmarks/semeval.py --heavy      # also fine-tuned students and the embedded annotator's labels: hours
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from _common import ROOT, figure

from annotation_pipelines.distillation.embedding import Embedder
from annotation_pipelines.distillation.encoder import Encoder
from annotation_pipelines.distillation.prediction import ReadyModel
from annotation_pipelines.distillation.students.base import Examples, Student
from annotation_pipelines.distillation.students.registry import student_class
from annotation_pipelines.project import Distillation, Strategy
from annotation_pipelines.project.annotators import EmbeddedAnnotator
from annotation_pipelines.selection import diversity
from annotation_pipelines.selection.acquisition import choose, needs_student, without_student
from annotation_pipelines.selection.badge import badge
from annotation_pipelines.selection.hybrid import hybrid
from annotation_pipelines.selection.scoring import gradients, uncertainty
from annotation_pipelines.selection.uncertainty import MEASURES
from annotation_pipelines.tasks.base import Task
from annotation_pipelines.tasks.metrics.bootstrap import difference
from annotation_pipelines.tasks.relations import Relations

DATA = ROOT / "benchmarks" / "data"
FIRST_SEED, SEEDS = 10, 5
TEST, POOL, GOLD, PER_ROUND, ROUNDS = 1_000, 1_700, 100, 50, 10
T_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}

STUDENT: dict[str, Any] = {"robust": {"soft_labels": "confusion", "weights": "audit", "reweight": True}}
"""The declared student: `distillation:` of a project."""
STRATEGY: Strategy = "hybrid"
STRATEGIES: tuple[Strategy, ...] = (
    "random", "least_confidence", "margin", "entropy", "kmeans", "k_center", "typiclust", "badge", "hybrid",
)  # fmt: skip

PLAIN = {"soft_labels": "none", "weights": "none"}
ROBUST: dict[str, dict[str, Any]] = {
    "plain": PLAIN,
    "confidence_weights": {"soft_labels": "none"},
    "audit_weights": {"soft_labels": "none", "weights": "audit"},
    "label_smoothing": {**PLAIN, "label_smoothing": 0.2},
    "pruning": {**PLAIN, "prune": "confident_learning"},
    "co_teaching": {**PLAIN, "co_teaching": True},
    "reweighting": {**PLAIN, "reweight": True},
    "corrected": {**PLAIN, "soft_labels": "corrected"},
    "confusion": {**PLAIN, "soft_labels": "confusion"},
    "default": {},
    "declared": STUDENT["robust"],
}


@dataclass(frozen=True)
class Split:
    """One seed's sentences: record_id, content_hash, content, gold, chatgpt, confidence (0 to 1)."""

    seed: int
    test: pl.DataFrame
    gold: pl.DataFrame
    pool: pl.DataFrame

    def examples(self, silver: pl.DataFrame | None, *, gold: bool = True) -> Examples:
        """Gold and the silver labels that were bought, as the trusted labels of a project have them."""
        shared = ["record_id", "content_hash", "content"]
        parts = [self.gold.select(*shared, label="gold", origin=pl.lit("gold"), weight=pl.lit(1.0))] if gold else []
        if silver is not None:
            parts.append(silver.select(*shared, label="chatgpt", origin=pl.lit("silver"), weight=pl.col("confidence")))
        audit = self.gold.select("content_hash", "content", "confidence", label="gold", given="chatgpt")
        return Examples.of(pl.concat(parts).sort("content_hash"), audit)


@dataclass
class Bench:
    """The task and where vectors come from."""

    task: Task
    embedder: Embedder
    seconds: dict[str, float] = field(default_factory=dict)

    def student(self, examples: Examples, seed: int, distillation: Mapping[str, Any]) -> Student:
        """A student of examples."""
        config = Distillation.model_validate({**distillation, "seed": seed})
        return student_class(self.task, config.student)(self.task, config).fit(examples, self.embedder)

    def right(self, student: Student, split: Split) -> np.ndarray:
        """Where a student is right about the test sentences, shape (1000,)."""
        said = student.predict(split.test.select("content_hash", "content"), self.embedder).labels
        return np.array([one == other for one, other in zip(said, split.test["gold"], strict=True)])

    def bought(
        self, split: Split, strategy: Strategy, distillation: Mapping[str, Any]
    ) -> Iterator[tuple[pl.DataFrame, Callable[[], Student]]]:
        """The silver labels after each round, and a student of all labels so far, which is trained when asked for."""
        chosen = split.pool.clear()
        student: Student | None = None
        for number in range(1, ROUNDS + 1):
            used = strategy if student or not needs_student(strategy) else without_student(strategy)
            means = Means(self, split, used, chosen, student)
            rows = choose(
                split.pool,
                already_selected=chosen["record_id"],
                strategy=used,
                budget=number * PER_ROUND,
                score=means.score,
                pick=means.pick,
                seed=split.seed,
            )
            chosen = split.pool.filter(rows["state"] == "selected")
            trained: list[Student] = []

            def train(silver: pl.DataFrame = chosen, trained: list[Student] = trained) -> Student:
                if not trained:
                    trained.append(self.student(split.examples(silver), split.seed, distillation))
                return trained[0]

            yield chosen, train
            if needs_student(strategy) and number < ROUNDS:
                student = train()


@dataclass(frozen=True)
class Means:
    """What a strategy asks, in memory: as `selection.strategies.Means` gives it on a store."""

    bench: Bench
    split: Split
    strategy: Strategy
    chosen: pl.DataFrame
    student: Student | None

    @property
    def scorer(self) -> ReadyModel:
        """The student of the round before."""
        assert self.student is not None
        return ReadyModel("round", self.student, self.bench.embedder)

    def score(self, records: pl.DataFrame) -> np.ndarray:
        """How unsure the student is of each record."""
        measure = self.strategy if self.strategy in MEASURES else "margin"
        return uncertainty(self.scorer, records.select("content_hash", "content"), measure)

    def pick(self, records: pl.DataFrame, count: int) -> np.ndarray:
        """A batch of records."""
        known = pl.concat([self.split.gold, self.chosen])
        vectors, labelled, seed = self.vectors(records), self.vectors(known), self.split.seed
        if self.strategy == "badge":
            residuals = gradients(self.scorer, records.select("content_hash", "content"))
            return badge(vectors, residuals, count, seed=seed)
        if self.strategy == "hybrid":
            return hybrid(
                vectors,
                self.score(records),
                records["content"].str.len_chars().to_numpy() + 1_000.0,  # the prompt's words
                lambda rows: records["content"].gather(rows).to_list(),
                count,
                labelled=labelled,
                labelled_texts=known["content"].to_list(),
                seed=seed,
            )
        by = {"kmeans": diversity.nearest_to_centres, "k_center": diversity.k_center, "typiclust": diversity.typiclust}
        return by[self.strategy](vectors, count, labelled, seed=seed)

    def vectors(self, records: pl.DataFrame) -> np.ndarray:
        """The sentence vectors that a project has."""
        return self.bench.embedder.vectors(records.select("content_hash", "content"))


def splits(seeds: Iterable[int]) -> list[Split]:
    """The sentences with ChatGPT's answers, split by each seed."""
    records = pl.read_parquet(DATA / "re_semeval2010_chatgpt" / "records.parquet").select(
        "gold",
        "chatgpt",
        record_id=pl.col("id").cast(pl.String),
        content_hash=pl.concat_str(pl.lit("semeval "), pl.col("id").cast(pl.String)),
        content="sentence",
        confidence=pl.col("confidence") / 100,
    )
    found = []
    for seed in seeds:
        order = np.random.default_rng(seed).permutation(records.height)
        pool = records[order[TEST : TEST + POOL]]
        # The order is random, so the first are a random draw.
        found.append(Split(seed, records[order[:TEST]], pool[:GOLD], pool[GOLD:]))
    return found


def over_seeds(name: str, values: Sequence[float], **context: object) -> None:
    """Print the mean over the seeds with its 95% interval."""
    mean = float(np.mean(values))
    half = T_95.get(len(values), 1.96) * float(np.std(values, ddof=1)) / len(values) ** 0.5 if len(values) > 1 else None
    interval = None if half is None else [round(mean - half, 4), round(mean + half, 4)]
    each = [round(float(value), 4) for value in values]
    figure(name, round(mean, 4), "share", interval_95=interval, seeds=each, **context)


def beside_the_teacher(bench: Bench, found: list[Split]) -> None:
    """The figures on ChatGPT's labels."""
    teacher = [split.test["chatgpt"].to_numpy() == split.test["gold"].to_numpy() for split in found]
    curves: dict[str, np.ndarray] = {}
    finals: dict[str, list[np.ndarray]] = {}
    bought: dict[str, list[pl.DataFrame]] = {}
    for strategy in STRATEGIES:
        began, curve = time.monotonic(), np.zeros((len(found), ROUNDS))
        for row, split in enumerate(found):
            for number, (silver, train) in enumerate(bench.bought(split, strategy, STUDENT)):
                last = number == ROUNDS - 1
                if not (last or needs_student(strategy)):
                    continue
                right = bench.right(train(), split)
                curve[row, number] = right.mean()
                if last:
                    finals.setdefault(strategy, []).append(right)
                    bought.setdefault(strategy, []).append(silver)
        curves[strategy] = curve
        bench.seconds[strategy] = round(time.monotonic() - began, 1)
    for split_number, split in enumerate(found):
        assert not set(bought[STRATEGY][split_number]["record_id"]) & set(split.test["record_id"])
    ablations(bench, found, bought["random"])
    of_an_honest_teacher(bench, found)
    for strategy in STRATEGIES:
        over_seeds(
            f"semeval_student_accuracy_{strategy}",
            [float(right.mean()) for right in finals[strategy]],
            gain_over_random=round(float(np.mean(curves[strategy][:, -1] - curves["random"][:, -1])), 4),
            curve=[round(float(value), 4) for value in curves[strategy].mean(axis=0) if value],
            teacher_right_about_chosen=round(
                float(np.mean([(part["chatgpt"] == part["gold"]).mean() for part in bought[strategy]])), 4
            ),
            seconds=bench.seconds[strategy],
        )
    gains = [
        difference(student.tolist(), taught.tolist()) for student, taught in zip(finals[STRATEGY], teacher, strict=True)
    ]
    over_seeds(
        "semeval_student_minus_teacher",
        [gain.value for gain in gains if gain],
        paired_bootstrap_95=[[round(gain.lower, 4), round(gain.upper, 4)] for gain in gains if gain],
    )
    over_seeds("semeval_teacher_accuracy", [float(right.mean()) for right in teacher], test=TEST)
    over_seeds(
        "semeval_student_accuracy",
        [float(right.mean()) for right in finals[STRATEGY]],
        silver=ROUNDS * PER_ROUND,
        gold=GOLD,
        strategy=STRATEGY,
        student="linear",
        robust=json.dumps(STUDENT["robust"]),
    )


def of_an_honest_teacher(bench: Bench, found: list[Split]) -> None:
    """What choosing gains where labels are right: people's labels in the place of ChatGPT's."""
    honest = [replace(split, pool=split.pool.with_columns(chatgpt="gold", confidence=pl.lit(1.0))) for split in found]
    random: list[float] = []
    strategies: tuple[Strategy, ...] = ("random", "margin", STRATEGY)
    for strategy in strategies:
        curve = np.zeros((len(honest), ROUNDS))
        for row, split in enumerate(honest):
            for number, (_, train) in enumerate(bench.bought(split, strategy, {"robust": PLAIN})):
                curve[row, number] = bench.right(train(), split).mean()
        finals = curve[:, -1].tolist()
        random = random or finals
        over_seeds(
            f"semeval_true_labels_{strategy}",
            finals,
            gain_over_random=round(float(np.mean(finals) - np.mean(random)), 4),
            curve=[round(float(value), 4) for value in curve.mean(axis=0)],
        )


def ablations(bench: Bench, found: list[Split], silver: list[pl.DataFrame]) -> None:
    """What the labels and each ingredient are worth: on silver that was chosen at random, so that choice is apart."""
    alone = [bench.right(bench.student(split.examples(None), split.seed, {}), split).mean() for split in found]
    over_seeds("semeval_gold_alone_accuracy", alone, gold=GOLD)
    only = [
        bench.right(bench.student(split.examples(part, gold=False), split.seed, {"robust": PLAIN}), split).mean()
        for split, part in zip(found, silver, strict=True)
    ]
    over_seeds("semeval_silver_alone_accuracy", only, silver=ROUNDS * PER_ROUND, robust="none")
    true = [part.with_columns(chatgpt="gold", confidence=pl.lit(1.0)) for part in silver]
    ceiling = [
        bench.right(bench.student(split.examples(part), split.seed, {"robust": PLAIN}), split).mean()
        for split, part in zip(found, true, strict=True)
    ]
    over_seeds("semeval_all_gold_accuracy", ceiling, gold=GOLD + ROUNDS * PER_ROUND, what="people's label of all 600")
    plain: list[float] = []
    for name, robust in ROBUST.items():
        began = time.monotonic()
        values = [
            float(bench.right(bench.student(split.examples(part), split.seed, {"robust": robust}), split).mean())
            for split, part in zip(found, silver, strict=True)
        ]
        plain = plain or values
        over_seeds(
            f"semeval_robust_{name}",
            values,
            gain_over_plain=round(float(np.mean(values) - np.mean(plain)), 4),
            gain_over_gold_alone=round(float(np.mean(values) - np.mean(alone)), 4),
            seconds=round(time.monotonic() - began, 1),
        )


def whole_task(embedder: Embedder, *, heavy: bool) -> None:
    """SemEval-2010 Task 8 with direction: people's labels and noisy ones, official macro F1."""
    names = ("record_id", "content_hash", "content", "label")
    train, test = (
        pl.read_parquet(DATA / "semeval2010_task8" / f"{part}.parquet").select(
            pl.col("id").cast(pl.String).alias("record_id"),
            pl.concat_str(pl.lit("semeval "), pl.col("id").cast(pl.String)).alias("content_hash"),
            pl.col("sentence").alias("content"),
            pl.col("relation").alias("label"),
        )
        for part in ("train", "test")
    )
    types = sorted({label.split("(")[0] for label in train["label"]} - {"Other"})
    task = Relations(types=dict.fromkeys(types, "")).make()
    bench = Bench(task, embedder)
    kinds = ["linear", *(["fine_tuned"] if heavy else [])]
    labels = {"gold": train["label"].to_list(), **{f"flipped_{int(100 * s)}": flipped(train, s) for s in (0.2, 0.4)}}
    if heavy:
        labels["embedded"] = embedded_labels(task, train, embedder)
    for noise, given in labels.items():
        wrong = float(np.mean([one != other for one, other in zip(given, train["label"], strict=True)]))
        rows = train.select(names).with_columns(label=pl.Series(given), weight=pl.lit(1.0), origin=pl.lit("silver"))
        for kind in kinds if noise in ("gold", "flipped_40") else kinds[:1]:
            began = time.monotonic()
            robust = PLAIN
            student = bench.student(Examples.of(rows), 0, {"student": kind, "robust": robust})
            trained = time.monotonic() - began
            said = student.predict(test.select("content_hash", "content"), embedder).labels
            metrics = {
                metric.metric: metric for metric in task.measure(test["label"].to_list(), said) if not metric.label
            }
            macro = metrics["macro_f1"]
            figure(
                "semeval_gold_f1" if (noise, kind) == ("gold", "linear") else f"semeval_f1_{noise}_{kind}",
                None if macro.value is None else round(macro.value, 4),
                "official macro F1",
                interval_95=[round(value, 4) for value in (macro.lower, macro.upper) if value is not None],
                micro_f1=_rounded(metrics["micro_f1"].value),
                accuracy=_rounded(metrics["accuracy"].value),
                student=kind,
                labels=noise,
                labels_wrong=round(wrong, 4),
                train=train.height,
                seconds=round(trained, 1),
            )


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def flipped(train: pl.DataFrame, share: float, seed: int = 0) -> list[str]:
    """Labels of which a share is replaced by another label of the set, each as likely."""
    generator = np.random.default_rng(seed)
    names = sorted(set(train["label"]))
    labels = train["label"].to_list()
    for row in generator.permutation(len(labels))[: round(share * len(labels))]:
        others = [name for name in names if name != labels[row]]
        labels[row] = others[generator.integers(len(others))]
    return labels


def embedded_labels(task: Task, train: pl.DataFrame, embedder: Embedder) -> list[str]:
    """What the embedded annotator says, shown 300 of the training sentences with people's labels."""
    from annotation_pipelines.annotators.embedded.relations import RelationsAnswerer

    shown = train[np.random.default_rng(0).permutation(train.height)[:300]]
    answerer = RelationsAnswerer(EmbeddedAnnotator(), task, shown, embedder)
    return [
        answer["label"]
        for start in range(0, train.height, 512)
        for answer in answerer.answers(train[start : start + 512])
    ]


def fine_tuned(bench: Bench, found: list[Split]) -> None:
    """The fine-tuned student on the same labels as the linear one."""
    began, values = time.monotonic(), []
    for split in found:
        *_, (silver, _) = bench.bought(split, STRATEGY, STUDENT)
        student = bench.student(split.examples(silver), split.seed, {**STUDENT, "student": "fine_tuned"})
        values.append(float(bench.right(student, split).mean()))
    over_seeds(
        "semeval_student_accuracy_fine_tuned", values, strategy=STRATEGY, seconds=round(time.monotonic() - began, 1)
    )


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=SEEDS, help="how many seeds (default 5)")
    parser.add_argument("--only", choices=("teacher", "gold"), help="one half of the figures")
    parser.add_argument("--heavy", action="store_true", help="fine-tuned students and embedded labels too")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        embedder = Embedder(Path(folder), Encoder())
        found = splits(range(FIRST_SEED, FIRST_SEED + asked.seeds))
        types = sorted(set(found[0].pool["gold"]) - {"Other"})
        bench = Bench(Relations(types=dict.fromkeys(types, ""), directed=False).make(), embedder)
        if asked.only != "teacher":
            whole_task(embedder, heavy=asked.heavy)
        if asked.only != "gold":
            if asked.heavy:
                fine_tuned(bench, found[:1])
            beside_the_teacher(bench, found)


if __name__ == "__main__":
    main()
