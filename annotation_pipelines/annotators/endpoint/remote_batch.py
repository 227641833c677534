"""A batch as its endpoint describes it. https://platform.openai.com/docs/api-reference/batch/object"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from annotation_pipelines.annotators.fence import well_formed

ENDED = frozenset({"completed", "failed", "expired", "cancelled"})


@dataclass(frozen=True, slots=True)
class RemoteBatch:
    """A batch as its endpoint describes it.

    Attributes:
        status: validating, in_progress, finalizing, cancelling; completed, failed, expired, cancelled.
        created_at: Seconds since 1970; likewise the other times.
        completed: Requests that ended in an answer so far.
        problem: Why it failed, in one line.
    """

    batch_id: str
    status: str
    input_file_id: str | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    created_at: int | None = None
    ended_at: int | None = None
    cancelling_at: int | None = None
    completed: int = 0
    problem: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self.status in ENDED


def read_batch(document: Mapping[str, Any]) -> RemoteBatch | None:
    """A batch in the API's JSON; None where it is none."""
    batch_id, status = document.get("id"), document.get("status")
    if not isinstance(batch_id, str) or not batch_id or not isinstance(status, str):
        return None

    def text(name: str) -> str | None:
        value = document.get(name)
        return value if isinstance(value, str) and value else None

    def seconds(*names: str) -> int | None:
        values = (document.get(name) for name in names)
        return next((int(value) for value in values if isinstance(value, int | float)), None)

    counts, metadata = document.get("request_counts"), document.get("metadata")
    completed = counts.get("completed") if isinstance(counts, dict) else None
    return RemoteBatch(
        batch_id=batch_id,
        status=status,
        input_file_id=text("input_file_id"),
        output_file_id=text("output_file_id"),
        error_file_id=text("error_file_id"),
        created_at=seconds("created_at"),
        ended_at=seconds("completed_at", "failed_at", "expired_at", "cancelled_at"),
        cancelling_at=seconds("cancelling_at"),
        completed=completed if isinstance(completed, int) else 0,
        problem=_problem(document.get("errors")),
        metadata={k: v for k, v in metadata.items() if isinstance(v, str)} if isinstance(metadata, dict) else {},
    )


def _problem(errors: object) -> str | None:
    """The first of a failed batch's errors, in one line."""
    data = errors.get("data") if isinstance(errors, dict) else errors
    if not isinstance(data, list) or not data:
        return None
    first = data[0] if isinstance(data[0], dict) else {"message": str(data[0])}
    line = f"line {first['line']}" if first.get("line") is not None else None
    parts = (first.get("code"), line, first.get("message"))
    problem = ": ".join(" ".join(well_formed(str(part)).split()) for part in parts if part)
    return problem[:300] + (f" (and {len(data) - 1} more)" if len(data) > 1 else "")
