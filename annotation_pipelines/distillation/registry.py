"""The model registry: which student is champion, and how another becomes it. There is one champion at most.

candidate   trained, not evaluated yet; at most one
champion    predictions come from it
retired     was champion, or a candidate that a later one overtook
rejected    was worse than the champion, or rolled back; it is not offered again
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import polars as pl

from annotation_pipelines.errors import StoreError
from annotation_pipelines.store.database import Store


@dataclass(frozen=True)
class Model:
    """A row of the table models."""

    version: str
    status: str
    student: str
    encoder: str
    silver: int
    gold: int
    parent: str | None
    path: str
    trained_at: datetime
    promoted_at: datetime | None
    run_id: str | None
    data_fingerprint: str | None = None
    config: str | None = None
    decision: str | None = None
    decided_at: datetime | None = None


class ModelRegistry:
    """The models of one project.

    Args:
        store: The project's store; every method takes one short transaction.
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    def folder(self, version: str) -> Path:
        """Where a model's files lie."""
        return self.store.home / "models" / version

    def get(self, version: str) -> Model:
        """One model.

        Raises:
            StoreError: There is no such model.
        """
        with self.store.transaction() as con:
            return self._get(con, version)

    def champion(self) -> Model | None:
        """The model that predictions come from, if there is one."""
        return self._one("champion")

    def candidate(self) -> Model | None:
        """The model that waits for its evaluation, if there is one."""
        return self._one("candidate")

    def register(
        self,
        version: str,
        *,
        student: str,
        encoder: str,
        silver: int,
        gold: int,
        data_fingerprint: str | None = None,
        config: str | None = None,
        run_id: str | None = None,
    ) -> Model:
        """Enter a trained model as the candidate; an earlier candidate is retired.

        A version that is known keeps its status, but a retired one becomes a candidate again: what it was trained on
        is again what there is to learn from.
        """
        with self.store.transaction() as con:
            known = self.store.frame(con, "SELECT * FROM models WHERE version = ?", [version])
            champion = self._find(con, "champion")
            if known.is_empty():
                row = {
                    "version": version,
                    "status": "candidate",
                    "student": student,
                    "encoder": encoder,
                    "silver": silver,
                    "gold": gold,
                    "parent": champion.version if champion else None,
                    "path": str(self.folder(version).relative_to(self.store.home)),
                    "trained_at": datetime.now(UTC),
                    "run_id": run_id,
                    "data_fingerprint": data_fingerprint,
                    "config": config,
                }
                con.execute("UPDATE models SET status = 'retired' WHERE status = 'candidate'")
                self.store.append(con, "models", pl.DataFrame([row], schema_overrides=_NULLABLE))
            else:
                con.execute("UPDATE models SET status = 'retired' WHERE status = 'candidate'")
                again = known["status"][0] in ("retired", "candidate")
                con.execute(
                    "UPDATE models SET status = ? WHERE version = ?",
                    ["candidate" if again else known["status"][0], version],
                )
            return self._get(con, version)

    def promote(self, version: str) -> Model:
        """Make a model the champion; the one before, and any candidate, retires.

        Raises:
            StoreError: There is no such model.
        """
        with self.store.transaction() as con:
            self._promote(con, version)
            return self._get(con, version)

    def reject(self, version: str) -> Model:
        """Turn a model down; a champion cannot be rejected, only rolled back.

        Raises:
            StoreError: There is no such model, or it is the champion.
        """
        with self.store.transaction() as con:
            if self._get(con, version).status == "champion":
                raise StoreError(
                    f"model {version} is the champion",
                    where=self.store.path,
                    todo="Roll back to the one before, or promote another",
                )
            con.execute("UPDATE models SET status = 'rejected' WHERE version = ?", [version])
            return self._get(con, version)

    def rollback(self) -> Model:
        """Make the champion before this one the champion again; this one is rejected.

        Raises:
            StoreError: There is no champion, or none before it.
        """
        with self.store.transaction() as con:
            champion = self._find(con, "champion")
            before = self.store.frame(
                con,
                "SELECT version FROM models WHERE status = 'retired' AND promoted_at IS NOT NULL "
                "ORDER BY promoted_at DESC, version LIMIT 1",
            )
            if champion is None or before.is_empty():
                raise StoreError(
                    "there is no earlier champion to go back to" if champion else "there is no champion",
                    where=self.store.path,
                )
            self._promote(con, before["version"][0])
            con.execute("UPDATE models SET status = 'rejected' WHERE version = ?", [champion.version])
            return self._get(con, before["version"][0])

    # -- inside a transaction ------------------------------------------------------------------------------------

    def _promote(self, con: duckdb.DuckDBPyConnection, version: str) -> None:
        if self._get(con, version).status == "champion":
            return
        con.execute("UPDATE models SET status = 'retired' WHERE status IN ('champion', 'candidate')")
        con.execute(
            "UPDATE models SET status = 'champion', promoted_at = ? WHERE version = ?", [datetime.now(UTC), version]
        )

    def _one(self, status: str) -> Model | None:
        with self.store.transaction() as con:
            return self._find(con, status)

    def _find(self, con: duckdb.DuckDBPyConnection, status: str) -> Model | None:
        rows = self.store.frame(
            con, "SELECT * FROM models WHERE status = ? ORDER BY trained_at DESC, version LIMIT 1", [status]
        )
        return None if rows.is_empty() else Model(**rows.row(0, named=True))

    def _get(self, con: duckdb.DuckDBPyConnection, version: str) -> Model:
        rows = self.store.frame(con, "SELECT * FROM models WHERE version = ?", [version])
        if rows.is_empty():
            raise StoreError(f"there is no model {version!r}", where=self.store.path, todo="See the table models")
        return Model(**rows.row(0, named=True))


_NULLABLE = {"parent": pl.String, "run_id": pl.String, "data_fingerprint": pl.String, "config": pl.String}
