"""Vacuum and statistics: only tables that need it, and never VACUUM FULL.

The rules are autovacuum's (PostgreSQL manual, "The Autovacuum Daemon"), with lower scales: what it would do some time
by day is done at night. A plain VACUUM blocks no reader and no writer, and may be broken off anywhere.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import psycopg
from psycopg import sql

from knowledge.database import Connection
from orchestration.maintenance.session import (
    Budget,
    Facts,
    Say,
    Stop,
    Stopped,
    facts,
    long_transaction,
    never,
    one,
    reason,
    run,
    silent,
)
from orchestration.maintenance.tables import Figures, Table, read_tables, table_size
from zhiyun.settings import MaintenanceSettings

_THRESHOLD = 50  # rows: autovacuum_vacuum_threshold and autovacuum_analyze_threshold
_INSERT_THRESHOLD = 1000  # rows: autovacuum_vacuum_insert_threshold
_PARENT_DAYS = 7  # nothing counts the changes of a partitioned table, so its statistics go by age
# Autovacuum's kind of pace, ten times as fast: 200 MB/s of dirtied pages at most.
_PACE = ("SET vacuum_cost_delay = '1ms'", "SET vacuum_cost_limit = 500")


@dataclass(frozen=True, slots=True)
class Treatment:
    """What was chosen for one table, why, and what came of it."""

    table: str
    statement: str
    reasons: tuple[str, ...]
    outcome: str  # done, skipped, failed, left
    before: Figures
    after: Figures | None = None
    note: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Vacuumed:
    """A night's vacuum. `looked_at` counts all tables; `notes` say what could not be seen or done."""

    looked_at: int
    treatments: tuple[Treatment, ...]
    notes: tuple[str, ...]
    stopped: bool

    def count(self, outcome: str) -> int:
        return sum(treatment.outcome == outcome for treatment in self.treatments)


@dataclass(frozen=True, slots=True)
class _Choice:
    table: Table
    options: tuple[str, ...]  # FREEZE, ANALYZE; empty with `analyze_only`
    analyze_only: bool
    reasons: tuple[str, ...]

    @property
    def statement(self) -> str:
        if self.analyze_only:
            return "ANALYZE"
        return f"VACUUM ({', '.join(self.options)})" if self.options else "VACUUM"


def vacuum_analyze(
    connection: Connection, settings: MaintenanceSettings, *, stop: Stop = never, say: Say = silent
) -> Vacuumed:
    """Vacuum and analyze what needs it, the oldest and the deadest first, within MAINTENANCE_VACUUM_MINUTES.

    `connection` is in autocommit mode with a lock_timeout (session.session). A table that cannot be locked is skipped.
    """
    can = facts(connection)
    for statement in _PACE:
        connection.execute(statement)
    tables = read_tables(connection, can)
    chosen = choose(connection, tables, settings)
    budget = Budget(settings.vacuum_minutes * 60)
    notes = [] if can.monitor else [_blind(can)]
    treatments: list[Treatment] = []
    denied: list[str] = []
    stopped = False
    for choice in chosen:
        if not choice.table.permitted:
            denied.append(choice.table.title)
            continue
        stopped = stopped or stop()
        treatment = _plan(connection, choice)
        if stopped or not budget.left:
            note = "stopped before its turn" if stopped else "no time was left; MAINTENANCE_VACUUM_MINUTES"
            treatments.append(replace(treatment, outcome="left", note=note))
            continue
        say(f"{choice.statement} {choice.table.title}: {'; '.join(choice.reasons)}")
        treatments.append(_treat(connection, can, choice, treatment, budget, stop))
        stopped = stopped or stop()
    if denied:
        notes.append(
            f"{len(denied)} tables need it and role {can.role} may not vacuum them: {', '.join(denied[:10])}; "
            "set DATABASE_ADMIN_URL to a role that owns them."
        )
    return Vacuumed(len(tables), tuple(treatments), tuple(notes), stopped)


def choose(connection: Connection, tables: list[Table], settings: MaintenanceSettings) -> list[_Choice]:
    """Tables that need something, with the reasons."""
    freeze = int(one(connection, "SELECT current_setting('autovacuum_freeze_max_age')")) * settings.freeze_share
    multixact = (
        int(one(connection, "SELECT current_setting('autovacuum_multixact_freeze_max_age')")) * settings.freeze_share
    )
    chosen: list[_Choice] = []
    for table in tables:
        why_freeze = [
            f"{what} {age:,} of at most {limit:,.0f}"
            for what, age, limit in (
                ("age", table.figures.age, freeze),
                ("multixact age", table.multixact_age, multixact),
            )
            if age >= limit
        ]
        why_vacuum = _vacuum_reasons(table, settings.vacuum_scale)
        why_analyze = _analyze_reasons(table, settings.analyze_scale)
        options = (("FREEZE",) if why_freeze else ()) + (("ANALYZE",) if why_analyze else ())
        reasons = (*why_freeze, *why_vacuum, *why_analyze)
        if reasons:
            chosen.append(_Choice(table, options, not (why_freeze or why_vacuum), reasons))
    return sorted(
        chosen, key=lambda c: ("FREEZE" not in c.options, c.analyze_only, -c.table.figures.dead, c.table.title)
    )


def _vacuum_reasons(table: Table, scale: float) -> list[str]:
    if table.kind == "p":
        return []
    figures = table.figures
    found: list[str] = []
    for what, dead, rows in (("", figures.dead, figures.rows), ("TOAST ", table.toast_dead, table.toast_rows)):
        if dead >= _THRESHOLD + scale * rows:
            found.append(f"{dead:,} dead {what}rows beside {rows:,}")
    if figures.inserted >= _INSERT_THRESHOLD + scale * figures.rows:
        found.append(f"{figures.inserted:,} rows inserted since the last vacuum")
    return found


def _analyze_reasons(table: Table, scale: float) -> list[str]:
    # initdb analyzed the catalogs, and nothing recorded it.
    never_done = not table.catalog and table.analyzed_days is None and (table.pages > 0 or table.kind == "p")
    if never_done:
        return ["statistics were never collected"]
    if table.kind == "p":
        days = table.analyzed_days or 0
        return [f"statistics of the whole are {days:.0f} days old"] if days >= _PARENT_DAYS else []
    if table.figures.modified >= _THRESHOLD + scale * table.figures.rows:
        return [f"{table.figures.modified:,} rows changed since statistics were collected"]
    return []


def _plan(connection: Connection, choice: _Choice) -> Treatment:
    before = replace(choice.table.figures, size=table_size(connection, choice.table.oid))
    return Treatment(choice.table.title, choice.statement, choice.reasons, "left", before)


def _treat(
    connection: Connection, can: Facts, choice: _Choice, planned: Treatment, budget: Budget, stop: Stop
) -> Treatment:
    table = choice.table
    started = time.monotonic()
    outcome, note = "done", ""
    try:
        run(
            connection,
            sql.SQL("{} {}").format(_STATEMENTS[choice.statement], sql.Identifier(table.schema, table.name)),
            stop=stop,
            seconds=budget.left,
        )
    except Stopped as error:
        outcome, note = "left", f"{error}; what it had done stays"
    except psycopg.errors.LockNotAvailable as error:
        outcome, note = "skipped", reason(error)
    except psycopg.errors.UndefinedTable:
        outcome, note = "skipped", "it was dropped meanwhile"
    except psycopg.Error as error:
        outcome, note = "failed", reason(error)
    seconds = time.monotonic() - started
    now = next((t for t in read_tables(connection, can, table.oid)), None)
    after = replace(now.figures, size=table_size(connection, table.oid)) if now else None
    if outcome == "done" and not choice.analyze_only and after and after.dead > _THRESHOLD:
        holder = long_transaction(connection, 1)
        note = f"{after.dead:,} dead rows stay: " + (holder or "a transaction may still see them")
    return replace(planned, outcome=outcome, note=note, after=after, seconds=seconds)


_STATEMENTS = {
    "VACUUM": sql.SQL("VACUUM"),
    "ANALYZE": sql.SQL("ANALYZE"),
    "VACUUM (FREEZE)": sql.SQL("VACUUM (FREEZE)"),
    "VACUUM (ANALYZE)": sql.SQL("VACUUM (ANALYZE)"),
    "VACUUM (FREEZE, ANALYZE)": sql.SQL("VACUUM (FREEZE, ANALYZE)"),
}


def _blind(can: Facts) -> str:
    return (
        f"Role {can.role} does not see other roles' sessions, so who keeps dead rows alive cannot be told: "
        f"GRANT pg_monitor TO {can.role}."
    )
