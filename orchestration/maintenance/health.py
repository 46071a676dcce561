"""The database's health: what grows unseen until everything stops.

Looks at wraparound, transactions that do nothing, statements that wait, replication slots, sequences, and connections.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from knowledge.database import Connection
from orchestration.maintenance import markdown, sequences
from orchestration.maintenance.session import facts
from zhiyun.settings import MaintenanceSettings

Level: TypeAlias = Literal["warning", "error"]
_ERROR_AGE = 4  # times MAINTENANCE_WRAPAROUND_WARN
_ERROR_IDLE = 6  # times MAINTENANCE_IDLE_TRANSACTION_MINUTES
_ERROR_BLOCKED = 10  # times MAINTENANCE_BLOCKED_SECONDS
_NEARLY_ALL = 0.95
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong: `what` is a word for its kind, `where` what it is about, `mend` what to do or to run."""

    level: Level
    what: str
    where: str
    detail: str
    mend: str


@dataclass(frozen=True, slots=True)
class DatabaseHealth:
    """`figures` are worth a plot, whatever was found."""

    findings: tuple[Finding, ...]
    figures: dict[str, int | float]
    connections: tuple[tuple[str, str, int, int], ...]  # application, role, all, in a transaction
    notes: tuple[str, ...]

    def worst(self) -> Level | None:
        levels = {finding.level for finding in self.findings}
        return "error" if "error" in levels else "warning" if levels else None


def database_health(connection: Connection, settings: MaintenanceSettings) -> DatabaseHealth:
    """Look at everything once. Cheap enough for every few minutes; changes nothing."""
    can = facts(connection)
    notes = () if can.monitor else (
        f"Role {can.role} does not see other roles' sessions, so idle transactions and who blocks whom cannot be told: "
        f"GRANT pg_monitor TO {can.role}.",
    )  # fmt: skip
    figures: dict[str, int | float] = {}
    findings: list[Finding] = []
    looks: tuple[Callable[[Connection, MaintenanceSettings, dict[str, int | float]], list[Finding]], ...] = (
        _wraparound, _idle, _prepared, _blocked, _slots, _sequences,
    )  # fmt: skip
    for look in looks:
        findings += look(connection, settings, figures)
    found, table = _connections(connection, settings, figures)
    return DatabaseHealth((*findings, *found), figures, table, notes)


def _wraparound(
    connection: Connection, settings: MaintenanceSettings, figures: dict[str, int | float]
) -> list[Finding]:
    limit = settings.wraparound_warn
    ages = connection.execute(
        "SELECT datname::text, age(datfrozenxid), mxid_age(datminmxid) FROM pg_database WHERE datallowconn ORDER BY 2 DESC"
    ).fetchall()
    figures["oldest_transaction_age"] = max(row[1] for row in ages)
    figures["oldest_multixact_age"] = max(row[2] for row in ages)
    found: list[Finding] = []
    for name, age, multixact in ages:
        for what, value in (("transaction", age), ("multixact", multixact)):
            if value < limit:
                continue
            detail = f"the oldest {what} number is {value:,} old; writes stop at about 2,100,000,000"
            mend = f"in database {name}: VACUUM (FREEZE) the oldest tables"
            if name == connection.info.dbname:
                mend += f": {', '.join(_oldest_tables(connection, multixact=what == 'multixact'))}"
            mend += "; first end transactions, prepared transactions and slots that hold them back"
            found.append(Finding(_level(value, limit * _ERROR_AGE), "wraparound", name, detail, mend))
    return found


def _oldest_tables(connection: Connection, *, multixact: bool) -> list[str]:
    rows = connection.execute(
        """
        SELECT c.oid::regclass::text FROM pg_class c WHERE c.relkind IN ('r', 'm', 't')
        ORDER BY CASE WHEN %s THEN mxid_age(c.relminmxid) ELSE age(c.relfrozenxid) END DESC, c.relpages DESC LIMIT 3
        """,
        (multixact,),
    ).fetchall()
    return [row[0] for row in rows]


def _idle(connection: Connection, settings: MaintenanceSettings, figures: dict[str, int | float]) -> list[Finding]:
    limit = settings.idle_transaction_minutes * 60
    rows = connection.execute(
        """
        SELECT pid, coalesce(nullif(application_name, ''), 'no name'), usename::text, datname::text,
               extract(epoch FROM clock_timestamp() - state_change)::float8
        FROM pg_stat_activity
        WHERE state LIKE 'idle in transaction%%' AND pid <> pg_backend_pid() ORDER BY state_change
        """
    ).fetchall()
    figures["longest_idle_transaction_seconds"] = round(rows[0][4], 1) if rows else 0
    return [
        Finding(
            _level(seconds, limit * _ERROR_IDLE),
            "idle transaction",
            f"process {pid} ({application}, role {role}, database {database})",
            f"it has done nothing for {markdown.duration(seconds)}; vacuum and concurrent index builds wait for it",
            f"SELECT pg_terminate_backend({pid}); and see idle_in_transaction_session_timeout",
        )
        for pid, application, role, database, seconds in rows
        if seconds >= limit
    ]


def _prepared(connection: Connection, settings: MaintenanceSettings, figures: dict[str, int | float]) -> list[Finding]:
    limit = settings.idle_transaction_minutes * 60
    rows = connection.execute(
        "SELECT gid, database::text, extract(epoch FROM now() - prepared)::float8 FROM pg_prepared_xacts"
    ).fetchall()
    figures["prepared_transactions"] = len(rows)
    return [
        Finding(
            _level(seconds, limit * _ERROR_IDLE), "prepared transaction", f"{gid} in {database}",
            f"it was prepared {markdown.duration(seconds)} ago, and nobody has decided", f"ROLLBACK PREPARED '{gid}'; or COMMIT",
        )
        for gid, database, seconds in rows
        if seconds >= limit
    ]  # fmt: skip


def _blocked(connection: Connection, settings: MaintenanceSettings, figures: dict[str, int | float]) -> list[Finding]:
    limit = settings.blocked_seconds
    rows = connection.execute(
        """
        SELECT a.pid, coalesce(nullif(a.application_name, ''), 'no name'), a.usename::text,
               extract(epoch FROM clock_timestamp() - min(l.waitstart))::float8,
               min(l.relation::regclass::text), pg_blocking_pids(a.pid)
        FROM pg_stat_activity a JOIN pg_locks l ON l.pid = a.pid AND NOT l.granted
        WHERE l.waitstart IS NOT NULL
        GROUP BY 1, 2, 3 ORDER BY 4 DESC
        """
    ).fetchall()
    figures["blocked_statements"] = len(rows)
    figures["longest_blocked_seconds"] = round(max((row[3] for row in rows), default=0), 1)
    return [
        Finding(
            _level(seconds, limit * _ERROR_BLOCKED),
            "blocked statement",
            f"process {pid} ({application}, role {role})",
            f"it has waited for {markdown.duration(seconds)}{f' at {table}' if table else ''} behind "
            f"{', '.join(_who(connection, blocker) for blocker in blockers) or 'nobody any more'}",
            f"SELECT pg_cancel_backend({blockers[0]});" if blockers else "",
        )
        for pid, application, role, seconds, table, blockers in rows
        if seconds >= limit
    ]


def _who(connection: Connection, pid: int) -> str:
    row = connection.execute(
        "SELECT coalesce(nullif(application_name, ''), 'no name'), coalesce(state, 'unknown'), "
        "extract(epoch FROM clock_timestamp() - xact_start)::float8 FROM pg_stat_activity WHERE pid = %s",
        (pid,),
    ).fetchone()
    if row is None:
        return f"process {pid}"
    since = f", its transaction open for {markdown.duration(row[2])}" if row[2] is not None else ""
    return f"process {pid} ({row[0]}, {row[1]}{since})"


def _slots(connection: Connection, settings: MaintenanceSettings, figures: dict[str, int | float]) -> list[Finding]:
    rows = connection.execute(
        """
        SELECT slot_name::text, active, coalesce(wal_status, ''),
               (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END
                - restart_lsn)::float8
        FROM pg_replication_slots
        """
    ).fetchall()
    figures["replication_slots"] = len(rows)
    figures["log_kept_by_slots_bytes"] = int(max((row[3] or 0 for row in rows), default=0))
    found: list[Finding] = []
    for name, active, status, kept in rows:
        drop = f"SELECT pg_drop_replication_slot('{name}'); if its reader is gone for good"
        if status in ("lost", "unreserved"):
            detail = f"the log that its reader needs is {'gone' if status == 'lost' else 'about to go'}"
            found.append(Finding("error", "replication slot", name, detail, drop))
        elif not active and (kept or 0) >= settings.slot_mb * _MIB:
            detail = f"nobody reads it, and it keeps {markdown.size(kept)} of log on the disk"
            found.append(Finding("warning", "replication slot", name, detail, drop))
    return found


def _sequences(connection: Connection, settings: MaintenanceSettings, figures: dict[str, int | float]) -> list[Finding]:
    used = sequences.read(connection)
    figures["fullest_sequence_share"] = round(max((sequence.share for sequence in used), default=0.0), 6)
    return [
        Finding(
            _level(sequence.share, _NEARLY_ALL), "sequence", sequence.name,
            f"{sequence.share:.1%} of its numbers are used; {sequence.left:,} are left, then inserts fail", sequence.mend,
        )
        for sequence in used
        if sequence.share >= settings.sequence_share
    ]  # fmt: skip


def _connections(
    connection: Connection, settings: MaintenanceSettings, figures: dict[str, int | float]
) -> tuple[list[Finding], tuple[tuple[str, str, int, int], ...]]:
    rows = connection.execute(
        """
        SELECT coalesce(nullif(application_name, ''), 'no name'), coalesce(usename::text, ''), count(*)::int,
               (count(*) FILTER (WHERE xact_start IS NOT NULL))::int
        FROM pg_stat_activity WHERE backend_type = 'client backend' OR backend_type IS NULL AND datid IS NOT NULL
        GROUP BY 1, 2 ORDER BY 3 DESC, 1
        """
    ).fetchall()
    row = connection.execute(
        "SELECT current_setting('max_connections')::int, (SELECT sum(setting::int) FROM pg_settings "
        "WHERE name IN ('superuser_reserved_connections', 'reserved_connections'))"
    ).fetchone()
    assert row is not None
    room, used = int(row[0]) - int(row[1] or 0), sum(r[2] for r in rows)
    figures |= {"connections": used, "connections_allowed": room, "connections_share": round(used / room, 4)}
    table = tuple((r[0], r[1], r[2], r[3]) for r in rows)
    if used < settings.connections_share * room:
        return [], table
    busiest = f"{rows[0][0]} has {rows[0][2]}"
    return [
        Finding(
            _level(used / room, _NEARLY_ALL), "connections", f"{used} of {room}",
            f"new ones will soon be refused; {busiest}",
            "lower DATABASE_POOL_MAX or SERVING_WORKERS, or raise max_connections",
        )
    ], table  # fmt: skip


def _level(value: float, error_from: float) -> Level:
    return "error" if value >= error_from else "warning"
