"""The report on slow statements: what took the time since the last report, by which plan, and what got slower in a week."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import LiteralString, cast

import psycopg

from knowledge.database import Connection
from orchestration.maintenance.session import Facts, Say, Stop, facts, never, require, silent
from orchestration.maintenance.statements import snapshots
from orchestration.maintenance.statements.snapshots import Counters, Snapshot
from zhiyun.settings import MaintenanceSettings

_SHOWN = 20
_PLANNED = 10
_WEEK = timedelta(days=7)
_TOLERANCE = timedelta(days=2)  # how far from a week ago a snapshot may lie
# A regression: so many times slower, by so many ms, over so many calls in both weeks.
_SLOWER, _BY_MS, _CALLS = 2.0, 5.0, 20


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement since the last report. `plan` is its generic plan, or why there is none."""

    queryid: int
    text: str  # normalised
    counters: Counters
    share: float  # of all the time
    slow: bool
    plan: str


@dataclass(frozen=True, slots=True)
class Regression:
    """A statement that takes longer than a week ago, in mean ms."""

    queryid: int
    text: str
    before_ms: float
    now_ms: float
    calls: int


@dataclass(frozen=True, slots=True)
class SlowQueries:
    """`since` is None when no earlier snapshot was there: figures then count from the server's own beginning."""

    available: bool
    since: datetime | None
    total_ms: float
    statements: tuple[Statement, ...]
    regressions: tuple[Regression, ...]
    notes: tuple[str, ...]
    pruned: int = 0

    @property
    def slow(self) -> list[Statement]:
        return [statement for statement in self.statements if statement.slow]


def slow_query_report(
    connection: Connection, settings: MaintenanceSettings, *, stop: Stop = never, say: Say = silent
) -> SlowQueries:
    """Take a snapshot of pg_stat_statements, and compare it with the last one and with last week's."""
    require(connection, "operations.statement_snapshots")
    can = facts(connection)
    why_not = snapshots.missing(connection, can)
    if why_not:
        return SlowQueries(False, None, 0.0, (), (), (why_not,))
    notes: list[str] = []
    if not can.monitor:
        notes.append(f"Only statements of role {can.role} are seen: GRANT pg_monitor TO {can.role}.")
    if can.version < 16:
        notes.append("Plans without values need PostgreSQL 16 or later; none are shown.")
    now = snapshots.take(connection, can)
    last = snapshots.before(connection, now.taken_at)
    between = now.since(last)
    total = sum(counters.total_ms for counters in between.values())
    by_time = sorted(between, key=lambda queryid: -between[queryid].total_ms)
    slow = [q for q in by_time if _is_slow(now.texts[q], between[q], settings.slow_query_ms)]
    shown = list(dict.fromkeys([*slow, *by_time[:_SHOWN]]))[: 2 * _SHOWN]
    say(f"{len(between)} statements took {total / 1000:.1f} s; {len(slow)} are slow")
    found = [
        Statement(
            queryid,
            snapshots.normalised(now.texts[queryid]),
            between[queryid],
            between[queryid].total_ms / total if total else 0.0,
            queryid in slow,
            _plan(connection, can, now.texts[queryid]) if place < _PLANNED and not stop() else "",
        )
        for place, queryid in enumerate(shown)
    ]
    regressions = _regressions(connection, now, between)
    if regressions is None:
        notes.append("There is no snapshot of a week ago to compare with yet.")
    return SlowQueries(
        True, last.taken_at if last else None, total, tuple(found), tuple(regressions or ()), tuple(notes),
        snapshots.prune(connection, settings.statements_days),
    )  # fmt: skip


def _is_slow(text: str, counters: Counters, limit_ms: float) -> bool:
    return counters.mean_ms >= limit_ms and snapshots.reads_or_writes_data(text)


def _regressions(connection: Connection, now: Snapshot, between: dict[int, Counters]) -> list[Regression] | None:
    """Compare with the period that ended a week ago. None when there was none."""
    then = snapshots.before(connection, now.taken_at - _WEEK + timedelta(hours=12))
    if then is None or then.taken_at < now.taken_at - _WEEK - _TOLERANCE:
        return None
    period = then.since(snapshots.before(connection, then.taken_at))
    found: list[Regression] = []
    for queryid, new in between.items():
        old = period.get(queryid)
        if old is None or min(old.calls, new.calls) < _CALLS or not snapshots.reads_or_writes_data(now.texts[queryid]):
            continue
        if new.mean_ms >= _SLOWER * old.mean_ms and new.mean_ms - old.mean_ms >= _BY_MS:
            text = snapshots.normalised(now.texts[queryid])
            found.append(Regression(queryid, text, old.mean_ms, new.mean_ms, new.calls))
    return sorted(found, key=lambda r: -(r.now_ms - r.before_ms) * r.calls)


def _plan(connection: Connection, can: Facts, text: str) -> str:
    """The generic plan: the statement is not run, and the transaction could not write if it were."""
    if can.version < 16:
        return ""
    plain = text.strip().rstrip(";")
    if not snapshots.reads_or_writes_data(plain) or ";" in snapshots.normalised(plain):
        return ""
    try:
        with connection.transaction(force_rollback=True):
            connection.execute("SET TRANSACTION READ ONLY")
            connection.execute("SET LOCAL statement_timeout = '5s'")
            # The server's own record of a statement; without parameters psycopg sends it as it is.
            query = cast("LiteralString", f"EXPLAIN (GENERIC_PLAN) {plain}")
            rows = connection.execute(query).fetchall()
    except psycopg.Error as error:
        return f"no plan: {snapshots.without_values((error.diag.message_primary or 'unknown').splitlines()[0])}"
    return "\n".join(snapshots.without_values(row[0]) for row in rows)
