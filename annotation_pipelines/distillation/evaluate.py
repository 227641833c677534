"""Hold teacher and student against gold that no training step saw, and let the better student be champion."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from annotation_pipelines.distillation.embedding import Embedder
from annotation_pipelines.distillation.prediction import load_model
from annotation_pipelines.distillation.registry import Model, ModelRegistry
from annotation_pipelines.distillation.students.files import trained_on
from annotation_pipelines.errors import AnnotationPipelinesError
from annotation_pipelines.project import Project
from annotation_pipelines.quality.validity import are_labels
from annotation_pipelines.store.database import Store
from annotation_pipelines.store.schema import MODEL_EVALUATION, UNPARTITIONED
from annotation_pipelines.tasks.base import UNANSWERED, Task
from annotation_pipelines.tasks.metrics.bootstrap import Difference, Metric, difference

TEACHER = "teacher"
EVALUATION, MONITOR = "evaluation", "monitor"

_GOLD = """
SELECT record_id, content_hash, content, label FROM human_labels WHERE role = 'evaluation' ORDER BY record_id
"""
# A record that the annotator looked at and gave no label counts as wrong: the student always gives one. A call that
# failed says nothing about the annotator.
_TEACHER = f"""
SELECT h.record_id, h.role, h.content, h.label, l.label AS given
FROM human_labels h JOIN llm_labels l USING (record_id, content_hash)
WHERE h.role IN ('evaluation', 'monitor') AND l.annotator = $annotator AND l.state NOT IN {UNANSWERED}
ORDER BY h.record_id
"""
_METRICS = pl.Schema(
    {
        "model_version": pl.String(),
        "split": pl.String(),
        "slice": pl.String(),
        "metric": pl.String(),
        "label": pl.String(),
        "value": pl.Float64(),
        "lower": pl.Float64(),
        "upper": pl.Float64(),
        "records": pl.Int64(),
    }
)


@dataclass(frozen=True)
class Evaluation:
    """How student and teacher stand, and what became of the candidate.

    Attributes:
        version: The student that was evaluated; None where there is none.
        champion: The champion afterwards.
        decision: What became of the candidate, in words.
        records: Gold records that the student was measured on: those that it was not trained on.
        left_out: Further gold records that were not compared, because the student or the earlier champion was trained
            on them.
        metrics: Rows of model_evaluation without the time, of the student, an earlier champion, and the teacher.
        against_teacher: The student's accuracy less the teacher's, on the gold that both labelled.
        against_champion: The candidate's accuracy less the earlier champion's.
        headline: The task's main metric.
    """

    version: str | None
    champion: str | None
    decision: str
    records: int
    left_out: int
    metrics: pl.DataFrame
    against_teacher: Difference | None
    against_champion: Difference | None
    headline: str = "accuracy"

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

    def value(self, model: str | None, metric: str, split: str = EVALUATION) -> float | None:
        """A metric over all labels; None where it was not measured."""
        if model is None:
            return None
        row = self.metrics.filter(
            (pl.col("model_version") == model)
            & (pl.col("split") == split)
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
            "verdict": self.verdict,
        }


def evaluate(store: Store, project: Project, embedder: Embedder, *, run_id: str | None = None) -> Evaluation:
    """Measure the candidate (or, without one, the champion) and the teacher, and decide on the candidate.

    Every student is measured on the gold records that it was not trained on, neither on the record nor on the same
    text. The candidate becomes champion unless it is worse than the champion on the gold that neither was trained on:
    unless the whole 95% interval of the difference of their accuracies (paired bootstrap) lies below 0. Without such
    gold, or where the champion cannot be used any more, it becomes champion and the decision says so.

    Raises:
        StoreCorrupted: The candidate's files are missing or damaged.
        DeclarationError: The encoder cannot be loaded.
    """
    from annotation_pipelines.annotators.factory import annotator_name

    task, seed = project.task, project.declaration.distillation.seed
    registry = ModelRegistry(store)
    with store.transaction() as con:
        gold = store.frame(con, _GOLD)
        teacher = store.frame(con, _TEACHER, {"annotator": annotator_name(project)})
    gold, teacher = (rows.filter(are_labels(task, rows["label"], rows["content"])) for rows in (gold, teacher))
    candidate, champion = registry.candidate(), registry.champion()
    student = candidate or champion
    answers: dict[str, pl.DataFrame] = {}
    if student is not None:
        answers[student.version] = _answers(registry, student, task, embedder, gold)
    unusable = ""
    if candidate is not None and champion is not None:
        try:
            answers[champion.version] = _answers(registry, champion, task, embedder, gold)
        except AnnotationPipelinesError as error:
            unusable = f"the champion {champion.version} cannot be used any more: {error.problem}"
            logging.getLogger(__name__).warning("%s", unusable)
    metrics = [
        *(row for version, own in answers.items() for row in _student_rows(version, own, task, seed)),
        *(row for split in (EVALUATION, MONITOR) for row in _teacher_rows(teacher, split, task, seed)),
    ]
    against_champion = None
    left_out = gold.height - answers[student.version].height if student else 0
    if candidate is not None and champion is not None and champion.version in answers:
        against_champion = _against_champion(answers[candidate.version], answers[champion.version], seed)
        left_out = gold.height - (against_champion.records if against_champion else 0)
    decision, promoted = decide(
        candidate, champion, against_champion, records=gold.height, left_out=left_out, unusable=unusable
    )
    if candidate is not None:
        (registry.promote if promoted else registry.reject)(candidate.version)
    after = registry.champion()
    evaluation = Evaluation(
        version=student.version if student else None,
        champion=after.version if after else None,
        decision=decision,
        records=answers[student.version].height if student else 0,
        left_out=left_out,
        metrics=pl.DataFrame(metrics, schema=_METRICS, orient="row"),
        against_teacher=_against_teacher(answers[student.version], teacher, seed) if student else None,
        against_champion=against_champion,
        headline=task.headline,
    )
    _keep(store, evaluation, [*answers, TEACHER], run_id)
    return evaluation


def decide(
    candidate: Model | None,
    champion: Model | None,
    gain: Difference | None,
    *,
    records: int,
    left_out: int = 0,
    unusable: str = "",
) -> tuple[str, bool]:
    """What becomes of the candidate: in words, and whether it is promoted.

    Args:
        gain: The candidate's accuracy less the champion's; None where they cannot be compared.
        records: Gold records.
        left_out: Those of them that the candidate or the champion was trained on: they compare nothing.
        unusable: Why the champion could not be measured, if so.
    """
    if candidate is None:
        return ("no new model; the champion stays" if champion else "there is no model to evaluate"), False
    if champion is None:
        note = "" if records > left_out else ", without gold to measure it on"
        return f"{candidate.version} is promoted: it is the first{note}", True
    if unusable:
        return f"{candidate.version} is promoted: {unusable}", True
    if gain is None:
        seen = f"it or {champion.version} was trained on every one of the {left_out} gold records"
        why = seen if left_out else "there is no gold to measure it on"
        return f"{candidate.version} is promoted without comparison: {why}", True
    beside = f"{gain} against {champion.version} on {gain.records} records"
    if left_out:
        beside = f"{beside} ({left_out} more left out: one of the two was trained on them)"
    if gain.worse:
        return f"{candidate.version} is rejected: {beside}", False
    return f"{candidate.version} is promoted: {beside}", True


def _answers(registry: ModelRegistry, model: Model, task: Task, embedder: Embedder, gold: pl.DataFrame) -> pl.DataFrame:
    """The gold that a model was not trained on, with its answer."""
    unseen = gold
    seen = trained_on(registry.folder(model.version))
    if seen is not None:
        for known in ("record_id", "content_hash"):
            unseen = unseen.join(seen, on=known, how="anti", maintain_order="left")
    predicted = load_model(registry, model, task, embedder).predict(unseen.select("content_hash", "content"))
    return unseen.with_columns(answer=pl.Series(predicted.labels, dtype=pl.String))


def _right(given: Sequence[str | None], truth: Sequence[str]) -> list[bool]:
    return [a == b for a, b in zip(given, truth, strict=True)]


def _against_champion(candidate: pl.DataFrame, champion: pl.DataFrame, seed: int) -> Difference | None:
    both = candidate.join(champion.select("record_id", given="answer"), on="record_id", maintain_order="left")
    return _difference(both, seed)


def _against_teacher(student: pl.DataFrame, teacher: pl.DataFrame, seed: int) -> Difference | None:
    said = teacher.filter(pl.col("role") == EVALUATION).select("record_id", "given")
    both = student.join(said, on="record_id", maintain_order="left")
    return _difference(both, seed)


def _difference(both: pl.DataFrame, seed: int) -> Difference | None:
    """Accuracy of `answer` less that of `given`, where `label` is right."""
    truth = both["label"].to_list()
    return difference(_right(both["answer"].to_list(), truth), _right(both["given"].to_list(), truth), seed=seed)


def _student_rows(version: str, answers: pl.DataFrame, task: Task, seed: int) -> list[tuple[object, ...]]:
    truth, given = answers["label"].to_list(), answers["answer"].to_list()
    return _rows(version, EVALUATION, truth, given, task, seed)


def _teacher_rows(teacher: pl.DataFrame, split: str, task: Task, seed: int) -> list[tuple[object, ...]]:
    rows = teacher.filter(pl.col("role") == split)
    return _rows(TEACHER, split, rows["label"].to_list(), rows["given"].to_list(), task, seed)


def _rows(
    model: str, split: str, truth: list[str], given: Sequence[str | None], task: Task, seed: int
) -> list[tuple[object, ...]]:
    return [(model, split, "", *_fields(metric)) for metric in task.measure(truth, given, seed=seed)]


def _fields(metric: Metric) -> tuple[object, ...]:
    return metric.metric, metric.label, metric.value, metric.lower, metric.upper, metric.records


def _keep(store: Store, evaluation: Evaluation, measured: list[str], run_id: str | None) -> None:
    rows = evaluation.metrics.with_columns(evaluated_at=pl.lit(datetime.now(UTC)))
    with store.transaction() as con:
        # A model that was measured on other gold before is measured anew; earlier models keep what they had.
        for model in measured:
            con.execute(f"DELETE FROM {MODEL_EVALUATION.name} WHERE model_version = ?", [model])
        store.upsert(con, MODEL_EVALUATION.name, rows)
        store.record_stage(con, MODEL_EVALUATION.name, UNPARTITIONED, evaluation.facts(), run_id)
