"""Indexes that are missing: under foreign keys, and where large tables are read from end to end again and again."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import psycopg
from psycopg import sql

from knowledge.database import Connection
from orchestration.maintenance.indexes.catalog import Index
from orchestration.maintenance.indexes.duplicates import Finding
from orchestration.maintenance.session import Facts

_OFTEN = 100  # scans since statistics began: fewer may be a dump, or a person
_MOST = 0.5  # of the table, read by the average scan
_STATEMENTS = 200


@dataclass(frozen=True, slots=True)
class _Key:
    constraint: str
    table: str
    table_oid: int
    columns: tuple[str, ...]
    parent: str
    rows: int
    acts: bool  # ON DELETE or ON UPDATE does something to the rows


def foreign_keys(connection: Connection, indexes: list[Index], rows: int, quote: Callable[[str], str]) -> list[Finding]:
    """Foreign keys of tables with that many rows whose columns lead no index: each delete above reads the whole table."""
    found: list[Finding] = []
    for key in _keys(connection):
        if key.rows < rows or any(_serves(index, key) for index in indexes if index.table_oid == key.table_oid):
            continue
        columns = ", ".join(quote(column) for column in key.columns)
        does = "cascades into" if key.acts else "has to look through"
        why = f"no index for {key.constraint}: a change in {key.parent} {does} {key.rows:,} rows"
        found.append(Finding("missing", key.table, ", ".join(key.columns), 0, why, _create(key.table, columns)))
    return found


def served_keys(connection: Connection, indexes: list[Index]) -> dict[int, str]:
    """Indexes that a foreign key needs, with its name: they look unused as long as nothing is deleted above."""
    served: dict[int, str] = {}
    for key in _keys(connection):
        mine = [index for index in indexes if index.table_oid == key.table_oid and _serves(index, key)]
        served.update({index.oid: key.constraint for index in mine})
    return served


def sequential_scans(
    connection: Connection, can: Facts, indexes: list[Index], rows: int, quote: Callable[[str], str]
) -> list[Finding]:
    """Large tables that are read whole, often. The columns are those that statements compare, where these are known."""
    scanned = connection.execute(
        """
        SELECT format('%%I.%%I', s.schemaname, s.relname), s.relname::text, s.relid, s.seq_scan, s.seq_tup_read,
               greatest(c.reltuples, s.n_live_tup)::bigint,
               ARRAY(SELECT attname::text FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped)
        FROM pg_stat_user_tables s JOIN pg_class c ON c.oid = s.relid
        WHERE s.seq_scan >= %s AND greatest(c.reltuples, s.n_live_tup) >= %s
          AND s.seq_tup_read >= s.seq_scan * %s * greatest(c.reltuples, s.n_live_tup)
        ORDER BY s.seq_tup_read DESC
        """,
        (_OFTEN, max(1, rows), _MOST),
    ).fetchall()
    if not scanned:
        return []
    statements = _statements(connection, can)
    found: list[Finding] = []
    for table, name, oid, scans, read, number, columns in scanned:
        led = {index.columns[0] for index in indexes if index.table_oid == oid and index.valid and index.columns}
        column = _compared(statements, name, columns, led, quote)
        why = f"{scans:,} scans from end to end read {read:,} rows; it has {number:,}"
        if column is None:
            ddl = f"-- no statement is known that compares a column without index: EXPLAIN those on {table}"
            found.append(Finding("missing", table, "?", 0, why, ddl))
        else:
            why += f"; statements compare {column}"
            found.append(Finding("missing", table, column, 0, why, _create(table, quote(column))))
    return found


def _create(table: str, columns: str) -> str:
    return f"CREATE INDEX CONCURRENTLY ON {table} ({columns});"


def _serves(index: Index, key: _Key) -> bool:
    """Whether the index leads with the key's columns, in any order. A predicate may leave out no row that has the key."""
    if not index.valid or index.method not in ("btree", "hash"):
        return False
    lead = [column.strip('"') for column in index.columns[: len(key.columns)]]
    if sorted(lead) != sorted(key.columns):
        return False
    return not index.predicate or any(
        index.predicate in (f"({column} IS NOT NULL)", f'("{column}" IS NOT NULL)') for column in key.columns
    )


def _keys(connection: Connection) -> list[_Key]:
    rows = connection.execute(
        """
        SELECT con.conname::text, format('%I.%I', n.nspname, c.relname), c.oid,
               ARRAY(SELECT a.attname::text FROM unnest(con.conkey) WITH ORDINALITY k(number, place)
                     JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.number ORDER BY k.place),
               con.confrelid::regclass::text, greatest(c.reltuples, pg_stat_get_live_tuples(c.oid))::bigint,
               con.confdeltype <> 'a' OR con.confupdtype <> 'a'
        FROM pg_constraint con
        JOIN pg_class c ON c.oid = con.conrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE con.contype = 'f' AND c.relkind = 'r'
        ORDER BY 2, 1
        """
    ).fetchall()
    return [_Key(r[0], r[1], r[2], tuple(r[3]), r[4], int(r[5]), r[6]) for r in rows]


def _statements(connection: Connection, can: Facts) -> list[str]:
    """Normalised statements of this database by time spent; none without pg_stat_statements."""
    if "pg_stat_statements" not in can.extensions:
        return []
    view = sql.Identifier(can.extensions["pg_stat_statements"], "pg_stat_statements")
    try:
        rows = connection.execute(
            sql.SQL(
                "SELECT query FROM {} WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) "
                "ORDER BY total_exec_time DESC LIMIT %s"
            ).format(view),
            (_STATEMENTS,),
        ).fetchall()
    except psycopg.Error:  # created, but not preloaded
        return []
    return [row[0] for row in rows]


def _compared(
    statements: list[str], table: str, columns: list[str], led: set[str], quote: Callable[[str], str]
) -> str | None:
    """The column that statements on a table compare with a value first, and that leads no index."""
    named = re.compile(rf"\b{re.escape(table)}\b")
    for statement in statements:
        if not named.search(statement):
            continue
        for column in re.findall(
            r'([A-Za-z_][\w$]*|"[^"]+")\s*(?:=|<=|>=|<|>|LIKE\b|ILIKE\b|IN\s*\()\s*(?:ANY\s*\()?\$\d', statement
        ):
            plain = column.strip('"')
            if plain in columns and plain not in led and quote(plain) not in led:
                return plain
    return None
