"""Figures of statements at one time: taken from pg_stat_statements, kept in PostgreSQL, and subtracted.

What is kept of a statement is its normalised text. A literal that is in it nevertheless (in utility statements, and
where an entry was evicted while it ran) is taken out here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg import sql

from knowledge.database import Connection
from orchestration.maintenance.session import Facts

_KEPT = 1000  # statements of a snapshot, those that took most time
# Read from left to right: a quote inside a comment opens no literal, nor one inside a quoted name.
_TOKEN = re.compile(
    r"""(?P<comment>--[^\n]*|/\*.*?(?:\*/|\Z))|(?P<name>"(?:[^"]|"")*")"""
    r"""|(?P<literal>[eE]'(?:[^'\\]|\\.|'')*(?:'|\Z)|'(?:[^']|'')*(?:'|\Z)|\$(?P<tag>[A-Za-z_]\w*|)\$.*?(?:\$(?P=tag)\$|\Z))""",
    re.S,
)
_DATA = re.compile(r"\s*\(*\s*(SELECT|INSERT|UPDATE|DELETE|MERGE|WITH|VALUES|TABLE)\b", re.I)
OURS = "/* zhiyun maintenance */"


@dataclass(frozen=True, slots=True)
class Counters:
    """One statement's counters. Times in milliseconds."""

    calls: int
    total_ms: float
    rows: int
    blocks_hit: int
    blocks_read: int
    temp_blocks: int

    @property
    def mean_ms(self) -> float:
        return self.total_ms / self.calls if self.calls else 0.0

    def since(self, before: Counters | None) -> Counters:
        """What was added since; all of it where the counters began anew meanwhile."""
        if before is None or before.calls > self.calls:
            return self
        return Counters(
            self.calls - before.calls,
            max(0.0, self.total_ms - before.total_ms),
            self.rows - before.rows,
            self.blocks_hit - before.blocks_hit,
            self.blocks_read - before.blocks_read,
            self.temp_blocks - before.temp_blocks,
        )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`texts` are as the server has them, and only in a snapshot that was just taken."""

    id: int
    taken_at: datetime
    counting_since: datetime | None
    counters: Mapping[int, Counters]
    texts: Mapping[int, str]

    def since(self, before: Snapshot | None) -> dict[int, Counters]:
        """What happened between two snapshots, for each statement that ran."""
        reset = before is None or (self.counting_since is not None and self.counting_since > before.taken_at)
        then = {} if reset or before is None else before.counters
        between = {queryid: now.since(then.get(queryid)) for queryid, now in self.counters.items()}
        return {queryid: counters for queryid, counters in between.items() if counters.calls > 0}


def missing(connection: Connection, can: Facts) -> str:
    """Why there are no figures of statements here, in one sentence; empty when there are."""
    if "pg_stat_statements" not in can.extensions:
        return (
            "The extension pg_stat_statements is missing: set shared_preload_libraries = 'pg_stat_statements', restart "
            "PostgreSQL, and CREATE EXTENSION pg_stat_statements."
        )
    try:
        connection.execute(
            sql.SQL("SELECT 1 FROM {} LIMIT 1").format(
                sql.Identifier(can.extensions["pg_stat_statements"], "pg_stat_statements")
            )
        )
    except psycopg.Error as error:
        return f"pg_stat_statements cannot be read: {error.diag.message_primary}."
    return ""


def slowest(connection: Connection, can: Facts, mean_ms: float, calls: int, limit: int) -> list[tuple[str, float, int]]:
    """(normalised text, mean ms, calls) of the slowest statements as the server counts them now; nothing is kept."""
    view = sql.Identifier(can.extensions["pg_stat_statements"], "pg_stat_statements")
    rows = connection.execute(
        sql.SQL(
            """
            SELECT query, mean_exec_time, calls FROM {}
            WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND toplevel
              AND query NOT LIKE %s AND query <> '<insufficient privilege>' AND mean_exec_time >= %s AND calls >= %s
            ORDER BY total_exec_time DESC
            """
        ).format(view),
        (f"%{OURS}%", mean_ms, calls),
    ).fetchall()
    return [(normalised(text), float(ms), int(n)) for text, ms, n in rows if reads_or_writes_data(text)][:limit]


def take(connection: Connection, can: Facts) -> Snapshot:
    """Take a snapshot and keep it."""
    schema = can.extensions["pg_stat_statements"]
    view = sql.Identifier(schema, "pg_stat_statements")
    info = sql.Identifier(schema, "pg_stat_statements_info")
    rows = connection.execute(
        sql.SQL(
            """
            SELECT queryid, min(query), sum(calls)::bigint, sum(total_exec_time), sum(rows)::bigint,
                   sum(shared_blks_hit)::bigint, sum(shared_blks_read)::bigint,
                   sum(temp_blks_read + temp_blks_written)::bigint
            FROM {} WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
              AND toplevel AND queryid IS NOT NULL AND query NOT LIKE %s AND query <> '<insufficient privilege>'
            GROUP BY queryid HAVING sum(calls) > 0 ORDER BY sum(total_exec_time) DESC LIMIT %s
            """
        ).format(view),
        (f"%{OURS}%", _KEPT),
    ).fetchall()
    counters = {row[0]: Counters(*row[2:]) for row in rows}
    texts = {row[0]: row[1] for row in rows}
    with connection.transaction(), connection.cursor() as cursor:
        taken = cursor.execute(
            sql.SQL(
                "INSERT INTO operations.statement_snapshots (counting_since) SELECT stats_reset FROM {} "
                "RETURNING id, taken_at, counting_since"
            ).format(info)
        ).fetchone()
        assert taken is not None
        cursor.executemany(
            "INSERT INTO operations.statements (queryid, text) VALUES (%s, %s) ON CONFLICT DO NOTHING",
            [(queryid, normalised(text)) for queryid, text in texts.items()],
        )
        cursor.executemany(
            "INSERT INTO operations.statement_figures VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
            [
                (taken[0], queryid, c.calls, c.total_ms, c.rows, c.blocks_hit, c.blocks_read, c.temp_blocks)
                for queryid, c in counters.items()
            ],
        )
    return Snapshot(taken[0], taken[1], taken[2], counters, texts)


def before(connection: Connection, moment: datetime) -> Snapshot | None:
    """The last snapshot before a moment."""
    row = connection.execute(
        "SELECT id, taken_at, counting_since FROM operations.statement_snapshots WHERE taken_at < %s "
        "ORDER BY taken_at DESC LIMIT 1",
        (moment,),
    ).fetchone()
    if row is None:
        return None
    figures = connection.execute(
        "SELECT queryid, calls, total_ms, rows, blocks_hit, blocks_read, temp_blocks "
        "FROM operations.statement_figures WHERE snapshot_id = %s",
        (row[0],),
    ).fetchall()
    return Snapshot(row[0], row[1], row[2], {f[0]: Counters(*f[1:]) for f in figures}, {})


def prune(connection: Connection, days: int) -> int:
    """Delete snapshots that are older, and texts that none has any more. Gives how many snapshots went."""
    with connection.transaction():
        gone = connection.execute(
            "DELETE FROM operations.statement_snapshots WHERE taken_at < now() - make_interval(days => %s)", (days,)
        ).rowcount
        if gone:
            connection.execute(
                "DELETE FROM operations.statements s WHERE NOT EXISTS "
                "(SELECT FROM operations.statement_figures f WHERE f.queryid = s.queryid)"
            )
    return gone


def reads_or_writes_data(text: str) -> bool:
    """Whether it is one that an index or another wording could make faster; COPY, VACUUM and DDL are not."""
    return bool(_DATA.match(without_values(text)))


def without_values(text: str) -> str:
    """Text with every literal and comment taken out."""

    def put(found: re.Match[str]) -> str:
        if found["name"]:
            return found["name"]
        return " " if found["comment"] else "'…'"

    return _TOKEN.sub(put, text)


def normalised(text: str) -> str:
    """A statement without any value. Of a utility statement only its first words: what follows may be a password."""
    plain = " ".join(without_values(text).split())
    return plain if _DATA.match(plain) else " ".join(plain.split()[:3]) + " …"
