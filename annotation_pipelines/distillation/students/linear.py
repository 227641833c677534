"""Frozen encoder, linear head: seconds to train, and the vectors are those that the store has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from annotation_pipelines.distillation.linear_head import LinearHead
from annotation_pipelines.distillation.robust.co_teaching import agreed_weights, forget_rate
from annotation_pipelines.distillation.robust.reweighting import learned_weights
from annotation_pipelines.distillation.robust.targets import Targets, make_targets
from annotation_pipelines.distillation.softmax import one_thread
from annotation_pipelines.distillation.students.base import Examples, Predicted, Progress, Student, TextVectors
from annotation_pipelines.errors import TrainingError
from annotation_pipelines.project import Robust

_HEAD_FILE = "model.safetensors"


class LinearStudent(Student):
    """Logistic regression on sentence vectors."""

    kind = "linear"
    head: LinearHead

    def fit(self, examples: Examples, vectors: TextVectors, progress: Progress | None = None) -> Self:
        """Learn; see `Student.fit`."""
        weighing = Examples(examples.rows.filter(pl.col("weight") > 0), examples.audit)
        classes = sorted(set(weighing.labels))
        if len(classes) < 2:
            raise TrainingError(
                f"expected labels of two classes or more to train on, found {', '.join(classes) or 'none'}"
            )
        hashes = weighing.rows["content_hash"]
        X = vectors.vectors(weighing.rows.select("content_hash", "content"), progress)

        def features(rows: pl.DataFrame) -> NDArray[np.float32]:
            return X if rows["content_hash"].equals(hashes) else vectors.vectors(rows)

        robust, seed = self.config.robust, self.config.seed
        with one_thread():
            targets = make_targets(weighing, classes, robust, features=features, seed=seed)
            X = X if len(targets.rows) == len(X) else X[targets.rows]
            targets, learned = with_learned_weights(X, targets, robust, weighing, seed)
        self.head = LinearHead(random_state=seed).fit_targets(X, targets)
        self._robustness = {**targets.figures, **learned, **self._weighed(X, targets, weighing)}
        return self

    def _weighed(self, X: NDArray[np.float32], targets: Targets, examples: Examples) -> dict[str, float]:
        """The mean weight of silver labels that the student comes to share, and of those that it does not."""
        given = np.array(examples.labels, dtype=object)[targets.rows]
        shared = np.array(self.head.predict(X), dtype=object) == given
        chosen = {"weight_where_agreed": shared & ~targets.gold, "weight_where_not": ~shared & ~targets.gold}
        return {name: float(targets.weights[rows].mean()) for name, rows in chosen.items() if rows.any()}

    def predict(self, rows: pl.DataFrame, vectors: TextVectors, progress: Progress | None = None) -> Predicted:
        """The most probable label of every row."""
        probabilities = self.head.predict_proba(vectors.vectors(rows, progress))
        best = probabilities.argmax(axis=1)
        return Predicted(
            [self.head.classes_[index] for index in best], probabilities[np.arange(len(best)), best], probabilities
        )

    def save(self, folder: Path) -> dict[str, Any]:
        """Write the head."""
        return {**self.head.save(folder / _HEAD_FILE), "robustness": self._robustness}

    def load(self, folder: Path, facts: Mapping[str, Any]) -> Self:
        """Read the head."""
        self.head = LinearHead.load(folder / _HEAD_FILE, facts)
        self._robustness = dict(facts.get("robustness", {}))
        return self

    def figures(self) -> dict[str, float | int | str | None]:
        """Classes, the penalty's strength, agreement and log-loss in cross-validation, and what robustness did."""
        return {
            "classes": len(self.head.classes_),
            "strength": self.head.strength_,
            "cv_agreement": self.head.cv_accuracy_,
            "cv_log_loss": self.head.cv_log_loss_,
            **self._robustness,
        }


def with_learned_weights(
    X: NDArray[np.float32], targets: Targets, config: Robust, examples: Examples, seed: int
) -> tuple[Targets, dict[str, float | int | str | None]]:
    """Targets whose silver weights are multiplied by what reweighting and co-teaching make of them; and figures.

    Args:
        X: Vectors of the kept examples, shape (n, d).
        targets: Of the same examples.
        config: What is switched on.
        examples: What the targets were made of; its audit tells the teacher's rate of errors.
        seed: Of all that is drawn.
    """
    silver = ~targets.gold & (targets.weights > 0)
    figures: dict[str, float | int | str | None] = {}
    factors = np.ones(len(targets.weights))
    if not silver.any():
        return targets, figures
    if config.reweight:
        factors *= learned_weights(X, targets.probabilities, targets.weights, targets.gold, seed=seed)
        figures["reweighted_to_nothing"] = int((factors[silver] == 0).sum())
    if config.co_teaching:
        wrong = (examples.audit["given"] != examples.audit["label"]).sum()
        forget = forget_rate(int(wrong), examples.audit["given"].count(), targets.weights[silver])
        factors *= agreed_weights(X, targets.probabilities, targets.weights, targets.gold, forget=forget, seed=seed)
        figures |= {"forget_rate": forget, "forgotten": int((factors[silver] == 0).sum())}
    return replace(targets, weights=targets.weights * factors), figures
