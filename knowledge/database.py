"""Connections to the platform's database for the pipeline (the chat has a pool of its own)."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, TypeAlias

import psycopg

from zhiyun.settings import DatabaseSettings

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]

# One run at a time writes the catalogue, whoever started it: Dagster, the command line, a test.
_WRITER_LOCK = 0x7A6879_02


class DatabaseUnavailable(RuntimeError):
    """The database cannot be reached. One sentence that names DATABASE_URL."""


class AnotherWriter(RuntimeError):
    """Another run is writing the catalogue."""


def connect(settings: DatabaseSettings) -> Connection:
    """A connection in autocommit mode: what must be one step is one `with connection.transaction()`."""
    try:
        return psycopg.connect(
            settings.url,
            autocommit=True,
            connect_timeout=int(settings.connect_timeout),
            application_name="zhiyun-pipeline",
        )
    except psycopg.OperationalError as error:
        raise DatabaseUnavailable(
            f"DATABASE_URL: the database cannot be reached; nothing was changed: {str(error).strip()}"
        ) from error


@contextmanager
def writer(connection: Connection) -> Generator[None]:
    """Hold the catalogue's writer lock. Raises AnotherWriter at once where another session holds it."""
    row = connection.execute("SELECT pg_try_advisory_lock(%s)", (_WRITER_LOCK,)).fetchone()
    if not row or not row[0]:
        raise AnotherWriter("Another run is taking in the knowledge base; this one stopped and changed nothing.")
    try:
        yield
    finally:
        if not connection.closed:
            connection.execute("SELECT pg_advisory_unlock(%s)", (_WRITER_LOCK,))
