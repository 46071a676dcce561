"""Connections to the platform's database for the pipeline (the chat has a pool of its own)."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import Any, TypeAlias

import psycopg

from zhiyun.settings import DatabaseSettings

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]

# One run at a time writes the catalogue, whoever started it: Dagster, the command line, a test.
_WRITER_LOCK = 0x7A6879_02
_POLL = 1.0  # seconds between two tries at a lock


class DatabaseUnavailable(RuntimeError):
    """The database cannot be reached. One sentence that names DATABASE_URL."""


class AnotherWriter(RuntimeError):
    """Another run is writing the catalogue."""


def connect(settings: DatabaseSettings, purpose: str = "zhiyun ingestion") -> Connection:
    """A connection in autocommit mode: what must be one step is one `with connection.transaction()`.

    `purpose` (ASCII) is what others are told who find a lock of it taken. Raises DatabaseUnavailable.
    """
    try:
        return psycopg.connect(
            settings.url,
            autocommit=True,
            connect_timeout=int(settings.connect_timeout),
            application_name=purpose,
        )
    except psycopg.OperationalError as error:
        raise DatabaseUnavailable(
            f"DATABASE_URL: the database cannot be reached; nothing was changed: {' '.join(str(error).split())}"
        ) from error


@contextmanager
def writer(
    connection: Connection, *, wait: float = 0.0, say: Callable[[str], None] = lambda _: None
) -> Generator[None]:
    """Hold the catalogue's writer lock. Raises AnotherWriter where another session holds it for `wait` seconds more."""
    holder = wait_for_lock(connection, _WRITER_LOCK, wait, say)
    if holder:
        raise AnotherWriter(
            f"The knowledge base is held by another run ({holder}); this one stopped and changed nothing."
        )
    try:
        yield
    finally:
        unlock(connection, _WRITER_LOCK)


def wait_for_lock(connection: Connection, number: int, wait: float, say: Callable[[str], None]) -> str | None:
    """`try_lock` for up to `wait` seconds; `say` is told once for whom it waits."""
    deadline, told = time.monotonic() + wait, False
    while (holder := try_lock(connection, number)) and time.monotonic() < deadline:
        if not told:
            told = True
            say(f"waiting for {holder}")
        time.sleep(_POLL)
    return holder


def try_lock(connection: Connection, number: int) -> str | None:
    """Take an advisory lock of this database until the session ends. None, or who has it: its purpose, and since when."""
    row = connection.execute("SELECT pg_try_advisory_lock(%s)", (number,)).fetchone()
    if row and row[0]:
        return None
    row = connection.execute(
        """
        SELECT a.application_name, to_char(a.backend_start, 'YYYY-MM-DD HH24:MI:SS TZ')
        FROM pg_locks l JOIN pg_stat_activity a USING (pid)
        WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
          AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
          AND ((l.classid::bigint << 32) | l.objid::bigint) = %s
        """,
        (number,),
    ).fetchone()
    return f"{row[0] or 'a session without a name'}, since {row[1]}" if row else "a session that has just ended"


def unlock(connection: Connection, number: int) -> None:
    """Give an advisory lock back; a session that was ended holds none."""
    with suppress(psycopg.OperationalError):
        connection.execute("SELECT pg_advisory_unlock(%s)", (number,))
