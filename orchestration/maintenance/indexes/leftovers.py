"""Invalid indexes: what an interrupted REINDEX CONCURRENTLY left is dropped, any other is reported.

A leftover costs every write its upkeep, and answers no query. Its name ends in `_ccnew` or `_ccold` (manual, "Rebuilding
Indexes Concurrently"); a name alone proves nothing, so it must also be the twin of a valid index of the same table.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from psycopg import sql

from knowledge.database import Connection
from orchestration.maintenance.indexes.catalog import Index
from orchestration.maintenance.indexes.concurrently import attempt, obstacle
from orchestration.maintenance.session import Say, Stop, never, one, silent

_SUFFIX = re.compile(r"_cc(new|old)\d*$")


@dataclass(frozen=True, slots=True)
class Invalid:
    """An index that answers no query: `outcome` is dropped, left (another time) or reported. `ddl` mends it."""

    name: str
    table: str
    size: int
    outcome: str
    note: str
    ddl: str


def drop_leftovers(
    connection: Connection, indexes: list[Index], wait: float, *, stop: Stop = never, say: Say = silent
) -> list[Invalid]:
    """Drop leftovers of REINDEX CONCURRENTLY, concurrently; say what else is invalid. `wait`: seconds for old snapshots."""
    found: list[Invalid] = []
    for index in indexes:
        if index.valid:
            continue
        ddl = f"DROP INDEX CONCURRENTLY {_quoted(connection, index)}"
        twin = _twin(index, indexes)
        if _under_way(connection, index):
            found.append(_invalid(index, "left", "another session is at work on its table", ""))
        elif not _SUFFIX.search(index.name):
            rebuild = f"REINDEX INDEX CONCURRENTLY {_quoted(connection, index)}"
            note = f"a build of it failed: {index.definition}"
            found.append(_invalid(index, "reported", note, f"{rebuild}; -- or {ddl};"))
        elif twin is None:
            note = f"named like a leftover, but no valid index of its table is its twin: {index.definition}"
            found.append(_invalid(index, "reported", note, f"{ddl};"))
        elif not index.permitted:
            found.append(
                _invalid(index, "reported", f"leftover of rebuilding {twin.name}; not ours to drop", f"{ddl};")
            )
        elif stop():
            found.append(_invalid(index, "left", "stopped before its turn", f"{ddl};"))
        else:
            say(f"dropping {index.title}, which an interrupted rebuild of {twin.name} left")
            found.append(_drop(connection, index, wait, stop, ddl))
    return found


def drop(connection: Connection, index: Index, wait: float, stop: Stop) -> str:
    """DROP INDEX CONCURRENTLY; gives why it was not done, or nothing."""
    against = obstacle(connection, wait, index.table_oid)
    if against:
        return against
    statement = sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(index.identifier)
    failed = attempt(connection, statement, wait, stop=stop)
    return failed.why if failed else ""


def _drop(connection: Connection, index: Index, wait: float, stop: Stop, ddl: str) -> Invalid:
    problem = drop(connection, index, wait, stop)
    if problem:
        return _invalid(index, "left", problem, f"{ddl};")
    return _invalid(index, "dropped", "an interrupted REINDEX CONCURRENTLY left it", "")


def _twin(index: Index, indexes: list[Index]) -> Index | None:
    """The valid index that a leftover was, or was to become. Long names are cut before the suffix is put on."""
    stem = _SUFFIX.sub("", index.name)
    for other in indexes:
        if other.valid and other.table_oid == index.table_oid and other.name.startswith(stem) and _alike(other, index):
            return other
    return None


def _alike(one_index: Index, another: Index) -> bool:
    return all(
        getattr(one_index, field) == getattr(another, field)
        for field in ("method", "keys", "included", "predicate", "unique", "nulls_not_distinct")
    )


def _under_way(connection: Connection, index: Index) -> bool:
    """Whether another session works on the table as a concurrent build does: it holds this lock all the while."""
    return bool(
        one(
            connection,
            "SELECT EXISTS (SELECT FROM pg_locks WHERE relation = %s AND granted AND pid <> pg_backend_pid() "
            "AND mode = 'ShareUpdateExclusiveLock' "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))",
            (index.table_oid,),
        )
    )


def _quoted(connection: Connection, index: Index) -> str:
    return index.identifier.as_string(connection)


def _invalid(index: Index, outcome: str, note: str, ddl: str) -> Invalid:
    return Invalid(index.title, index.table, index.size, outcome, note, ddl)
