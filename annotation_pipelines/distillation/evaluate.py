"""Hold teacher and student against gold that no training step saw, try how the student behaves, and decide on it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import polars as pl

from annotation_pipelines.distillation.behaviour import Behaviour, Check
from annotation_pipelines.distillation.card import write_card
from annotation_pipelines.distillation.embedding import Embedder
from annotation_pipelines.distillation.evaluation import learning_curve
from annotation_pipelines.distillation.evaluation.beside import (
    TEACHER,
    against_teacher,
    beside_teacher,
    gain,
    reliability_bins,
    student_rows,
    teacher_rows,
    teacher_slice_rows,
)
from annotation_pipelines.distillation.evaluation.cost import Cost, spent
from annotation_pipelines.distillation.evaluation.gold import EVALUATION, MONITOR, answers, read_gold, unseen
from annotation_pipelines.distillation.evaluation.retrained import BASELINES, GAIN, baseline_gain, retrained_rows
from annotation_pipelines.distillation.evaluation.rows import EvaluationRow, frame
from annotation_pipelines.distillation.prediction import load_model
from annotation_pipelines.distillation.promotion import Decision, decide
from annotation_pipelines.distillation.registry import Model, ModelRegistry
from annotation_pipelines.distillation.students.files import read_card, trained_on
from annotation_pipelines.errors import AnnotationPipelinesError
from annotation_pipelines.project import Project
from annotation_pipelines.store.database import Store
from annotation_pipelines.store.schema import MODEL_CHECKS, MODEL_EVALUATION, UNPARTITIONED
from annotation_pipelines.tasks.metrics.bootstrap import Difference

__all__ = ["EVALUATION", "MONITOR", "TEACHER", "Evaluation", "evaluate"]

_TEXTS = """
SELECT content FROM records WHERE deleted_at IS NULL ORDER BY md5(content_hash), content LIMIT ?
"""
# What was measured when the model was new stays: it is not trained again for each evaluation.
_KEPT = f"starts_with(slice, '{learning_curve.SLICE}') OR contains(metric, '{GAIN}')"
_EVALUATED = "SELECT * EXCLUDE evaluated_at FROM model_evaluation WHERE model_version = ? ORDER BY ALL"


@dataclass(frozen=True)
class Evaluation:
    """How student and teacher stand, and what became of the candidate.

    Attributes:
        version: The student that was evaluated; None where there is none.
        champion: The champion afterwards.
        decision: What became of the candidate, in words.
        records: Gold records that the student was measured on: those that it was not trained on.
        left_out: Further gold records that were not compared, because the student or the earlier champion was trained
            on them, or on texts that say nearly the same.
        metrics: Rows of model_evaluation without the time, of the student, an earlier champion, the teacher, and what
            there would be without the annotator.
        against_teacher: The student's main metric less the teacher's, on the gold that both labelled.
        against_champion: The candidate's main metric less the earlier champion's.
        checks: How the student behaves.
        cost: What the labels cost, and what that bought.
        headline: The task's main metric.
        labels: Labels that the student was trained on.
    """

    version: str | None
    champion: str | None
    decision: str
    records: int
    left_out: int
    metrics: pl.DataFrame
    against_teacher: Difference | None
    against_champion: Difference | None
    checks: Sequence[Check] = ()
    cost: Cost = field(default_factory=lambda: Cost(None))
    headline: str = "accuracy"
    labels: int = 0

    @property
    def _main(self) -> list[str]:
        return list(dict.fromkeys([self.headline, "macro_f1"]))

    @property
    def student_holds(self) -> bool:
        """Whether the student is not worse than the teacher beyond chance; true where they cannot be compared."""
        return self.against_teacher is None or not self.against_teacher.worse

    @property
    def verdict(self) -> str:
        """How the student stands beside the teacher, in words."""
        if self.version is None:
            return "there is no student yet"
        if self.against_teacher is None:
            return "there is no gold that both student and teacher labelled and no training step saw"
        return f"student less teacher on {self.against_teacher.records} held-out records: {self.against_teacher}"

    @property
    def curve(self) -> pl.DataFrame:
        """The student with fewer labels: labels, value, lower, upper, records; fewest first."""
        return learning_curve.points(self.metrics, self.version or "", self.headline)

    @property
    def reliability(self) -> pl.DataFrame:
        """The student's confidence against its share of right answers: n, mean_confidence, accuracy; one row a bin."""
        return reliability_bins(self.metrics, self.version or "")

    def value(self, model: str | None, metric: str, split: str = EVALUATION) -> float | None:
        """A metric over all labels and records; None where it was not measured."""
        if model is None:
            return None
        row = self.metrics.filter(
            (pl.col("model_version") == model)
            & (pl.col("split") == split)
            & (pl.col("slice") == "")
            & (pl.col("metric") == metric)
            & (pl.col("label") == "")
        )
        return row["value"][0] if len(row) else None

    def facts(self) -> dict[str, float | int | str | None]:
        """The main figures by name."""
        return {
            "version": self.version,
            "champion": self.champion,
            "decision": self.decision,
            "records": self.records,
            "left_out": self.left_out,
            **{f"student_{name}": self.value(self.version, name) for name in self._main},
            **{f"teacher_{name}": self.value(TEACHER, name) for name in self._main},
            f"teacher_{self.headline}_on_stream": self.value(TEACHER, self.headline, MONITOR),
            "student_ece": self.value(self.version, "ece"),
            "student_brier": self.value(self.version, "brier"),
            "checks_failed": sum(not check.passed for check in self.checks),
            **self.cost.facts(),
            "verdict": self.verdict,
        }


@dataclass(frozen=True)
class _Measured:
    """A model on the gold that it was not trained on.

    Attributes:
        both: Its answers, and the teacher's where it was asked.
        checks: How it behaves.
    """

    model: Model
    both: pl.DataFrame
    checks: Sequence[Check]

    @property
    def failed(self) -> list[Check]:
        return [check for check in self.checks if not check.passed]


class _Bench:
    """Measures one model after another, in the same way.

    Args:
        gold, teacher: As `read_gold` gives.
    """

    def __init__(
        self, store: Store, project: Project, embedder: Embedder, gold: pl.DataFrame, teacher: pl.DataFrame
    ) -> None:
        self.store, self.project, self.embedder = store, project, embedder
        self.gold, self.teacher = gold, teacher
        self.registry = ModelRegistry(store)
        wanted = project.declaration.promotion
        self.behaviour = Behaviour(project.task, self._texts(wanted.texts), wanted.expect)

    def measure(self, model: Model) -> _Measured:
        folder, task = self.registry.folder(model.version), self.project.task
        ready, again = (load_model(self.registry, model, task, self.embedder) for _ in range(2))
        card, learned = read_card(folder), trained_on(folder)
        both = beside_teacher(answers(ready, unseen(self.store, self.gold, folder, card)), self.teacher)
        checks = self.behaviour.check(
            ready,
            again,
            [] if learned is None else learned["label"].to_list(),
            (both["answer"] == both["label"]).to_list(),
            both["confidence"].to_numpy(),
            seed=self.project.declaration.distillation.seed,
        )
        return _Measured(model, both, checks)

    def _texts(self, number: int) -> list[str]:
        """Some live records, always the same of the same records; gold where there are too few."""
        texts = self.store.query(_TEXTS, [number])["content"].to_list() if number else []
        return [*texts, *self.gold["content"].head(max(0, number - len(texts)))]


def evaluate(store: Store, project: Project, embedder: Embedder, *, run_id: str | None = None) -> Evaluation:
    """Measure the candidate (or, without one, the champion) and the teacher, and decide on the candidate.

    Every student is measured on the gold records that it was not trained on: neither on the record nor on a text that
    says the same or nearly the same. What becomes of the candidate is decided by `promotion.decide`, on the gold that
    neither it nor the champion was trained on, and by the behavioural checks.

    Raises:
        StoreCorrupted: The candidate's files are missing or damaged.
        DeclarationError: The encoder cannot be loaded.
    """
    task, seed = project.task, project.declaration.distillation.seed
    gold, teacher = read_gold(store, project)
    bench = _Bench(store, project, embedder, gold, teacher)
    registry = bench.registry
    candidate, champion = registry.candidate(), registry.champion()
    student = candidate or champion
    measured: dict[str, _Measured] = {}
    if student is not None:
        measured[student.version] = bench.measure(student)
    unusable = ""
    if candidate is not None and champion is not None:
        try:
            measured[champion.version] = bench.measure(champion)
        except AnnotationPipelinesError as error:
            unusable = f"the champion {champion.version} cannot be used any more: {error.problem}"
            logging.getLogger(__name__).warning("%s", unusable)
    own = measured[student.version] if student else None
    found = [row for each in measured.values() for row in student_rows(each.model.version, each.both, task, seed=seed)]
    found += [row for split in (EVALUATION, MONITOR) for row in teacher_rows(teacher, split, task, seed=seed)]
    if own is not None:
        found += teacher_slice_rows(own.both, task, seed=seed)
    if candidate is not None and own is not None:
        found += retrained_rows(store, project, embedder, candidate, own.both)
    left_out = gold.height - own.both.height if own else 0
    against_champion, other = None, None
    if candidate is not None and champion is not None and champion.version in measured:
        other = measured[champion.version]
        against_champion = _against_champion(measured[candidate.version], other, project)
        left_out = gold.height - (against_champion.records if against_champion else 0)
    decision = decide(
        candidate,
        champion,
        against_champion,
        margin=project.declaration.promotion.margin,
        records=gold.height,
        left_out=left_out,
        unusable=unusable,
        failed=own.failed if own else (),
        champion_failed=[check.name for check in (other.failed if other else ())],
    )
    after = _carry_out(registry, candidate, decision)
    _keep(store, found, measured, run_id)
    metrics = _all_rows(store, student, found)
    evaluation = Evaluation(
        version=student.version if student else None,
        champion=after.version if after else None,
        decision=decision.words,
        records=own.both.height if own else 0,
        left_out=left_out,
        metrics=metrics,
        against_teacher=against_teacher(own.both, task, seed=seed) if own else None,
        against_champion=against_champion,
        checks=own.checks if own else (),
        cost=Cost(spent(store), *baseline_gain(metrics, student.version if student else "", task.headline)),
        headline=task.headline,
        labels=student.silver + student.gold if student else 0,
    )
    with store.transaction() as con:
        store.record_stage(con, MODEL_EVALUATION.name, UNPARTITIONED, evaluation.facts(), run_id)
    for version in measured:
        write_card(store, project, version)
    return evaluation


def _against_champion(candidate: _Measured, champion: _Measured, project: Project) -> Difference | None:
    both = candidate.both.select("record_id", "label", "answer").join(
        champion.both.select("record_id", given="answer"), on="record_id", maintain_order="left"
    )
    truth, first, second = (both[name].to_list() for name in ("label", "answer", "given"))
    return gain(project.task, truth, first, second, seed=project.declaration.distillation.seed)


def _carry_out(registry: ModelRegistry, candidate: Model | None, decision: Decision) -> Model | None:
    """Do what was decided; the champion afterwards."""
    if candidate is not None:
        act = {"promoted": registry.promote, "rejected": registry.reject, "waits": registry.hold}[decision.verdict]
        act(candidate.version, decision.why)
    return registry.champion()


def _all_rows(store: Store, student: Model | None, found: Sequence[EvaluationRow]) -> pl.DataFrame:
    """What was measured now, and of the student also what was measured when it was new."""
    now = frame(found)
    if student is None:
        return now
    stored = store.query(_EVALUATED, [student.version]).select(now.columns)
    others = now.filter(pl.col("model_version") != student.version)
    return pl.concat([stored, others])


def _keep(store: Store, found: Sequence[EvaluationRow], measured: dict[str, _Measured], run_id: str | None) -> None:
    now = datetime.now(UTC)
    rows = frame(found).with_columns(evaluated_at=pl.lit(now))
    checks = [
        (version, check.name, check.passed, check.observed, check.records, now, run_id)
        for version, each in measured.items()
        for check in each.checks
    ]
    schema: dict[str, pl.DataType] = {
        "model_version": pl.String(),
        "check_name": pl.String(),
        "passed": pl.Boolean(),
        "observed": pl.String(),
        "records": pl.Int64(),
        "checked_at": pl.Datetime("us", "UTC"),
        "run_id": pl.String(),
    }
    with store.transaction() as con:
        # A model that was measured on other gold before is measured anew; earlier models keep what they had.
        for version in measured:
            con.execute(f"DELETE FROM {MODEL_EVALUATION.name} WHERE model_version = ? AND NOT ({_KEPT})", [version])
            con.execute(f"DELETE FROM {MODEL_CHECKS.name} WHERE model_version = ?", [version])
        con.execute(f"DELETE FROM {MODEL_EVALUATION.name} WHERE model_version = ?", [TEACHER])
        for baseline in BASELINES if any(row.model_version in BASELINES for row in found) else ():
            con.execute(f"DELETE FROM {MODEL_EVALUATION.name} WHERE model_version = ?", [baseline])
        store.upsert(con, MODEL_EVALUATION.name, rows)
        store.upsert(con, MODEL_CHECKS.name, pl.DataFrame(checks, schema=schema, orient="row"))
