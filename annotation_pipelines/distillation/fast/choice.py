"""Which way a student's texts are encoded: what is fastest on this machine, of the ways that are no worse.

Two things are measured, once, and kept beside the exported graphs in trial.json: how fast each way is on this machine
(texts a second on records of the project, the ways taking turns), and, for each model, what it says of records when its
vectors come another way. A way is *no worse* when

- on records of the pool it gives the label that the model gives on float32 vectors by torch, in 98 of 100 or more;
- its confidence differs by 0.02 on average at most;
- on gold that is not held out, where there are 50 labels or more, it is right in no fewer than half a point less.

Held-out gold is never looked at. The vectors of other ways are used to predict and never kept: training, selection and
the cache see float32 vectors only.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from filelock import FileLock

from annotation_pipelines.content import readable
from annotation_pipelines.distillation.embedding import TextEncoder
from annotation_pipelines.distillation.encoder import Encoder
from annotation_pipelines.distillation.fast.export import CannotExport, export_encoder
from annotation_pipelines.distillation.fast.graph import Graph, Weights, threads
from annotation_pipelines.distillation.students.base import Predicted
from annotation_pipelines.errors import MissingExtra

FLOAT32, BFLOAT16 = "torch-float32", "torch-bfloat16"
GRAPHS: dict[str, Weights] = {
    "onnx-int8": "int8",
    "onnx-int8-blocks": "int8-blocks",
    "onnx-float32": "float32",
}

LEAST_AGREEMENT = 0.98
MOST_APART = 0.02
MOST_LOST = 0.005
FEWEST_TEXTS, FEWEST_GOLD = 100, 50
WORTH = 5_000
"""Texts to be encoded for which a trial, of half a minute, is worth its time."""

_TRIAL_FILE = "trial.json"
_FORMAT = 1
_FASTER = 1.15
_TIMED, _TURNS = 96, 3


@dataclass(frozen=True)
class Comparison:
    """A model on vectors that come another way, beside the same model on float32 vectors by torch.

    Attributes:
        agreement: The share of the texts of which both say the same.
        apart: The mean difference of their confidence.
        lost: Accuracy on gold lost; None with less than 50 gold labels.
        texts: How many texts they were compared on, gold included.
    """

    agreement: float
    apart: float
    lost: float | None
    texts: int

    @property
    def no_worse(self) -> bool:
        """Whether it lies within the tolerances of this module."""
        return (
            self.agreement >= LEAST_AGREEMENT
            and self.apart <= MOST_APART
            and (self.lost is None or self.lost <= MOST_LOST)
        )


@dataclass
class Trial:
    """What was measured on one machine: texts a second of each way, and the comparisons of each model and way."""

    machine: str
    per_second: dict[str, float] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    compared: dict[str, dict[str, Comparison]] = field(default_factory=dict)

    def faster(self) -> list[str]:
        """The ways that are faster than torch with float32, the fastest first."""
        least = _FASTER * self.per_second.get(FLOAT32, float("inf"))
        return sorted(
            (way for way, speed in self.per_second.items() if speed > least), key=self.per_second.__getitem__
        )[::-1]


@dataclass(frozen=True)
class Choice:
    """What encodes, and why, in words."""

    way: str
    by: TextEncoder
    why: str


class Ways:
    """The ways to encode by one encoder, in a project's storage.

    Args:
        home: The project's storage folder.
        encoder: With float32 vectors.
        announce: Told that measuring begins.
    """

    def __init__(self, home: Path, encoder: Encoder, announce: Callable[[str], None] | None = None) -> None:
        self.encoder, self.folder = encoder, home / "fast" / encoder.id
        self._announce = announce or logging.getLogger(__name__).info

    @cached_property
    def machine(self) -> str:
        """What decides how fast a way is: processor, threads, and the versions of what computes."""
        versions = []
        for package in ("torch", "onnxruntime", "sentence-transformers"):
            try:
                versions.append(f"{package} {metadata.version(package)}")
            except metadata.PackageNotFoundError:
                versions.append(f"no {package}")
        return ", ".join([_processor(), f"{threads()} threads", self.encoder.device, *versions])

    def trial(self) -> Trial | None:
        """What was measured on this machine, if it was."""
        try:
            given = json.loads((self.folder / _TRIAL_FILE).read_text(encoding="utf-8"))
            if given["format"] != _FORMAT or given["machine"] != self.machine:
                return None
            compared = {
                version: {way: Comparison(**figures) for way, figures in ways.items()}
                for version, ways in given["compared"].items()
            }
            return Trial(given["machine"], dict(given["per_second"]), dict(given["left_out"]), compared)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def measure(self, texts: Sequence[str]) -> Trial:
        """Export the graphs where they are missing, and time every way on the same texts.

        Args:
            texts: Texts of the project; 96 of them are encoded.

        Raises:
            DeclarationError: The encoder cannot be loaded.
            OSError: The storage cannot be written.
        """
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder.parent / f".{self.folder.name}.lock"):
            known = self.trial()
            if known is not None:
                return known
            self._announce("measuring faster ways to encode texts on this machine: about half a minute, once")
            trial = Trial(self.machine)
            encoders: dict[str, TextEncoder] = {FLOAT32: self.encoder}
            if _has_bfloat16(self.encoder):
                encoders[BFLOAT16] = self.by(BFLOAT16)
            try:
                encoders |= self._graphs()
            except (CannotExport, MissingExtra) as problem:
                trial.left_out["onnx"] = str(problem)
            trial.per_second = _timed(encoders, list(texts)[:_TIMED])
            self._keep(trial)
            return trial

    def _graphs(self) -> dict[str, TextEncoder]:
        """The graphs, exported where they are missing or damaged."""
        try:
            return {way: self.by(way) for way in GRAPHS}
        except (OSError, ValueError, KeyError):
            export_encoder(self.encoder, self.folder)
        try:
            return {way: self.by(way) for way in GRAPHS}
        except (ValueError, KeyError) as problem:
            raise CannotExport(f"the graph cannot be read ({problem})") from None

    def enter(self, trial: Trial, version: str, way: str, figures: Comparison) -> None:
        """Keep how a model fares on the vectors of a way."""
        trial.compared.setdefault(version, {})[way] = figures
        self._keep(trial)

    def by(self, way: str) -> TextEncoder:
        """What encodes in a way.

        Raises:
            MissingExtra: onnxruntime is not installed.
            OSError, ValueError, KeyError: The graph was not exported, or is damaged.
        """
        if way == FLOAT32:
            return self.encoder
        if way == BFLOAT16:
            return Encoder(self.encoder.name, precision="bfloat16", device=self.encoder.device)
        return Graph(self.folder, self.encoder.id, GRAPHS[way])

    def _keep(self, trial: Trial) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        document = {
            "format": _FORMAT,
            "machine": trial.machine,
            "per_second": trial.per_second,
            "left_out": trial.left_out,
            "compared": {
                version: {way: vars(figures) for way, figures in ways.items()}
                for version, ways in trial.compared.items()
            },
        }
        temporary = self.folder / f".{_TRIAL_FILE}.{os.getpid()}.tmp"
        temporary.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
        temporary.replace(self.folder / _TRIAL_FILE)


def choose(
    ways: Ways,
    version: str,
    pool: Callable[[], pl.DataFrame],
    predicted: Callable[[pl.DataFrame, TextEncoder | None], Predicted],
    *,
    wanted: int,
) -> Choice:
    """The fastest way that is no worse for a model; torch with float32 where there is none, or no time for a trial.

    Args:
        version: The model's.
        pool: Gives content_hash, content and gold (null for most) of records to try it on.
        predicted: What the model says of such rows, on vectors by an encoder; None: on float32 vectors, cached or not.
        wanted: How many texts are to be encoded; with fewer than 5,000, and nothing measured yet, there is no trial.
    """

    def stay(why: str) -> Choice:
        return Choice(FLOAT32, ways.encoder, why)

    trial = ways.trial()
    rows: pl.DataFrame | None = None
    if trial is None:
        if wanted < WORTH:
            return stay("faster ways are not measured on this machine yet, and these are few texts")
        rows = pool()
        if rows.height < FEWEST_TEXTS:
            return stay(f"there are fewer than {FEWEST_TEXTS} records to measure faster ways on")
        try:
            trial = ways.measure([readable(text) for text in rows["content"]])
        except OSError as problem:
            return stay(f"faster ways cannot be measured ({problem})")
    without = f"; ONNX: {trial.left_out['onnx']}" if "onnx" in trial.left_out else ""
    worse = []
    for way in trial.faster():
        try:
            by = ways.by(way)
            if way not in trial.compared.get(version, {}):
                rows = pool() if rows is None else rows
                if rows.height < FEWEST_TEXTS:
                    return stay(f"there are fewer than {FEWEST_TEXTS} records to compare faster ways on")
                ways.enter(trial, version, way, _compare(rows, by, predicted))
            compared = trial.compared[version][way]
        except (MissingExtra, OSError, ValueError, KeyError) as problem:
            worse.append(f"{way} cannot be used ({problem})")
            continue
        if compared.no_worse:
            times = trial.per_second[way] / trial.per_second[FLOAT32]
            return Choice(
                way,
                by,
                f"{times:.1f} times as fast as {FLOAT32} on this machine, and the same label for "
                f"{compared.agreement:.1%} of {compared.texts:,} records{without}",
            )
        worse.append(f"{way} is worse: the same label for {compared.agreement:.1%} of {compared.texts:,} records")
    return stay(("; ".join(worse) or "no way is faster on this machine") + without)


def _compare(
    rows: pl.DataFrame, by: TextEncoder, predicted: Callable[[pl.DataFrame, TextEncoder | None], Predicted]
) -> Comparison:
    plain, fast = predicted(rows, None), predicted(rows, by)
    same = np.array([a == b for a, b in zip(plain.labels, fast.labels, strict=True)])
    gold = rows["gold"].to_list()
    measured = [row for row, label in enumerate(gold) if label is not None]
    lost = None
    if len(measured) >= FEWEST_GOLD:
        right = [sum(said.labels[row] == gold[row] for row in measured) for said in (plain, fast)]
        lost = (right[0] - right[1]) / len(measured)
    return Comparison(
        agreement=float(same.mean()),
        apart=float(np.abs(plain.confidence - fast.confidence).mean()),
        lost=lost,
        texts=len(same),
    )


def _timed(encoders: dict[str, TextEncoder], texts: list[str]) -> dict[str, float]:
    """Texts a second of each way: the median of several turns, after one that loads."""
    seconds: dict[str, list[float]] = {way: [] for way in encoders}
    for turn in range(_TURNS + 1):
        for way, by in encoders.items():
            start = time.perf_counter()
            by.encode(texts if turn else texts[:8])
            if turn:
                seconds[way].append(time.perf_counter() - start)
    return {way: round(len(texts) / statistics.median(found), 1) for way, found in seconds.items()}


def _has_bfloat16(encoder: Encoder) -> bool:
    """Whether the device computes in bfloat16; a processor that does not is many times slower with it."""
    import torch

    if encoder._model().device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    supported: Any = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return bool(supported and supported())


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        named = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
        return " ".join(f"{named['model name']} {named.get('model', '')}".split())
    except (OSError, KeyError):
        return platform.processor() or platform.machine()
