"""Preferences by a frozen encoder: a linear score of each response to its prompt, so a reward model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl

from annotation_pipelines.distillation.preference.davidson import Davidson, Fitted, choose_and_fit
from annotation_pipelines.distillation.preference.features import pair_texts, response_features
from annotation_pipelines.distillation.robust.targets import Targets, make_targets
from annotation_pipelines.distillation.students.base import Array, Examples, Predicted, Progress, Student, TextVectors
from annotation_pipelines.distillation.students.linear import with_learned_weights
from annotation_pipelines.errors import TrainingError
from annotation_pipelines.tasks.base import canonical_json
from annotation_pipelines.tasks.metrics.preference import score_key
from annotation_pipelines.tasks.preference import FIRST, SECOND, TIE, PreferenceTask

_FILE = "model.safetensors"
_CHUNK = 2_048
_CLASSES = (FIRST, SECOND, TIE)


class PairScorer(Student):
    """Says which of two parts is better, by the difference of their scores; one score for each criterion.

    With A and B exchanged it gives the same answer with A and B exchanged. `Predicted.probabilities` has the shape (n,
    3), of A, B and a tie; with several criteria an array of shape (criteria, 3) for each record.

    Attributes:
        models: One for each criterion, in the order of the task; the one of a whole.
    """

    kind = "linear"
    task: PreferenceTask
    models: list[Davidson]

    def fit(self, examples: Examples, vectors: TextVectors, progress: Progress | None = None) -> Self:
        """Learn; see `Student.fit`."""
        weighing = Examples(examples.rows.filter(pl.col("weight") > 0), examples.audit)
        contents = weighing.rows["content"].to_list()
        differences = self._differences(contents, vectors, progress)
        prompts = [pair_texts(self.task, content)[0] for content in contents]
        groups = np.unique(np.array(prompts, dtype=np.str_), return_inverse=True)[1]
        fitted: list[Fitted] = []
        self._robustness: dict[str, float | int | str | None] = {}
        for name in self._criteria:
            about = _about(self.task, weighing, name)
            targets = self._targets(about, differences, vectors)
            fitted.append(self._fit(name, differences[targets.rows], targets, about, groups[targets.rows]))
            self._robustness |= {score_key(name, key): value for key, value in targets.figures.items()}
        self.models = [found.model for found in fitted]
        self._facts = {
            "pairs": len(contents),
            "prompts": len(set(prompts)),
            "cv_agreement": _mean([found.accuracy for found in fitted]),
            "cv_log_loss": _mean([found.log_loss for found in fitted]),
            **self._robustness,
        }
        return self

    def predict(self, rows: pl.DataFrame, vectors: TextVectors, progress: Progress | None = None) -> Predicted:
        """The preference of every row; a part that is missing counts as empty."""
        parts = [np.zeros((0, len(self.models), 3))]
        for first in range(0, rows.height, _CHUNK):
            differences = self._differences(rows["content"][first : first + _CHUNK].to_list(), vectors)
            parts.append(np.stack([model.probabilities(differences) for model in self.models], axis=1))
            if progress is not None:
                progress(first + len(differences), rows.height)
        probabilities = np.concatenate(parts)
        best = probabilities.argmax(axis=2)
        labels = [self._label([_CLASSES[answer] for answer in answers]) for answers in best]
        confidence = probabilities.max(axis=2).prod(axis=1)
        if self.task.criteria:
            return Predicted(labels, confidence, list(probabilities))
        return Predicted(labels, confidence, probabilities[:, 0])

    def scores(self, rows: pl.DataFrame, vectors: TextVectors) -> Array:
        """How good single responses are: a reward model.

        Args:
            rows: prompt and response; the prompt is the text of all parts of a record that are not compared, a line
                between two.

        Returns:
            Shape (n, criteria), one column for a whole. Of two responses to one prompt, the log-odds that the first is
            preferred to the second, where it is no tie, are the difference of their scores.
        """
        parts = [np.zeros((0, len(self.models)))]
        for first in range(0, rows.height, _CHUNK):
            chunk = rows.slice(first, _CHUNK)
            features = response_features(
                vectors.encoder, chunk["prompt"].to_list(), chunk["response"].to_list(), length=self.config.length
            )
            parts.append(np.column_stack([features @ model.weights / model.temperature for model in self.models]))
        return np.concatenate(parts)

    def save(self, folder: Path) -> dict[str, Any]:
        """Write the weights."""
        from safetensors.numpy import save

        weights = np.stack([model.weights for model in self.models])
        (folder / _FILE).write_bytes(save({"weights": weights}))
        return {
            "criteria": list(self._criteria),
            "ties": [model.tie for model in self.models],
            "temperatures": [model.temperature for model in self.models],
            "figures": self._facts,
        }

    def load(self, folder: Path, facts: Mapping[str, Any]) -> Self:
        """Read the weights."""
        from safetensors.numpy import load

        weights = load((folder / _FILE).read_bytes())["weights"].astype(np.float64)
        if list(facts["criteria"]) != list(self._criteria) or len(weights) != len(self._criteria):
            raise ValueError(f"it knows the criteria {facts['criteria']}, the task has {list(self._criteria)}")
        self.models = [
            Davidson(row, float(tie), float(temperature))
            for row, tie, temperature in zip(weights, facts["ties"], facts["temperatures"], strict=True)
        ]
        self._facts = dict(facts["figures"])
        return self

    def figures(self) -> dict[str, float | int | str | None]:
        """Pairs and prompts that were learned from; agreement and log-loss in cross-validation over prompts."""
        return dict(self._facts)

    @property
    def _criteria(self) -> Sequence[str]:
        return self.task.criteria or [""]

    def _label(self, answers: Sequence[str]) -> str:
        by = dict(zip(self._criteria, answers, strict=True))
        return canonical_json(by) if self.task.criteria else by[""]

    def _differences(self, contents: Sequence[str], vectors: TextVectors, progress: Progress | None = None) -> Array:
        """Features of A less those of B, shape (n, d)."""
        texts = [pair_texts(self.task, content) for content in contents]
        prompts = [prompt for prompt, _, _ in texts] * 2
        responses = [first for _, first, _ in texts] + [second for _, _, second in texts]
        features = response_features(vectors.encoder, prompts, responses, length=self.config.length)
        if progress is not None:
            progress(len(contents), len(contents))
        return features[: len(contents)] - features[len(contents) :]

    def _targets(self, about: Examples, differences: Array, vectors: TextVectors) -> Targets:
        known = about.rows["content_hash"].to_list()
        rows_of = {content_hash: row for row, content_hash in enumerate(known)}

        def features(frame: pl.DataFrame) -> Any:
            if all(content_hash in rows_of for content_hash in frame["content_hash"]):
                places = [rows_of[content_hash] for content_hash in frame["content_hash"]]
                return differences[places].astype(np.float32)
            return self._differences(frame["content"].to_list(), vectors).astype(np.float32)

        classes = _CLASSES if TIE in self.task.labels else _CLASSES[:2]
        return make_targets(about, classes, self.config.robust, features=features, seed=self.config.seed)

    def _fit(self, name: str, differences: Array, targets: Targets, about: Examples, groups: Any) -> Fitted:
        if not {FIRST, SECOND} & set(targets.labels):
            raise TrainingError(
                f"expected pairs of which one is better{f' by {name}' if name else ''}, found ties alone",
                where="table trusted_labels",
                todo="Materialize more partitions, or look at the guideline",
            )
        unit = differences.astype(np.float32) / np.float32(max(1e-6, np.linalg.norm(differences, axis=1).mean()))
        weighed, learned = with_learned_weights(unit, targets, self.config.robust, about, self.config.seed)
        self._robustness |= {score_key(name, key): value for key, value in learned.items()}
        say = np.where(weighed.gold, 1.0, weighed.weights)
        for side in (weighed.gold, ~weighed.gold):
            if say[side].sum() > 0:
                say[side] /= say[side].sum()
        return choose_and_fit(
            differences,
            _three(weighed.probabilities),
            weighed.weights,
            _three(weighed.beliefs),
            say / max(say.sum(), 1e-12),
            groups,
            self.config.seed,
        )


def _about(task: PreferenceTask, examples: Examples, criterion: str) -> Examples:
    """Examples as they are for one criterion."""
    if not task.criteria:
        return examples

    def answer(column: str) -> pl.Expr:
        def one(label: str) -> str | None:
            return task.by_criterion(label)[criterion]

        return pl.col(column).map_elements(one, return_dtype=pl.String)

    import json

    def own(scores: str) -> str:
        given = json.loads(scores)
        named = {name: given[score_key(criterion, name)] for name in _CLASSES if score_key(criterion, name) in given}
        return json.dumps(named)

    scores = pl.col("scores").map_elements(own, return_dtype=pl.String)
    return Examples(
        examples.rows.with_columns(answer("label"), scores),
        examples.audit.with_columns(answer("label"), answer("given"), scores),
    )


def _three(probabilities: Array) -> Array:
    """The same with a column for ties, where there are none."""
    missing = 3 - probabilities.shape[1]
    return np.pad(probabilities, ((0, 0), (0, missing))) if missing else probabilities


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
