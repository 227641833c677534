"""The embedded annotator: a sentence encoder on this machine, no server, no key, no cost.

Two voices give each label a probability, and the declaration says how much each counts. One is the similarity of the
text to the label's description. The other is a vote of the nearest demonstrations, weighted by similarity. Both are
taken relative to the demonstrations' mean vector where there are some: a sentence encoder puts all texts of one domain
into a narrow cone, and what they have in common says nothing about the label (Mu and Viswanath 2018, arXiv 1702.01417).

The constants were set on three data sets (Made With ML, banking77, climate stance) with 100 demonstrations, by accuracy
and log-loss over several draws of them.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from annotation_pipelines import project
from annotation_pipelines.annotators.base import Reply, Request, Turn
from annotation_pipelines.project import digest
from annotation_pipelines.selection.demonstrations import nearest_demonstrations, same_record
from annotation_pipelines.tasks.base import Annotation, Task

if TYPE_CHECKING:
    from annotation_pipelines.distillation.embedding import Embedder

METHOD = 1
"""Raised when the same record would get another answer: every label is stale then."""

TEMPERATURE = 0.06
"""Of the softmax over cosines to the descriptions."""

SHARPNESS = 12.0
"""A demonstration that is nearer by 0.1 counts 3.3 times as much."""

LABEL_BIAS_REMOVED = 0.5
"""The share of a description's similarity to the mean demonstration that is taken off: some descriptions are near to
everything. All of it would pretend that the labels are equally frequent."""

PRIOR_DEMONSTRATIONS = 10
"""The mean of few demonstrations is pulled to zero, as if so many were at the origin."""

_CHUNK = 512
_SCHEMA = {"record_id": pl.String, "content_hash": pl.String, "content": pl.String, "label": pl.String}

Array = NDArray[np.float64]
Vectors = NDArray[np.float32]


class EmbeddedAnnotator:
    """Labels records by their vectors; an `annotators.base.Annotator`.

    Args:
        settings: The annotator's part of the declaration.
        guideline: Does not change an answer, but a change makes labels stale, as for every annotator; their replies
            are found in the ledger again.
        demonstrations: Gold records: record_id, content_hash, content, label. Those with labels that the task does not
            have are left out. None or empty: the descriptions alone decide.
        embedder: Gives the vectors.
        name: How tables call it.
    """

    endpoint = None

    def __init__(
        self,
        settings: project.EmbeddedAnnotator,
        task: Task,
        guideline: str,
        demonstrations: pl.DataFrame | None,
        embedder: Embedder,
        name: str = "embedded",
    ) -> None:
        self.name = name
        self._settings, self._task, self._embedder = settings, task, embedder
        self._labels = list(task.labels)
        found = pl.DataFrame(schema=_SCHEMA) if demonstrations is None else demonstrations.select(list(_SCHEMA))
        self._demonstrations = found.filter(pl.col("label").is_in(self._labels)).sort("record_id")
        self._answer_key = digest(
            {
                "annotator": "embedded",
                "method": METHOD,
                "encoder": embedder.encoder.id,
                "settings": settings.model_dump(mode="json"),
                "labels": list(task.labels.items()),
                "demonstrations": self._demonstrations.select("record_id", "content_hash", "label").rows(),
            }
        )
        self._fingerprint = digest(
            {
                "answer": self._answer_key,
                "guideline": guideline,
                "schema": task.schema(confidence=True),
                "parser": task.parser_version,
            }
        )

    @property
    def fingerprint(self) -> str:
        """Hash of task, guideline, settings, encoder, demonstrations and parser."""
        return self._fingerprint

    def requests(self, records: pl.DataFrame) -> list[Request]:
        """A request for every row of a frame with record_id, content_hash and content.

        Records of the same content share a key, hence a reply. A demonstration does not: its vote is left out.
        """
        known = set(self._demonstrations["record_id"])
        return [
            Request(
                key=digest([self._answer_key, content_hash, record_id if record_id in known else None]),
                record_id=record_id,
                content_hash=content_hash,
                body={"content": content},
            )
            for record_id, content_hash, content in records.select("record_id", "content_hash", "content").iter_rows()
        ]

    def annotate(self, requests: Sequence[Request]) -> Iterator[Reply]:
        """The reply to every request, in chunks of 512.

        Raises:
            DeclarationError: The encoder cannot be loaded.
            StoreError: The vectors cannot be kept.
        """
        for start in range(0, len(requests), _CHUNK):
            chunk = requests[start : start + _CHUNK]
            began = time.monotonic()
            probabilities = self._probabilities(chunk)
            seconds = (time.monotonic() - began) / len(chunk)
            for request, row in zip(chunk, probabilities, strict=True):
                yield Reply(request, "ok", text=self._reply(row), cost_usd=0.0, seconds=seconds)

    def proceed(self, turns: Sequence[Turn]) -> Request | Annotation:
        """What the reply says; nothing is asked twice."""
        return self._task.parse(turns[-1].text or "")

    def _probabilities(self, requests: Sequence[Request]) -> Array:
        records = pl.DataFrame(
            {
                "record_id": [request.record_id for request in requests],
                "content_hash": [request.content_hash for request in requests],
                "content": [str(request.body["content"]) for request in requests],
            }
        )
        vectors = self._embedder.vectors(records.select("content_hash", "content"))
        shown, votes = self._demonstration_vectors, self._votes
        return mixed_probabilities(
            vectors,
            self._descriptions,
            shown,
            votes,
            neighbours=self._settings.neighbours,
            demonstration_weight=self._settings.demonstration_weight,
            exclude=same_record(records, self._demonstrations),
        )

    def _reply(self, probabilities: Array) -> str:
        scores = {label: round(float(p), 6) for label, p in zip(self._labels, probabilities, strict=True)}
        label = max(scores, key=lambda name: scores[name])
        return json.dumps({"label": label, "confidence": scores[label], "scores": scores}, ensure_ascii=False)

    @cached_property
    def _descriptions(self) -> Vectors:
        texts = label_texts(self._task.labels)
        hashes = [f"description:{hashlib.blake2b(text.encode(), digest_size=16).hexdigest()}" for text in texts]
        return self._embedder.vectors(pl.DataFrame({"content_hash": hashes, "content": texts}))

    @cached_property
    def _demonstration_vectors(self) -> Vectors:
        return self._embedder.vectors(self._demonstrations.select("content_hash", "content"), share=True)

    @cached_property
    def _votes(self) -> Array:
        """Which label each demonstration votes for, shape (m, labels), one 1 a row."""
        position = {label: index for index, label in enumerate(self._labels)}
        votes = np.zeros((self._demonstrations.height, len(self._labels)))
        for row, label in enumerate(self._demonstrations["label"]):
            votes[row, position[label]] = 1.0
        return votes


def label_texts(labels: Mapping[str, str]) -> list[str]:
    """What stands for each label in the encoder's space: its description, or its name in words where it has none."""
    return [
        re.sub(r"[_\-]+", " ", name).strip() or name if text.strip() in ("", name) else text
        for name, text in labels.items()
    ]


def mixed_probabilities(
    vectors: Vectors,
    descriptions: Vectors,
    demonstrations: Vectors,
    votes: Array,
    *,
    neighbours: int,
    demonstration_weight: float,
    exclude: NDArray[np.bool_],
) -> Array:
    """The probability of every label: descriptions and demonstrations, mixed.

    Args:
        vectors: The records, shape (n, d), rows of length 1, as all vectors here.
        descriptions: The labels' descriptions, shape (c, d).
        demonstrations: Shape (m, d); m may be 0.
        votes: The demonstrations' labels, shape (m, c), one 1 a row.
        neighbours: How many demonstrations vote on a record.
        demonstration_weight: Their share, 0 to 1; a record without any demonstration goes by the descriptions alone.
        exclude: Shape (n, m); true where a demonstration may not vote.

    Returns:
        Shape (n, c); rows sum to 1.
    """
    centre = demonstrations.sum(axis=0) / (len(demonstrations) + PRIOR_DEMONSTRATIONS)
    similarity = vectors @ descriptions.T - LABEL_BIAS_REMOVED * (descriptions @ centre)
    by_description = _softmax(similarity.astype(np.float64) / TEMPERATURE)
    if not len(demonstrations) or demonstration_weight == 0:
        return by_description
    centred, shown = _directions(vectors - centre), _directions(demonstrations - centre)
    nearest = nearest_demonstrations(centred, shown, neighbours, exclude)
    cosines = np.einsum("nd,nkd->nk", centred, shown[nearest]).astype(np.float64)
    weights = np.where(nearest >= 0, np.exp(SHARPNESS * (cosines - 1)), 0.0)
    vote = np.einsum("nk,nkc->nc", weights, votes[nearest])
    total = vote.sum(axis=1, keepdims=True)
    share = np.where(total > 0, demonstration_weight, 0.0)
    mixed: Array = (1 - share) * by_description + share * vote / np.where(total > 0, total, 1.0)
    return mixed


def _directions(vectors: Vectors) -> Vectors:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    directions: Vectors = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return directions


def _softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: Array = powers / powers.sum(axis=1, keepdims=True)
    return probabilities
