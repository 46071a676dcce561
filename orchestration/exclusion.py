"""One heavy operation at a time: backup, restore, drill and maintenance exclude one another, whoever started them.

The lock is an advisory one in the server's maintenance database (`postgres`), since a restore renames the platform's own.
It ends with the session that holds it, so a process that was killed holds nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing, contextmanager

import psycopg
from psycopg import conninfo

from knowledge.database import DatabaseUnavailable, unlock, wait_for_lock

MAINTENANCE_DATABASE = "postgres"
_LOCK = 0x7A6879_03
_NAME_LIMIT = 63  # bytes that PostgreSQL keeps of an application's name


class Busy(RuntimeError):
    """Another operation holds the lock. One sentence that says which, and since when."""


def maintenance_url(url: str) -> str:
    """The same server and role, but the database `postgres`."""
    return conninfo.make_conninfo(url, dbname=MAINTENANCE_DATABASE)


@contextmanager
def exclusive(
    url: str, what: str, *, wait: float = 0.0, say: Callable[[str], None] = lambda _: None
) -> Generator[Callable[[], None]]:
    """Hold the operations lock of the server at `url` while the block runs; gives a call that raises Busy if it is lost.

    `what` (ASCII, for example `backup of 2026-11-24`) is what others are told meanwhile. Waits up to `wait` seconds for
    whoever has it, and says so once. Raises Busy, or DatabaseUnavailable.
    """
    name = f"zhiyun {what}".encode("ascii", "replace")[:_NAME_LIMIT].decode()
    try:
        connection = psycopg.connect(
            maintenance_url(url), autocommit=True, connect_timeout=10, application_name=name, keepalives_idle=30
        )
    except psycopg.OperationalError as error:
        raise DatabaseUnavailable(
            f"DATABASE_URL: the server's database {MAINTENANCE_DATABASE!r} cannot be reached, so nobody can be kept out "
            f"meanwhile; nothing was changed: {' '.join(str(error).split())}"
        ) from error
    # Only closed: leaving a `with connection` commits, and raises where the server ended the session meanwhile.
    with closing(connection):
        holder = wait_for_lock(connection, _LOCK, wait, say)
        if holder:
            raise Busy(f"The {what} did not start: {holder} is under way. Nothing was changed; try again after it.")

        def still_held() -> None:
            try:
                connection.execute("SELECT 1")
            except psycopg.OperationalError:
                raise Busy(
                    f"The {what} was broken off: the server has ended the session that kept others out, so they may have "
                    "begun meanwhile. What is live was not changed; try again."
                ) from None

        try:
            yield still_held
        finally:
            unlock(connection, _LOCK)
