"""The model registry: which student is champion, and how another becomes it. There is one champion at most.

candidate   trained, and not evaluated yet or waiting to be told from the champion; at most one
champion    predictions come from it
retired     was champion, or a candidate that a later one overtook
rejected    was worse than the champion, or rolled back; it is not offered again

Every decision leaves a line in the column `decision`: when, what became of the model, and why.
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

    @property
    def history(self) -> list[str]:
        """What was decided about it, a line each, the oldest first."""
        return (self.decision or "").splitlines()

    @property
    def why(self) -> str:
        """The latest decision, without its time; '' before the first."""
        return self.history[-1].partition(": ")[2] if self.decision else ""


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

    def all(self) -> list[Model]:
        """Every model, the newest first."""
        with self.store.transaction() as con:
            rows = self.store.frame(con, "SELECT * FROM models ORDER BY trained_at DESC, version")
        return [Model(**row) for row in rows.iter_rows(named=True)]

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
                self._overtake(con, version)
                self.store.append(con, "models", pl.DataFrame([row], schema_overrides=_NULLABLE))
            else:
                self._overtake(con, version)
                again = known["status"][0] in ("retired", "candidate")
                con.execute(
                    "UPDATE models SET status = ? WHERE version = ?",
                    ["candidate" if again else known["status"][0], version],
                )
            return self._get(con, version)

    def promote(self, version: str, why: str = "") -> Model:
        """Make a model the champion; the one before, and any candidate, retires.

        Raises:
            StoreError: There is no such model.
        """
        with self.store.transaction() as con:
            self._promote(con, version, f"promoted: {why or 'no reason given'}")
            return self._get(con, version)

    def reject(self, version: str, why: str = "") -> Model:
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
            self._decide(con, version, f"rejected: {why or 'no reason given'}")
            return self._get(con, version)

    def hold(self, version: str, why: str) -> Model:
        """Note why a candidate is neither promoted nor rejected; it waits for its next evaluation.

        Raises:
            StoreError: There is no such model.
        """
        with self.store.transaction() as con:
            if self._get(con, version).why != f"waits: {why}":
                self._decide(con, version, f"waits: {why}")
            return self._get(con, version)

    def rollback(self, why: str = "", *, to: str | None = None) -> Model:
        """Make the champion before this one the champion again; this one is rejected.

        Args:
            to: An earlier champion to go back to; None for the latest.

        Raises:
            StoreError: There is no champion, or none before it, or `to` is none.
        """
        with self.store.transaction() as con:
            champion, before = self._find(con, "champion"), self._before(con, to)
            if champion is None or before is None:
                raise StoreError(self._nowhere(champion, to), where=self.store.path, todo="See the table models")
            reason = f": {why}" if why else ""
            con.execute("UPDATE models SET status = 'rejected' WHERE version = ?", [champion.version])
            self._decide(con, champion.version, f"rejected: rolled back to {before}{reason}")
            self._promote(con, before, f"promoted: rolled back from {champion.version}{reason}")
            return self._get(con, before)

    def before(self, to: str | None = None) -> Model | None:
        """The model that a rollback would go back to; None where there is none."""
        with self.store.transaction() as con:
            version = self._before(con, to)
            return self._get(con, version) if version else None

    # -- inside a transaction ------------------------------------------------------------------------------------

    def _promote(self, con: duckdb.DuckDBPyConnection, version: str, decision: str) -> None:
        if self._get(con, version).status == "champion":
            return
        for status, why in (("champion", "its place was taken by"), ("candidate", "before it was promoted came")):
            other = self._find(con, status)
            if other is not None and other.version != version:
                con.execute("UPDATE models SET status = 'retired' WHERE version = ?", [other.version])
                self._decide(con, other.version, f"retired: {why} {version}")
        con.execute(
            "UPDATE models SET status = 'champion', promoted_at = ? WHERE version = ?", [datetime.now(UTC), version]
        )
        self._decide(con, version, decision)

    def _overtake(self, con: duckdb.DuckDBPyConnection, version: str) -> None:
        """Retire the candidate that a later one follows."""
        other = self._find(con, "candidate")
        if other is not None and other.version != version:
            con.execute("UPDATE models SET status = 'retired' WHERE version = ?", [other.version])
            self._decide(con, other.version, f"retired: before it was promoted came {version}")

    def _decide(self, con: duckdb.DuckDBPyConnection, version: str, decision: str) -> None:
        """Add a line to what was decided about a model."""
        now = datetime.now(UTC)
        # One line a decision, whatever a reason or an error holds.
        line = f"{now:%Y-%m-%d %H:%M} UTC: {' '.join(decision.split())}"
        con.execute(
            "UPDATE models SET decision = concat_ws(chr(10), decision, ?), decided_at = ? WHERE version = ?",
            [line, now, version],
        )

    def _before(self, con: duckdb.DuckDBPyConnection, to: str | None) -> str | None:
        rows = self.store.frame(
            con,
            "SELECT version FROM models WHERE status = 'retired' AND promoted_at IS NOT NULL "
            "AND coalesce(version = $to, true) ORDER BY promoted_at DESC, version LIMIT 1",
            {"to": to},
        )
        return None if rows.is_empty() else str(rows["version"][0])

    def _nowhere(self, champion: Model | None, to: str | None) -> str:
        if champion is None:
            return "there is no champion"
        if to is not None:
            return f"model {to!r} was no earlier champion that could be gone back to"
        return "there is no earlier champion to go back to"

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
