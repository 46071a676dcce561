"""Tables with what their statistics say: what vacuum chooses by."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
from psycopg import sql

from knowledge.database import Connection
from orchestration.maintenance.session import Facts, one


@dataclass(frozen=True, slots=True)
class Figures:
    """A table as its statistics say it is. `age` counts transactions since the oldest row that is not frozen."""

    rows: int
    dead: int
    inserted: int  # since the last vacuum
    modified: int  # since the last analyze
    age: int
    size: int | None  # bytes with TOAST, without indexes; None while it is locked


@dataclass(frozen=True, slots=True)
class Table:
    """A table that vacuum or analyze may be for; partitioned ones have kind `p`. TOAST counts beside it."""

    oid: int
    schema: str
    name: str
    kind: str
    figures: Figures
    toast_rows: int
    toast_dead: int
    multixact_age: int
    analyzed_days: float | None
    pages: int
    catalog: bool
    permitted: bool

    @property
    def title(self) -> str:
        return f"{self.schema}.{self.name}"


def table_size(connection: Connection, oid: int) -> int | None:
    """Bytes of a table with its TOAST table, without indexes; None while it is locked."""
    try:
        return one(connection, "SELECT pg_table_size(%s::oid)", (oid,))
    except psycopg.errors.LockNotAvailable:
        return None


def read_tables(connection: Connection, can: Facts, oid: int | None = None) -> list[Table]:
    """All tables of the database, or one. Read without a lock on any of them."""
    maintain = "OR has_table_privilege(c.oid, 'MAINTAIN')" if can.version >= 17 else ""
    rows = connection.execute(
        sql.SQL(_TABLES).format(maintain=sql.SQL(maintain)),
        {"oid": oid},
    ).fetchall()
    return [
        Table(
            oid=r[0], schema=r[1], name=r[2], kind=r[3], figures=Figures(r[4], r[5], r[6], r[7], r[8], None),
            multixact_age=r[9], toast_rows=r[10], toast_dead=r[11], analyzed_days=r[12], pages=r[13], catalog=r[14],
            permitted=r[15],
        )
        for r in rows
    ]  # fmt: skip


_TABLES = """
    SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text,
           greatest(coalesce(s.n_live_tup, 0), c.reltuples)::bigint, coalesce(s.n_dead_tup, 0),
           coalesce(s.n_ins_since_vacuum, 0), coalesce(s.n_mod_since_analyze, 0),
           CASE WHEN c.relkind = 'p' THEN 0 ELSE greatest(age(c.relfrozenxid), coalesce(age(t.relfrozenxid), 0)) END,
           CASE WHEN c.relkind = 'p' THEN 0
                ELSE greatest(mxid_age(c.relminmxid), coalesce(mxid_age(t.relminmxid), 0)) END,
           coalesce(pg_stat_get_live_tuples(t.oid), 0), coalesce(pg_stat_get_dead_tuples(t.oid), 0),
           (extract(epoch FROM now() - greatest(s.last_analyze, s.last_autoanalyze)) / 86400)::float8,
           CASE WHEN c.reltuples < 0 AND coalesce(s.n_live_tup, 0) = 0 THEN 0 ELSE greatest(c.relpages, 1) END,
           n.nspname = 'pg_catalog',
           pg_has_role(c.relowner, 'USAGE') OR (NOT c.relisshared AND pg_has_role(d.datdba, 'USAGE')) {maintain}
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_database d ON d.datname = current_database()
    LEFT JOIN pg_class t ON t.oid = c.reltoastrelid
    LEFT JOIN pg_stat_all_tables s ON s.relid = c.oid
    WHERE c.relkind IN ('r', 'm', 'p') AND c.relpersistence <> 't' AND n.nspname <> 'information_schema'
      AND n.nspname NOT LIKE 'pg\\_temp\\_%%' AND n.nspname NOT LIKE 'pg\\_toast%%'
      AND (%(oid)s::oid IS NULL OR c.oid = %(oid)s::oid)
"""
