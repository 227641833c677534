"""Forward migrations of the store: one SQL file each in `sql/`, applied in order, recorded in the database.

A released migration never changes. When a table's declaration in `schema` changes, a file that alters the stored table
is added, and a test holds the result of all migrations against the declarations.
"""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.resources import files

import duckdb

from annotation_pipelines.errors import StoreTooNew

MIGRATIONS: tuple[str, ...] = (
    "001_first_tables",
    "002_annotation_engine",
    "003_all_kinds_of_tasks",
    "004_active_distillation",
)


def current_version(con: duckdb.DuckDBPyConnection) -> int:
    """The number of the last migration applied; 0 for an empty database."""
    try:
        row = con.execute("SELECT coalesce(max(version), 0) FROM schema_migrations").fetchone()
    except duckdb.CatalogException:
        return 0
    return int(row[0]) if row else 0


def migrate(con: duckdb.DuckDBPyConnection, where: object) -> int:
    """Bring an open database up to date, all or nothing; returns how many migrations were applied.

    Raises:
        StoreTooNew: The database has migrations that this package does not know.
    """
    version = current_version(con)
    if version > len(MIGRATIONS):
        raise StoreTooNew(
            f"the database has schema version {version}, this package knows versions up to {len(MIGRATIONS)}",
            where=where,
            todo="Upgrade annotation-pipelines",
        )
    if version == len(MIGRATIONS):
        return 0
    con.execute("BEGIN")
    try:
        con.execute(
            "CREATE TABLE IF NOT EXISTS schema_migrations "
            "(version INTEGER PRIMARY KEY, name VARCHAR, applied_at TIMESTAMPTZ)"
        )
        for number, migration in enumerate(MIGRATIONS[version:], start=version + 1):
            con.execute((files("annotation_pipelines.store") / "sql" / f"{migration}.sql").read_text(encoding="utf-8"))
            con.execute("INSERT INTO schema_migrations VALUES (?, ?, ?)", [number, migration, datetime.now(UTC)])
    except BaseException:
        con.execute("ROLLBACK")
        raise
    con.execute("COMMIT")
    return len(MIGRATIONS) - version
