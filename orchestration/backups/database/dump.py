"""A database's dump as a stream, and what was in it at the same moment."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from contextlib import ExitStack, suppress
from typing import Literal

import psycopg

from orchestration.backups.database.contents import Contents, read_contents
from orchestration.backups.database.programs import Program, ProgramFailed, running
from orchestration.backups.database.server import connected, describe, one, words
from orchestration.backups.recovery_point import BackupError, Blob, Database
from zhiyun.postgresql import Programs, connection

LOCK_WAIT = 60
"""Seconds that pg_dump waits for a table that a migration has locked."""


class Dump:
    """A database as it is at one moment. Use it as a context manager, in a thread that lives as long as the block:

        with Dump(url, programs) as dump:
            blob = write_blob(store, key, dump.chunks())
            database = dump.database("platform", blob)

    Tables are counted while pg_dump writes, in the same snapshot. Closing the chunks, or leaving the block, before the
    end kills pg_dump.
    """

    def __init__(self, url: str, programs: Programs, *, lock_wait: float = LOCK_WAIT) -> None:
        self._url, self._programs, self._lock_wait = url, programs, lock_wait
        self._stack = ExitStack()
        self._contents: Contents | None = None
        self._failure: Exception | None = None

    def __enter__(self) -> Dump:
        """Take the snapshot and start pg_dump. Raises BackupError if the server cannot be reached."""
        with ExitStack() as stack:
            self._connection = stack.enter_context(connected(self._url))
            version = self._connection.info.server_version
            self._server_version = f"{version // 10000}.{version % 10000}"
            try:
                self._connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                snapshot = one(self._connection, "SELECT pg_export_snapshot()")
                self._name = str(one(self._connection, "SELECT current_database()"))
            except psycopg.Error as error:
                raise BackupError(
                    f"No snapshot of {describe(self._url)} could be taken: {words(error)}. The database was only read."
                ) from None
            target, environment = connection(self._url)
            # Uncompressed: zstd on all processors does it better, for every version. Subscriptions hold passwords.
            self._program: Program = stack.enter_context(
                running(
                    [
                        self._programs.path("pg_dump"), f"--dbname={target}", "--format=custom", "--compress=0",
                        "--no-password", f"--lock-wait-timeout={int(self._lock_wait * 1000)}", f"--snapshot={snapshot}",
                        "--no-subscriptions", "--encoding=UTF8",
                    ],
                    environment,
                    writes=True,
                )
            )  # fmt: skip
            self._counting = threading.Thread(target=self._count, name=f"count {self._name}", daemon=True)
            stack.callback(self._stop_counting)
            self._counting.start()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def pid(self) -> int:
        """The process number of pg_dump."""
        return self._program.pid

    def chunks(self) -> Generator[bytes]:
        """The archive (custom format, not compressed) in pieces of 1 MiB; once.

        Raises BackupError at the place where the stream ends too early, so that whoever writes it can break off.
        """
        try:
            yield from self._program.chunks()
        except ProgramFailed as error:
            said = self._program.said()
            locked = (
                f"a table was locked for more than {self._lock_wait:g} s"
                if "LOCK TABLE" in said and "timeout" in said
                else ""
            )
            raise BackupError(
                f"The dump of {describe(self._url)} broke off: {locked or error}. The database was only read."
            ) from None

    def contents(self) -> Contents:
        """What the snapshot holds; waits until it is counted. Raises BackupError if the server stopped that."""
        self._counting.join()
        if self._contents is None:
            raise BackupError(
                f"The tables of {describe(self._url)} could not be counted: {words(self._failure or RuntimeError())}. "
                "The database was only read."
            )
        return self._contents

    def database(self, role: Literal["platform", "dagster"], blob: Blob) -> Database:
        """The manifest's entry for this dump, whose archive was stored as `blob`."""
        contents = self.contents()
        return Database(
            name=self._name,
            role=role,
            dump=blob,
            server_version=self._server_version,
            programs_version=self._programs.version,
            tables=contents.tables,
            extensions=contents.extensions,
            migration=contents.migration,
            live_release=contents.live_release,
        )

    def _count(self) -> None:
        try:
            self._contents = read_contents(self._connection)
        except Exception as error:
            self._failure = error

    def _stop_counting(self) -> None:
        if self._counting.is_alive():
            with suppress(psycopg.Error):
                self._connection.cancel_safe()
            self._counting.join()


def globals_(url: str, programs: Programs) -> Iterator[bytes]:
    """Roles, their memberships and settings, as SQL and without passwords. Raises BackupError."""
    target, environment = connection(url)
    command = [
        programs.path("pg_dumpall"), f"--dbname={target}", "--globals-only", "--no-role-passwords", "--no-comments",
        "--no-password",
    ]  # fmt: skip
    with running(command, environment, writes=True) as program:
        try:
            yield from program.chunks()
        except ProgramFailed as error:
            raise BackupError(
                f"The roles of {describe(url)} could not be read: {error}. The database was only read."
            ) from None
