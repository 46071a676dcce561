"""Statements that make, rebuild or drop an index while everybody goes on reading and writing (CONCURRENTLY)."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import psycopg
from psycopg import sql

from knowledge.database import Connection
from orchestration.maintenance.session import Stop, Stopped, long_transaction, one, reason, run, set_lock_timeout


@dataclass(frozen=True, slots=True)
class NotDone:
    """Why a statement came to nothing, and whether another time may do. `waited`: a transaction did not end in time."""

    outcome: Literal["left", "failed"]
    why: str
    waited: bool


def obstacle(connection: Connection, wait: float, table: int) -> str | None:
    """What a statement on an index of the table (its oid) would wait for, open for longer than `wait` seconds."""
    blocker = long_transaction(connection, wait, table)
    return f"it would wait: {blocker}" if blocker else None


def attempt(
    connection: Connection, statement: sql.SQL | sql.Composed, wait: float, *, stop: Stop, seconds: float | None = None
) -> NotDone | None:
    """Execute one statement, which waits at most `wait` seconds for a transaction and takes at most `seconds`.

    None when it is done.
    """
    with _lock_timeout(connection, wait):
        try:
            run(connection, statement, stop=stop, seconds=seconds)
        except (Stopped, psycopg.Error) as error:
            waited = isinstance(error, psycopg.errors.LockNotAvailable)
            return NotDone("left" if waited or isinstance(error, Stopped) else "failed", reason(error), waited)
    return None


@contextmanager
def _lock_timeout(connection: Connection, seconds: float) -> Generator[None]:
    before = float(one(connection, "SELECT extract(epoch FROM current_setting('lock_timeout')::interval)"))
    set_lock_timeout(connection, seconds)
    try:
        yield
    finally:
        set_lock_timeout(connection, before)
