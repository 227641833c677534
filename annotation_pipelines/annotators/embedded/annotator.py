"""The embedded annotator: a sentence encoder on this machine, no server, no key, no cost."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import polars as pl

from annotation_pipelines import project
from annotation_pipelines.annotators.base import Reply, Request, Turn
from annotation_pipelines.annotators.embedded.registry import ANSWERERS
from annotation_pipelines.content import Content
from annotation_pipelines.errors import DeclarationError
from annotation_pipelines.project import digest
from annotation_pipelines.tasks.base import Annotation, Task

if TYPE_CHECKING:
    from annotation_pipelines.distillation.embedding import Embedder

_CHUNK = 512
_SCHEMA = {"record_id": pl.String, "content_hash": pl.String, "content": pl.String, "label": pl.String}


class EmbeddedAnnotator:
    """Annotates records by their vectors; an `annotators.base.Annotator`.

    Args:
        settings: The annotator's part of the declaration.
        guideline: Does not change an answer, but a change makes labels stale, as for every annotator; their replies
            are found in the ledger again.
        demonstrations: Gold records: record_id, content_hash, content, label. Those with labels that the task does not
            have are left out. None or empty: there are none.
        embedder: Gives the vectors.
        name: How tables call it.

    Raises:
        DeclarationError: It does not serve this kind of task.
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
        self._task = task
        if task.kind not in ANSWERERS:
            raise DeclarationError(
                f"expected a task that the embedded annotator serves ({', '.join(ANSWERERS)}), found {task.kind}",
                where="annotators",
                todo="Declare an openai annotator",
            )
        found = pl.DataFrame(schema=_SCHEMA) if demonstrations is None else demonstrations.select(list(_SCHEMA))
        shown = [
            task.problem(label, Content.read(content)) is None
            for content, label in found.select("content", "label").iter_rows()
        ]
        self._demonstrations = found.filter(pl.Series(shown, dtype=pl.Boolean)).sort("record_id")
        self._answerer = ANSWERERS[task.kind](settings, task, self._demonstrations, embedder)
        self._answer_key = digest(
            {
                "annotator": "embedded",
                "answerer": self._answerer.version,
                "encoder": embedder.encoder.id,
                "settings": settings.model_dump(mode="json"),
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
            records = pl.DataFrame(
                {
                    "record_id": [request.record_id for request in chunk],
                    "content_hash": [request.content_hash for request in chunk],
                    "content": [str(request.body["content"]) for request in chunk],
                }
            )
            answers = self._answerer.answers(records)
            seconds = (time.monotonic() - began) / len(chunk)
            for request, answer in zip(chunk, answers, strict=True):
                text = json.dumps(answer, ensure_ascii=False)
                yield Reply(request, "ok", text=text, cost_usd=0.0, seconds=seconds)

    def proceed(self, turns: Sequence[Turn]) -> Request | Annotation:
        """What the reply says; nothing is asked twice."""
        return self._task.parse(turns[-1].text or "", Content.read(turns[-1].request.body["content"]))
