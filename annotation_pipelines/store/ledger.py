"""The ledger: replies found again by request key, so that nothing is bought twice."""

from __future__ import annotations

import itertools
import os
import uuid
from datetime import UTC, datetime
from typing import Any

import polars as pl

from annotation_pipelines.store.database import Store

SERVED_AGAIN = ("ok", "refused")
"""Statuses of replies that answer the same request again. Errors never do."""


def find_replies(store: Store, request_keys: list[str]) -> pl.DataFrame:
    """The latest reply to each request that has one.

    Returns:
        A frame with request_key, status and reply; at most one row a key.
    """
    wanted = pl.DataFrame({"request_key": request_keys}, schema={"request_key": pl.String}).unique()
    return store.query(
        f"""
        SELECT request_key, arg_max(status, called_at) AS status, arg_max(reply, called_at) AS reply
        FROM llm_calls JOIN wanted USING (request_key)
        WHERE status IN {SERVED_AGAIN}
        GROUP BY request_key
        """,
        wanted=wanted,
    )


def call_row(**columns: Any) -> dict[str, Any]:
    """A row of `llm_calls` with a call id of its own and the time of now."""
    return {"call_id": _ids.next(), "called_at": datetime.now(UTC).isoformat(), **columns}


class _Ids:
    """Ids of calls: random for the process, counted within it, since random bytes cost a system call each."""

    def __init__(self) -> None:
        self._process, self._prefix, self._numbers = 0, "", itertools.count()

    def next(self) -> str:
        """An id that no other call gets, in this process or a child of it."""
        if self._process != os.getpid():
            self._process, self._prefix, self._numbers = os.getpid(), uuid.uuid4().hex[:20], itertools.count()
        return f"{self._prefix}{next(self._numbers):012x}"


_ids = _Ids()
