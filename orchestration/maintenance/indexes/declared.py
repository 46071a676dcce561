"""Indexes that the platform wants and migrations do not make: on a large table, making them in a migration would stop
writers. They are created concurrently when they are missing."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from dataclasses import dataclass

from psycopg import sql

from knowledge.database import Connection
from orchestration.maintenance.indexes.catalog import Index, read_indexes
from orchestration.maintenance.indexes.concurrently import attempt, obstacle
from orchestration.maintenance.indexes.leftovers import drop
from orchestration.maintenance.session import Budget, Facts, MaintenanceError, Say, Stop, never, one, silent
from zhiyun.settings import MaintenanceSettings

_STATEMENT = re.compile(r"CREATE\s+INDEX\s+(\w+)\s+ON\s+(\w+)\.(\w+)\s*((?:USING\s+\w+\s*)?\(.+\).*)", re.I | re.S)


@dataclass(frozen=True, slots=True)
class DeclaredIndex:
    """`form` is what stands behind the table: `(created_at)`, `USING brin (created_at)`."""

    name: str
    schema: str
    table: str
    form: str

    @property
    def ddl(self) -> str:
        return f"CREATE INDEX CONCURRENTLY {self.name} ON {self.schema}.{self.table} {self.form};"


# A few KB for any number of messages: what is counted by day reads only that day's pages.
DECLARED = (DeclaredIndex("messages_by_time", "chat", "messages", "USING brin (created_at)"),)


@dataclass(frozen=True, slots=True)
class Declared:
    """One declared index: `outcome` is there, created, left (another time) or failed."""

    name: str
    outcome: str
    note: str
    ddl: str
    seconds: float = 0.0


def parse(text: str) -> tuple[DeclaredIndex, ...]:
    """The indexes of MAINTENANCE_DECLARED_INDEXES. Raises MaintenanceError with the statement that is not understood."""
    found: list[DeclaredIndex] = []
    for statement in filter(None, (part.strip() for part in text.split(";"))):
        parts = _STATEMENT.fullmatch(statement)
        if parts is None:
            raise MaintenanceError(
                f"MAINTENANCE_DECLARED_INDEXES: {statement!r} is not of the form `CREATE INDEX name ON schema.table (...)`; "
                "no index was created."
            )
        found.append(DeclaredIndex(parts[1].lower(), parts[2].lower(), parts[3].lower(), parts[4].strip()))
    return tuple(found)


def create_declared(
    connection: Connection,
    can: Facts,
    settings: MaintenanceSettings,
    wanted: Iterable[DeclaredIndex],
    *,
    stop: Stop = never,
    say: Say = silent,
) -> list[Declared]:
    """Create what is missing, each within what is left of MAINTENANCE_INDEX_MINUTES."""
    budget = Budget(settings.index_minutes * 60)
    indexes = {index.title: index for index in read_indexes(connection, can)}
    made: list[Declared] = []
    for index in wanted:
        present = indexes.get(f"{index.schema}.{index.name}")
        if present is not None and present.valid:
            made.append(Declared(f"{index.schema}.{index.name}", "there", "", index.ddl))
            continue
        started = time.monotonic()
        outcome, note = _create(connection, settings, index, present, budget, stop, say)
        made.append(Declared(f"{index.schema}.{index.name}", outcome, note, index.ddl, time.monotonic() - started))
    return made


def _create(
    connection: Connection,
    settings: MaintenanceSettings,
    index: DeclaredIndex,
    broken: Index | None,
    budget: Budget,
    stop: Stop,
    say: Say,
) -> tuple[str, str]:
    oid = one(connection, "SELECT to_regclass(format('%%I.%%I', %s::text, %s::text))::oid", (index.schema, index.table))
    if oid is None:
        return "failed", f"there is no table {index.schema}.{index.table}"
    if stop():
        return "left", "stopped before its turn"
    against = obstacle(connection, settings.snapshot_timeout, oid)
    if against:
        return "left", against
    if broken is not None:  # an earlier attempt of ours; the name is declared, so it is ours to drop
        problem = drop(connection, broken, settings.snapshot_timeout, stop)
        if problem:
            return "left", f"an earlier attempt left it invalid, and that could not be dropped: {problem}"
    say(f"creating {index.schema}.{index.name}")
    text = f"CREATE INDEX CONCURRENTLY {index.name} ON {index.schema}.{index.table} {index.form}"
    # The form is this module's or the operator's own setting.
    statement = sql.SQL(text)  # pyright: ignore[reportArgumentType]
    failed = attempt(connection, statement, settings.snapshot_timeout, stop=stop, seconds=budget.left)
    return (failed.outcome, f"{failed.why}; the next run tries again") if failed else ("created", "")
