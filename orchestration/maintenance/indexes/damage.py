"""Indexes that are damaged: amcheck reads them, as many as the time allows, those checked longest ago first."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
from psycopg import errors, sql

from knowledge.database import Connection
from orchestration.maintenance.indexes import baselines
from orchestration.maintenance.indexes.catalog import Index
from orchestration.maintenance.session import Budget, Facts, Stop, Stopped, never, one, reason, run


@dataclass(frozen=True, slots=True)
class Damaged:
    """An index that does not hold together, with amcheck's words. `ddl` builds it anew from the table."""

    name: str
    reason: str
    ddl: str


@dataclass(frozen=True, slots=True)
class Checked:
    """How many B-trees were checked, how many were not this time, and what was found."""

    checked: int
    left: int
    damaged: tuple[Damaged, ...]
    notes: tuple[str, ...]


def check(connection: Connection, can: Facts, indexes: list[Index], seconds: float, *, stop: Stop = never) -> Checked:
    """Run bt_index_check, which takes no lock that a reader or writer would notice, for at most so many seconds."""
    trees = {index.title: index for index in indexes if index.method == "btree" and index.valid}
    note = _impossible(connection, can)
    if note:
        return Checked(0, len(trees), (), (note,))
    budget = Budget(seconds)
    done, damaged, notes = 0, list[Damaged](), list[str]()
    for title in baselines.by_check(connection):
        index = trees.get(title)
        if index is None:
            continue
        if stop() or not budget.left:
            break
        # The comment keeps it out of the report of slow statements.
        statement = sql.SQL("/* zhiyun maintenance */ SELECT {}({}::oid::regclass)").format(
            can.function("amcheck", "bt_index_check"), sql.Literal(index.oid)
        )
        try:
            run(connection, statement, stop=stop, seconds=budget.left)
        except Stopped:
            break
        except (errors.IndexCorrupted, errors.DataCorrupted) as error:
            rebuild = f"REINDEX INDEX CONCURRENTLY {index.identifier.as_string(connection)};"
            damaged.append(Damaged(title, reason(error), rebuild))
        except psycopg.Error as error:
            notes.append(f"{title} was not checked: {reason(error)}")
            continue
        done += 1
        baselines.checked(connection, index)
    return Checked(done, len(trees) - done, tuple(damaged), tuple(notes))


def _impossible(connection: Connection, can: Facts) -> str:
    if "amcheck" not in can.extensions:
        return "Indexes were not checked for damage: the extension amcheck is missing (CREATE EXTENSION amcheck)."
    function = can.function("amcheck", "bt_index_check").as_string(connection)
    if not one(connection, "SELECT has_function_privilege(%s, 'EXECUTE')", (f"{function}(regclass)",)):
        return (
            f"Indexes were not checked for damage: role {can.role} may not call amcheck's function "
            f"(GRANT EXECUTE ON FUNCTION {function}(regclass) TO {can.role})."
        )
    return ""
