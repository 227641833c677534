"""Students for entities and for preferences on real data: trained on gold, and on labels that are wrong in stated ways.

WNUT-17 (3,394 training sentences, 1,287 test sentences of later, emerging names), strict F1 on the test sentences with
95% bootstrap intervals over sentences:

- `wnut17_strict_f1`: trained on all gold, the ceiling;
- `wnut17_teacher_strict_f1`: the embedded annotator with 300 gold demonstrations; five draws of them;
- `wnut17_silver_strict_f1`: trained on these 300 and on what the annotator says of all other sentences; likewise with
  every robust switch that is named in the figure's context;
- `wnut17_few_strict_f1`: trained on the 300 alone;
- `wnut17_corrupted_strict_f1`: trained on gold that was corrupted at random: of the entities 15% are dropped, 10% get
  another type and 10% another border, and 15% of the sentences get an entity that is none; plain, and reweighted by 300
  sentences that were left as they are.

PandaLM (999 pairs of responses, three people), `pandalm_student_accuracy`: gold is what two of three people prefer, the
split is by instruction, so that no prompt of a test pair was seen; beside it the majority class, the longer response,
and one person against what the other two agree on. Five draws of the split.

Means over five seeds, with 95% t-intervals. `--fine-tuned` trains the encoder too (slow on a CPU), `--seeds N` takes
fewer. Each sentence is read by the frozen encoder once, for all students.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import polars as pl
from _common import ROOT, figure

sys.path.insert(0, str(ROOT))

from annotation_pipelines import project
from annotation_pipelines.annotators.base import Turn
from annotation_pipelines.annotators.embedded.annotator import EmbeddedAnnotator
from annotation_pipelines.content import Content
from annotation_pipelines.distillation import token_vectors
from annotation_pipelines.distillation.embedding import Embedder, Uncached
from annotation_pipelines.distillation.encoder import Encoder
from annotation_pipelines.distillation.students.base import Examples
from annotation_pipelines.distillation.students.registry import student_class
from annotation_pipelines.distillation.tagging import text_units
from annotation_pipelines.distillation.tagging.words import units
from annotation_pipelines.project import Distillation
from annotation_pipelines.tasks.base import Annotation
from annotation_pipelines.tasks.entities import Entities, EntitiesTask
from annotation_pipelines.tasks.preference import Preference
from annotation_pipelines.tasks.spans import TypedSpan, labelled_spans, spans_label

DATA = Path(__file__).parent / "data"
TYPES = ("person", "location", "corporation", "product", "creative-work", "group")
DEMONSTRATIONS = 300
DROPPED, RETYPED, MOVED, MADE_UP = 0.15, 0.10, 0.10, 0.15
T_QUANTILES = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}
ROBUST: dict[str, dict[str, Any]] = {
    "plain": {"soft_labels": "none", "weights": "confidence"},
    "reweighted": {"soft_labels": "none", "weights": "confidence", "reweight": True},
    "corrected": {"soft_labels": "corrected", "weights": "audit"},
}

task = EntitiesTask(Entities(types=dict.fromkeys(TYPES, "a name")))


class Reader:
    """Reads each text with the frozen encoder once: students and annotators of all seeds share the vectors."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self.known: dict[str, np.ndarray] = {}
        self._read = token_vectors.span_vectors
        text_units.span_vectors = self.span_vectors

    def span_vectors(self, encoder: Encoder, texts: Sequence[str], spans: Sequence[Any]) -> list[np.ndarray]:
        new = [text for text in dict.fromkeys(texts) if text not in self.known]
        for text, vectors in zip(new, self._read(encoder, new, [units(text) for text in new]), strict=True):
            self.known[text] = vectors.astype(np.float16)
        return [self.known[text].astype(np.float32) for text in texts]


class Remembering(Encoder):
    """An encoder that encodes each text once, for all students."""

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[str, np.ndarray] = {}

    def encode(self, texts: Sequence[str], progress: Any = None) -> np.ndarray:
        new = [text for text in dict.fromkeys(texts) if text not in self.known]
        self.known |= dict(zip(new, super().encode(new), strict=True))
        return np.stack([self.known[text] for text in texts])


def over_seeds(values: Sequence[float]) -> dict[str, Any]:
    """Mean and 95% t-interval over seeds."""
    if len(values) < 2:
        return {"mean": values[0], "seeds": len(values)}
    half = T_QUANTILES.get(len(values), 2.0) * stdev(values) / len(values) ** 0.5
    mean = fmean(values)
    return {"mean": mean, "lower": round(mean - half, 4), "upper": round(mean + half, 4), "seeds": len(values)}


def strict(gold: pl.Series, given: Sequence[str | None]) -> dict[str, tuple[float, float, float]]:
    """Every metric over all types: value and interval."""
    return {
        metric.metric: (round(metric.value or 0, 4), round(metric.lower or 0, 4), round(metric.upper or 0, 4))
        for metric in task.measure(gold.to_list(), given)
        if not metric.label
    }


def examples(rows: pl.DataFrame, audit: pl.DataFrame | None = None) -> Examples:
    """Rows of id, text, label, origin and weight as what there is to learn from."""
    return Examples.of(
        rows.select(
            record_id="id", content_hash="text", content="text", label="label", origin="origin", weight="weight"
        ),
        audit,
    )


def trained(kind: str, told: Examples, test: pl.DataFrame, vectors: Uncached, seed: int, **robust: Any) -> list[str]:
    """What a student says of the test sentences."""
    config = Distillation.model_validate({"student": kind, "seed": seed, "robust": robust})
    student = student_class(task, kind)(task, config).fit(told, vectors)
    return student.predict(test.select(content_hash="text", content="text"), vectors).labels


def annotated(records: pl.DataFrame, shown: pl.DataFrame, embedder: Embedder) -> pl.DataFrame:
    """The embedded annotator's label and confidence for each record; a demonstration does not answer for itself."""
    annotator = EmbeddedAnnotator(project.EmbeddedAnnotator(), task, "", named(shown), embedder)
    rows = []
    for reply in annotator.annotate(annotator.requests(named(records))):
        ended = annotator.proceed([Turn(reply.request, reply.status, reply.text)])
        assert isinstance(ended, Annotation)
        rows.append((ended.label, ended.confidence))
    return records.with_columns(
        given=pl.Series([label for label, _ in rows], dtype=pl.String),
        confidence=pl.Series([confidence for _, confidence in rows], dtype=pl.Float64),
    )


def named(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows with the columns that annotators know."""
    return rows.select(record_id="id", content_hash="text", content="text", label="label")


def corrupted(text: str, label: str, generator: np.random.Generator) -> str:
    """A label that is wrong as the head of this file says."""
    spans = units(text)
    kept: list[TypedSpan] = []
    for entity in labelled_spans(label):
        chance, kind, end = generator.random(), entity.type, entity.end
        if chance < DROPPED:
            continue
        if chance < DROPPED + RETYPED:
            kind = str(generator.choice([other for other in TYPES if other != kind]))
        elif chance < DROPPED + RETYPED + MOVED:
            following = [span.end for span in spans if span.start >= end]
            inner = [span.end for span in spans if entity.start < span.end < end]
            end = inner[-1] if inner and (not following or generator.random() < 0.5) else (following or [end])[0]
        kept.append(TypedSpan(entity.start, end, kind))
    if spans and generator.random() < MADE_UP:
        span = spans[generator.integers(len(spans))]
        kept.append(TypedSpan(span.start, span.end, str(generator.choice(TYPES))))
    apart: list[TypedSpan] = []
    for span in sorted(kept):
        if not apart or not span.overlaps(apart[-1]):
            apart.append(span)
    return spans_label(text, apart)


def wnut17(kinds: Sequence[str], seeds: int) -> None:
    """Print the figures of WNUT-17."""
    rows = pl.read_parquet(DATA / "wnut17" / "wnut17.parquet")
    train, test = (rows.filter(pl.col("split") == split) for split in ("train", "test"))
    held_out = set(test["text"])
    train = train.filter(~pl.col("text").is_in(held_out))
    vectors = Uncached(Reader(Encoder()).encoder)
    for kind in kinds:
        start = time.perf_counter()
        gold = examples(train.with_columns(origin=pl.lit("gold"), weight=pl.lit(1.0)))
        found = strict(test["label"], trained(kind, gold, test, vectors, 0))
        seconds = round(time.perf_counter() - start, 1)
        report(
            "wnut17_strict_f1",
            kind,
            found["f1"][0],
            labels="gold",
            train=train.height,
            test=test.height,
            seconds=seconds,
            metrics=found,
        )
        noisy(kind, train, test, vectors, seeds)


def noisy(kind: str, train: pl.DataFrame, test: pl.DataFrame, vectors: Uncached, seeds: int) -> None:
    """Print what labels that are wrong come to."""
    scores: dict[str, list[float]] = {}
    noise: dict[str, list[float]] = {"silver": [], "corrupted": []}
    for seed in range(seeds):
        shown = train.sample(DEMONSTRATIONS, seed=seed)
        others = train.join(shown, on="text", how="anti")
        with tempfile.TemporaryDirectory() as home:
            embedder = Embedder(Path(home), vectors.encoder)
            said = annotated(pl.concat([shown, others, test]), shown, embedder)
        audit = said[: shown.height].select(
            content_hash="text", content="text", label="label", given="given", confidence="confidence"
        )
        silver = said[shown.height : shown.height + others.height]
        teacher = said[shown.height + others.height :]
        scores.setdefault("teacher", []).append(strict(test["label"], teacher["given"].to_list())["f1"][0])
        noise["silver"].append(strict(silver["label"], silver["given"].to_list())["f1"][0])
        people = shown.with_columns(origin=pl.lit("gold"), weight=pl.lit(1.0))
        scores.setdefault("few", []).append(
            strict(test["label"], trained(kind, examples(people), test, vectors, seed))["f1"][0]
        )
        columns = ["id", "text", "label", "origin", "weight"]
        labelled = silver.with_columns(
            label=pl.col("given"), origin=pl.lit("silver"), weight=pl.col("confidence").clip(0.05, 1)
        )
        generator = np.random.default_rng(seed)
        wrong = [corrupted(text, label, generator) for text, label in others.select("text", "label").iter_rows()]
        noise["corrupted"].append(strict(others["label"], wrong)["f1"][0])
        broken = others.with_columns(label=pl.Series(wrong), origin=pl.lit("silver"), weight=pl.lit(1.0))
        for name, robust in ROBUST.items():
            told = examples(pl.concat([people.select(columns), labelled.select(columns)]), audit)
            scores.setdefault(f"silver {name}", []).append(
                strict(test["label"], trained(kind, told, test, vectors, seed, **robust))["f1"][0]
            )
            if name != "corrected":
                told = examples(pl.concat([people.select(columns), broken.select(columns)]))
                scores.setdefault(f"corrupted {name}", []).append(
                    strict(test["label"], trained(kind, told, test, vectors, seed, **robust))["f1"][0]
                )
    stated = {
        "silver": {
            "labels": "embedded annotator, 300 demonstrations",
            "strict_f1_of_labels": over_seeds(noise["silver"]),
        },
        "corrupted": {
            "labels": "gold, corrupted at random",
            "strict_f1_of_labels": over_seeds(noise["corrupted"]),
            "dropped": DROPPED,
            "retyped": RETYPED,
            "moved": MOVED,
            "made_up_per_sentence": MADE_UP,
        },
    }
    for name, values in scores.items():
        labels, _, robust = name.partition(" ")
        spread = over_seeds(values)
        context = {**stated.get(labels, {}), **({"robust": robust} if robust else {}), "over_seeds": spread}
        report(f"wnut17_{labels}_strict_f1", kind, spread["mean"], test=test.height, **context)


def pandalm(kinds: Sequence[str], seeds: int) -> None:
    """Print the figures of PandaLM."""
    preference = Preference().make()
    rows = pl.read_parquet(DATA / "pandalm" / "pandalm.parquet")
    parts = ("instruction", "input", "response_a", "response_b")
    votes = rows.select("person1", "person2", "person3").rows()
    rows = rows.with_columns(
        content=pl.Series([Content.of_parts(row).stored for row in rows.select(parts).iter_rows(named=True)]),
        label=pl.Series([Counter(three).most_common(1)[0][0] for three in votes]),
        origin=pl.lit("gold"),
        weight=pl.lit(1.0),
    )
    vectors = Uncached(Remembering())
    instructions = sorted(set(rows["instruction"]))
    for kind in kinds:
        found: dict[str, list[float]] = {}
        for seed in range(seeds):
            drawn = np.random.default_rng(seed).permutation(len(instructions))[: round(0.3 * len(instructions))]
            chosen = {instructions[place] for place in drawn}
            test = rows.filter(pl.col("instruction").is_in(chosen))
            train = rows.filter(~pl.col("instruction").is_in(chosen))
            told = Examples.of(
                train.select("content", "label", "origin", "weight", record_id="id", content_hash="content")
            )
            for length in (True, False):
                config = Distillation(student=kind, seed=seed, length=length)  # type: ignore[arg-type]
                student = student_class(preference, kind)(preference, config).fit(told, vectors)
                said = student.predict(test.select("content", content_hash="content"), vectors).labels
                share(found, "with length" if length else "without length", test["label"], said)
            share(found, "majority class", test["label"], [train["label"].mode().sort()[0]] * test.height)
            longer = [
                "A" if a >= b else "B"
                for a, b in test.select(pl.col("response_a", "response_b").str.len_chars()).iter_rows()
            ]
            share(found, "longer response", test["label"], longer)
            agreed = test.filter(pl.col("person1") == pl.col("person2"))
            share(found, "third person on what two agree on", agreed["person1"], agreed["person3"].to_list())
        report(
            "pandalm_student_accuracy",
            kind,
            fmean(found["with length"]),
            pairs=rows.height,
            instructions=len(instructions),
            **{name.replace(" ", "_"): over_seeds(values) for name, values in found.items()},
        )


def share(found: dict[str, list[float]], name: str, gold: pl.Series, given: Sequence[str]) -> None:
    found.setdefault(name, []).append(float(np.mean([a == b for a, b in zip(gold, given, strict=True)])))


def report(name: str, kind: str, value: float, **context: object) -> None:
    figure(name, round(value, 4), "share", student=kind, **context)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--fine-tuned", action="store_true", help="train students whose encoder learns too")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", choices=("wnut17", "pandalm"))
    options = parser.parse_args()
    chosen_kinds = ["linear", *(["fine_tuned"] if options.fine_tuned else [])]
    if options.only != "wnut17":
        pandalm(["linear"], options.seeds)
    if options.only != "pandalm":
        wnut17(chosen_kinds, options.seeds)
