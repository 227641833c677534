"""Forward migrations of the store: small named functions, applied in order, recorded in the database.

A released migration never changes. When a table's declaration in `schema` changes, a migration that alters the
stored table is added here, and a test holds the result of all migrations against the declarations.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import duckdb

from annotation_pipelines.errors import StoreTooNew
from annotation_pipelines.store import schema

Migration = Callable[[duckdb.DuckDBPyConnection], None]


def m001_first_tables(con: duckdb.DuckDBPyConnection) -> None:
    """Every table of the first release."""
    for table in schema.TABLES.values():
        con.execute(table.ddl())
    con.execute("CREATE INDEX llm_calls_by_request ON llm_calls (request_key)")


MIGRATIONS: tuple[Migration, ...] = (m001_first_tables,)


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
            migration(con)
            con.execute(
                "INSERT INTO schema_migrations VALUES (?, ?, ?)", [number, migration.__name__, datetime.now(UTC)]
            )
    except BaseException:
        con.execute("ROLLBACK")
        raise
    con.execute("COMMIT")
    return len(MIGRATIONS) - version
