"""A session for maintenance: what it may do, statements that can be stopped at any time, and who holds things up."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Event, Thread
from typing import Any, LiteralString, TypeAlias

import psycopg
from psycopg import errors, sql

from knowledge.database import Connection, DatabaseUnavailable

Stop: TypeAlias = Callable[[], bool]
Say: TypeAlias = Callable[[str], None]

_POLL = 0.2  # seconds between two looks at `stop` while a statement runs


class MaintenanceError(RuntimeError):
    """Maintenance cannot be done. One sentence: what, where, which setting, and what was not touched."""


class Stopped(Exception):
    """The statement was given up because `stop` said so, or its time was over. Nothing is harmed by it."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the server is, and what this session may do there."""

    version: int  # 15, 18
    role: str
    superuser: bool
    monitor: bool  # sees what other roles' sessions do
    extensions: Mapping[str, str]  # name -> the schema it lies in, for this database

    def function(self, extension: str, name: str) -> sql.Identifier:
        """The qualified name of a function of an extension, whatever the search path."""
        return sql.Identifier(self.extensions[extension], name)


def never() -> bool:
    """The `stop` of those who are never stopped."""
    return False


def silent(_: str) -> None:
    """The `say` of those whom nobody listens to."""


@contextmanager
def session(url: str, *, lock_timeout: float, purpose: str = "zhiyun maintenance") -> Generator[Connection]:
    """A connection in autocommit mode that waits at most `lock_timeout` seconds for any lock.

    When this process dies, the server gives up what it was doing for it within seconds: a REINDEX or VACUUM that went on
    alone would run into the next backup. Raises DatabaseUnavailable.
    """
    try:
        connection = psycopg.connect(url, autocommit=True, connect_timeout=10, application_name=purpose)
    except psycopg.OperationalError as error:
        raise DatabaseUnavailable(
            f"DATABASE_ADMIN_URL (or DATABASE_URL): the database cannot be reached; nothing was changed: "
            f"{str(error).strip()}"
        ) from error
    with connection:
        set_lock_timeout(connection, lock_timeout)
        connection.execute("SET statement_timeout = 0")
        with suppress(psycopg.Error):  # not on every operating system
            connection.execute("SET client_connection_check_interval = '1s'")
        yield connection


def set_lock_timeout(connection: Connection, seconds: float) -> None:
    """How long a statement of this session waits for a lock."""
    connection.execute("SELECT set_config('lock_timeout', %s, false)", (f"{max(1, int(seconds * 1000))}ms",))


def facts(connection: Connection) -> Facts:
    """Look at the server and at the role."""
    row = connection.execute(
        """
        SELECT current_setting('server_version_num')::int / 10000, current_user::text,
               (SELECT rolsuper FROM pg_roles WHERE rolname = current_user),
               pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')
        """
    ).fetchone()
    assert row is not None
    extensions = connection.execute(
        "SELECT e.extname::text, n.nspname::text FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace"
    ).fetchall()
    return Facts(int(row[0]), row[1], bool(row[2]), bool(row[3]), dict(extensions))


def require(connection: Connection, table: LiteralString) -> None:
    """Raise MaintenanceError unless the platform's table is there."""
    if one(connection, "SELECT to_regclass(%s)", (table,)) is None:
        raise MaintenanceError(
            f"The table {table} is not in the database of DATABASE_ADMIN_URL (or DATABASE_URL): run "
            "`python -m migrations upgrade`; nothing was changed."
        )


def one(connection: Connection, query: LiteralString | sql.SQL | sql.Composed, parameters: Any = None) -> Any:
    """The first value of the first row, or None."""
    row = connection.execute(query, parameters).fetchone()
    return row[0] if row else None


def run(
    connection: Connection,
    statement: sql.SQL | sql.Composed,
    *,
    stop: Stop = never,
    seconds: float | None = None,
) -> None:
    """Execute one statement that may take long; it ends when `stop` says so, and after `seconds`.

    Raises Stopped in both cases, and psycopg's error when it failed.
    """
    over = Event()

    def watch() -> None:
        while not over.wait(_POLL):
            if stop():
                with suppress(psycopg.Error):
                    connection.cancel_safe(timeout=5)

    if seconds is not None:
        if seconds <= 0:
            raise Stopped("there was no time left")
        connection.execute("SELECT set_config('statement_timeout', %s, false)", (f"{max(1, int(seconds * 1000))}ms",))
    watcher = Thread(target=watch, daemon=True) if stop is not never else None
    if watcher:
        watcher.start()
    try:
        connection.execute(statement)
    except errors.QueryCanceled as error:
        raise Stopped("it was stopped" if stop() else "its time was over") from error
    except psycopg.Error:
        raise
    except BaseException:
        # An interrupt of the process: the server would go on with the statement.
        with suppress(psycopg.Error):
            connection.cancel_safe(timeout=5)
        raise
    finally:
        over.set()
        if watcher:
            watcher.join()
        if seconds is not None and not connection.closed:
            with suppress(psycopg.Error):
                connection.execute("SET statement_timeout = 0")


def reason(error: BaseException) -> str:
    """An error's first line, for a note behind a name."""
    if isinstance(error, errors.LockNotAvailable):
        return "it is locked by another session"
    primary = error.diag.message_primary if isinstance(error, psycopg.Error) else None
    text = primary or str(error).strip() or type(error).__name__
    return text.splitlines()[0]


def long_transaction(connection: Connection, seconds: float, table: int | None = None) -> str | None:
    """Who would make a CONCURRENTLY statement on `table` wait: a transaction of this database older than `seconds`.

    One with a snapshot, or one that holds a lock on the table. None when there is none, as far as the role can see.
    """
    row = connection.execute(
        """
        SELECT a.pid, coalesce(nullif(a.application_name, ''), 'no name'), a.usename::text,
               round(extract(epoch FROM now() - a.xact_start))::int
        FROM pg_stat_activity a
        WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND a.backend_type = 'client backend'
          AND a.xact_start < clock_timestamp() - make_interval(secs => %(seconds)s)
          AND (a.backend_xmin IS NOT NULL OR EXISTS (
                SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.granted AND l.relation = %(table)s
                 AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())))
        ORDER BY a.xact_start LIMIT 1
        """,
        {"seconds": seconds, "table": table},
    ).fetchone()
    return f"process {row[0]} ({row[1]}, role {row[2]}) has a transaction open for {row[3]} s" if row else None


class Budget:
    """Seconds that may be spent."""

    def __init__(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds left, 0 when it is spent."""
        return max(0.0, self._until - time.monotonic())
