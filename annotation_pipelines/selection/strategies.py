"""What a strategy works with: the student, the vectors, the costs; taken from the store when they are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from annotation_pipelines.content import readable
from annotation_pipelines.project import Project, Strategy
from annotation_pipelines.selection.acquisition import Ints, Scores, needs_student, without_student
from annotation_pipelines.store.database import Store

if TYPE_CHECKING:
    from annotation_pipelines.distillation.embedding import Embedder
    from annotation_pipelines.distillation.prediction import ReadyModel

_TEXTS = ("content_hash", "content")


class Means:
    """The means of a project's strategy, on its store.

    Args:
        scorer: The student to be asked; default: the champion, where the strategy needs one.
        known: The texts that have a label or were chosen for one: content_hash, content. Those of other partitions are
            not among them, so that no choice depends on which partition ran first.

    Attributes:
        strategy: Which decides: the declared one, or without a student the one in its place.

    Raises:
        StoreCorrupted: The champion's files are missing or damaged.
        TrainingError: The champion's encoder is not there any more.
    """

    def __init__(self, store: Store, project: Project, scorer: ReadyModel | None, known: pl.DataFrame) -> None:
        self._store, self._project, self._known = store, project, known
        declared = project.declaration.selection.strategy
        self._scorer = scorer
        if scorer is None and needs_student(declared):
            self._scorer = self._champion()
        self.strategy: Strategy = declared if self._scorer else without_student(declared)

    def score(self, records: pl.DataFrame) -> Scores:
        """How unsure the student is of each record; records with one text have one figure.

        Args:
            records: content_hash and content, n rows.

        Returns:
            Shape (n,).
        """
        texts = records.select(*_TEXTS).unique("content_hash", keep="first", maintain_order=True)
        figures = texts.select("content_hash", score=pl.Series(self._uncertainty(texts, self.strategy)))
        both = records.select("content_hash").join(figures, on="content_hash", how="left", maintain_order="left")
        return both["score"].to_numpy()

    def pick(self, records: pl.DataFrame, count: int) -> Ints:
        """A batch of the strategy. Of records with one text the first is picked; copies come last, where texts run out.

        Args:
            records: content_hash and content, n rows, in the order of their draws.
            count: How many are wanted, n at most.

        Returns:
            So many different rows, in the order of choice.
        """
        texts = records.select(*_TEXTS).with_row_index("row").unique("content_hash", keep="first", maintain_order=True)
        rows = texts["row"].to_numpy().astype(np.int64)
        picked = rows[self._batch(texts.select(*_TEXTS), min(count, len(rows)))]
        if len(picked) < count:
            copies = np.setdiff1d(np.arange(records.height), rows)
            picked = np.concatenate([picked, copies[: count - len(picked)]])
        return picked

    def _batch(self, texts: pl.DataFrame, count: int) -> Ints:
        from annotation_pipelines.selection import diversity

        seed, embedder = self._project.declaration.selection.seed, self._embedder
        if self.strategy == "badge":
            return self._badge(texts, count)
        if self.strategy == "hybrid":
            return self._hybrid(texts, count)
        pick = {
            "kmeans": diversity.nearest_to_centres,
            "k_center": diversity.k_center,
            "typiclust": diversity.typiclust,
        }[self.strategy]
        return pick(embedder.vectors(texts), count, embedder.vectors(self._known), seed=seed)

    def _badge(self, texts: pl.DataFrame, count: int) -> Ints:
        from annotation_pipelines.selection.badge import MOST, badge
        from annotation_pipelines.selection.scoring import gradients

        assert self._scorer is not None
        selection = self._project.declaration.selection
        looked_at = texts.head(max(MOST, 2 * count))
        residuals = gradients(self._scorer, looked_at, reduce=selection.reduce)
        return badge(self._embedder.vectors(looked_at), residuals, count, seed=selection.seed)

    def _hybrid(self, texts: pl.DataFrame, count: int) -> Ints:
        from annotation_pipelines.selection.hybrid import hybrid

        return hybrid(
            self._embedder.vectors(texts),
            self._uncertainty(texts, "margin"),
            self._costs(texts),
            lambda rows: [readable(text) for text in texts["content"].gather(rows)],
            count,
            labelled=self._embedder.vectors(self._known),
            labelled_texts=[readable(text) for text in self._known["content"]],
            seed=self._project.declaration.selection.seed,
        )

    def _uncertainty(self, texts: pl.DataFrame, strategy: Strategy) -> Scores:
        from annotation_pipelines.selection.scoring import uncertainty

        assert self._scorer is not None
        declaration = self._project.declaration
        return uncertainty(
            self._scorer,
            texts,
            strategy,
            reduce=declaration.selection.reduce,
            abstain_below=declaration.distillation.abstain_below,
        )

    def _costs(self, texts: pl.DataFrame) -> Scores:
        """About how many characters a request about each text has; 1 for each where no request leaves this machine."""
        declaration, task = self._project.declaration, self._project.task
        if not any(annotator.openai for annotator in declaration.annotators):
            return np.ones(texts.height)
        lengths = texts["content"].str.len_chars().to_numpy().astype(np.float64)
        shown = declaration.demonstrations.per_prompt if declaration.demonstrations else 0
        words = len(self._project.guideline) + sum(len(label) for label in task.labels)
        return np.asarray(1 + words + shown * lengths.mean() + lengths, dtype=np.float64)

    @property
    def _embedder(self) -> Embedder:
        from annotation_pipelines.distillation.embedding import Embedder

        return Embedder.for_project(self._project, self._store)

    def _champion(self) -> ReadyModel | None:
        from annotation_pipelines.distillation.prediction import load_model
        from annotation_pipelines.distillation.registry import ModelRegistry

        registry = ModelRegistry(self._store)
        champion = registry.champion()
        if champion is None:
            return None
        return load_model(registry, champion, self._project.task, self._embedder)
