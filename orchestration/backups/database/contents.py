"""What is in a database: exact row counts, a checksum of sampled rows of each table, extensions, migration, release."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from psycopg import sql

from orchestration.backups.database.server import Connection, one
from orchestration.backups.recovery_point import Table

SAMPLE = 100
"""So many rows from each end of a table, in the order of its primary key."""

_TABLES = """
SELECT n.nspname, c.relname,
    -- Values of bytea by their hash: as text they would be twice as large, and a model may be 100 MB.
    (SELECT json_agg(json_build_array(a.attname, a.atttypid = 'bytea'::regtype) ORDER BY a.attnum)
        FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
    -- Text by bytes: the order of a collation differs from one system to the next.
    (SELECT json_agg(json_build_array(a.attname, a.attcollation <> 0) ORDER BY k.place)
        FROM pg_index i CROSS JOIN unnest(i.indkey::int2[]) WITH ORDINALITY k (attnum, place)
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
        WHERE i.indrelid = c.oid AND i.indisprimary)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY 1, 2
"""
# Not a table that anybody names, but rows that a dump must have.
LARGE_OBJECTS = "pg_catalog.pg_largeobject_metadata"


@dataclass(frozen=True)
class Contents:
    """What a snapshot of a database holds."""

    tables: tuple[Table, ...]
    extensions: dict[str, str]
    migration: str
    live_release: int | None


def read_contents(connection: Connection) -> Contents:
    """Count and sample every ordinary table outside the system's schemas, as the connection's transaction sees them."""
    tables = [
        _table(connection, schema, name, columns or [], key or [])
        for schema, name, columns, key in connection.execute(_TABLES).fetchall()
    ]
    large_objects = one(connection, "SELECT count(*) FROM pg_catalog.pg_largeobject_metadata")
    if large_objects:
        tables.append(Table(LARGE_OBJECTS, large_objects))
    extensions = dict(connection.execute("SELECT extname, extversion FROM pg_extension ORDER BY 1").fetchall())
    migration, live = "", None
    # migrations/env.py names the one, its first version the other.
    if one(connection, "SELECT to_regclass('public.schema_version')"):
        migration = one(connection, "SELECT version_num FROM public.schema_version") or ""
    if one(connection, "SELECT to_regclass('knowledge.releases')"):
        live = one(connection, "SELECT number FROM knowledge.releases WHERE status = 'live'")
    return Contents(tuple(tables), extensions, migration, live)


def _table(
    connection: Connection, schema: str, name: str, columns: list[tuple[str, bool]], key: list[tuple[str, bool]]
) -> Table:
    # ONLY: a table that inherits is counted under its own name.
    table = sql.SQL("ONLY {}").format(sql.Identifier(schema, name))
    row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(table)).fetchone()
    rows = int(row[0]) if row else 0
    if not key or not rows:
        return Table(f"{schema}.{name}", rows)
    ends = [(sql.SQL("ASC"), 2 * SAMPLE)] if rows <= 2 * SAMPLE else [(sql.SQL(way), SAMPLE) for way in ("ASC", "DESC")]
    told = hashlib.sha256()
    sampled = 0
    for way, limit in ends:
        query = sql.SQL(
            "SELECT encode(sha256(convert_to(ROW({})::text, 'UTF8')), 'hex') FROM (SELECT * FROM {} ORDER BY {} LIMIT {}) x"
        ).format(
            sql.SQL(", ").join(_value(column, is_bytes) for column, is_bytes in columns),
            table,
            sql.SQL(", ").join(
                sql.SQL("{}{} {}").format(sql.Identifier(column), sql.SQL(' COLLATE "C"' if text else ""), way)
                for column, text in key
            ),
            limit,
        )
        for (line,) in connection.execute(query):
            told.update(f"{line}\n".encode())
            sampled += 1
    return Table(f"{schema}.{name}", rows, sampled, told.hexdigest())


def _value(column: str, is_bytes: bool) -> sql.Composed:
    return sql.SQL("sha256({})" if is_bytes else "{}").format(sql.Identifier("x", column))
