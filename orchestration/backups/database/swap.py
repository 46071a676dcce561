"""Putting a restored database in the place of the live one, and back."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime

import psycopg
from psycopg import sql

from orchestration.backups.database.server import Connection, connected, maintenance, words
from orchestration.backups.database.siblings import name_beside
from orchestration.backups.recovery_point import BackupError

_TRIES = 3
_AWAY_SECONDS = 20.0  # that a server which restarts in the middle is waited for, to hear whether it had heard COMMIT


def swap(admin_url: str, live: str, new: str, kept: str) -> None:
    """In one transaction, `live` becomes `kept` and `new` becomes `live`; whoever is connected to them is thrown out.

    Raises BackupError; then both databases have the names that they had.
    """
    exchange(admin_url, [(live, kept), (new, live)])


def put(admin_url: str, live: str, new: str, kept: str) -> str:
    """`swap`, or give `new` the name if there is no live database any more. What is kept now, empty for nothing."""
    if live in _names(admin_url):
        swap(admin_url, live, new, kept)
        return kept
    exchange(admin_url, [(new, live)])
    return ""


def take_back(admin_url: str, live: str, new: str, kept: str) -> None:
    """Undo a `put`, if it was done. Raises BackupError; then nothing was changed."""
    there = _names(admin_url)
    if new in there or live not in there:
        return
    exchange(admin_url, [(live, new), *([(kept, live)] if kept in there else [])])


def undo(admin_url: str, live: str, kept: str) -> str:
    """Put a kept database back in its place; gives the name under which the one that was live is kept now.

    Raises BackupError; then nothing was changed.
    """
    aside = name_beside(live, "before", datetime.now(UTC))
    swap(admin_url, live, kept, aside)
    return aside


def exchange(admin_url: str, steps: Sequence[tuple[str, str]], *, without_note: Sequence[str] = ()) -> None:
    """Rename databases, all in one transaction, which also takes away the notes (`siblings.note`) of some.

    A rename locks its database first and then waits up to 5 s until nobody is left in it; who connects meanwhile waits
    for the lock, so that ending the sessions from a second connection empties it. A client that was waiting is told
    that the database was renamed, and finds the new one when it connects again. Raises BackupError; then all have the
    names that they had.
    """
    problem = ""
    for _ in range(_TRIES):
        with connected(maintenance(admin_url)) as renaming, connected(maintenance(admin_url)) as ending:
            sessions = _Sessions(ending, sorted({name for name, _ in steps}))
            try:
                with sessions:
                    _rename(renaming, steps, without_note)
                return
            except (psycopg.errors.ObjectInUse, psycopg.errors.LockNotAvailable) as error:
                problem = words(error)
                if sessions.refused:
                    roles = ", ".join(sorted(sessions.refused))
                    problem += f" (sessions of {roles} may be ended only by a superuser, or by that role)"
                    break
            except psycopg.OperationalError as error:
                if _was_done(admin_url, steps):  # the connection broke after the server had heard COMMIT
                    return
                problem = words(error)
            except psycopg.Error as error:
                problem = words(error)
                break
    new, live = steps[-1]
    raise BackupError(
        f"Database {new} could not be put in the place of {live}: {problem}. Both have the names that they had."
    )


def _rename(connection: Connection, steps: Sequence[tuple[str, str]], without_note: Sequence[str]) -> None:
    with connection.transaction():
        connection.execute("SET LOCAL lock_timeout = '10s'")
        for name in without_note:
            connection.execute(sql.SQL("COMMENT ON DATABASE {} IS NULL").format(sql.Identifier(name)))
        for before, after in steps:
            connection.execute(
                sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(before), sql.Identifier(after))
            )


def _was_done(admin_url: str, steps: Sequence[tuple[str, str]]) -> bool:
    deadline = time.monotonic() + _AWAY_SECONDS
    while True:
        try:
            names = _names(admin_url)
            break
        except BackupError:  # it is starting again
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
    before, after = ({step[side] for step in steps} for side in (0, 1))
    return after <= names and not (before - after) & names


def _names(admin_url: str) -> set[str]:
    with connected(maintenance(admin_url)) as connection:
        return {row[0] for row in connection.execute("SELECT datname FROM pg_database")}


class _Sessions:
    """While the block lasts, sessions in some databases are ended as they come. `refused`: roles whose may not be."""

    def __init__(self, connection: Connection, databases: list[str]) -> None:
        self._connection, self._databases = connection, databases
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._end_them, name="ending sessions", daemon=True)
        self.refused: set[str] = set()

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _end_them(self) -> None:
        while not self._stop.wait(0.05):
            try:
                self._end_those_there()
            except psycopg.OperationalError:  # the server went away: the rename tells
                return

    def _end_those_there(self) -> None:
        rows = self._connection.execute(
            "SELECT pid, coalesce(usename, backend_type) FROM pg_stat_activity "
            "WHERE datname = ANY (%s) AND pid <> pg_backend_pid()",
            (self._databases,),
        ).fetchall()
        for pid, role in rows:
            try:
                self._connection.execute("SELECT pg_terminate_backend(%s)", (pid,))
            except psycopg.errors.InsufficientPrivilege:
                self.refused.add(role)
