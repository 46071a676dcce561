"""The PostgreSQL server that is backed up and restored: connections to it, and the client programs that suit it."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing, contextmanager
from typing import Any, TypeAlias
from urllib.parse import quote, urlsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from orchestration.backups.recovery_point import BackupError
from zhiyun.postgresql import Programs, ProgramsMissing, client_programs

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]

_MAINTENANCE = "postgres"
_CONNECT_SECONDS = "30"
# Nothing that a database's own settings say may end the session, or change how its values look as text.
_SESSION = """
SET statement_timeout = 0; SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0; SET row_security = off;
SET search_path = ''; SET datestyle = 'ISO, YMD'; SET timezone = 'UTC'; SET intervalstyle = 'postgres';
SET extra_float_digits = 3; SET bytea_output = 'hex'; SET xmlbinary = 'base64'; SET lc_monetary = 'C'
"""


@contextmanager
def connected(url: str) -> Generator[Connection]:
    """A connection in autocommit mode, set up the same on every server. Raises BackupError if there is none."""
    # Only closed: leaving a `with connection` commits, and raises where the server ended the session meanwhile.
    with closing(open_connection(url)) as connection:
        yield connection


@contextmanager
def database_errors() -> Generator[None]:
    """What PostgreSQL has against a statement of ours becomes a BackupError: it was restarted, say, or ended the session."""
    try:
        yield
    except psycopg.Error as error:
        raise BackupError(
            f"DATABASE_ADMIN_URL (or DATABASE_URL): the server did not do what was asked: {words(error)}."
        ) from error


def open_connection(url: str) -> Connection:
    """What `connected` gives, closed by the caller."""
    options = {"connect_timeout": _CONNECT_SECONDS} | conninfo_to_dict(url)
    options |= {"application_name": "zhiyun-backup", "client_encoding": "UTF8"}
    try:
        connection = psycopg.connect(make_conninfo("", **options), autocommit=True)
        connection.execute(_SESSION)
    except psycopg.OperationalError as error:
        raise BackupError(
            f"DATABASE_ADMIN_URL (or DATABASE_URL): {describe(url)} cannot be reached; nothing was changed: {words(error)}"
        ) from None
    return connection


def on_database(url: str, name: str) -> str:
    """The same server, role and options, another database."""
    if "://" not in url:
        return make_conninfo(url, dbname=name)
    return urlsplit(url)._replace(path=f"/{quote(name, safe='')}").geturl()


def maintenance(url: str) -> str:
    """The database from which others are created, renamed and dropped."""
    return on_database(url, _MAINTENANCE)


def database_name(url: str) -> str:
    """The database that a URL names; without one, it is the role's."""
    options = conninfo_to_dict(url)
    return str(options.get("dbname") or options.get("user") or "")


def describe(url: str) -> str:
    """For messages: database, host and port, never a password."""
    options = conninfo_to_dict(url)
    host, port = options.get("host") or "the local socket", options.get("port") or 5432
    return f"database {database_name(url)} on {host}:{port}"


def major_version(url: str) -> int:
    """The server's major version. Raises BackupError if it cannot be reached."""
    with connected(url) as connection:
        return connection.info.server_version // 10000


def programs_for(url: str, folder: str) -> Programs:
    """Client programs of the server's own major version; `folder` is DATABASE_PROGRAMS. Raises BackupError."""
    try:
        return client_programs(major_version(url), folder)
    except ProgramsMissing as error:
        raise BackupError(str(error)) from None


def system_identifier(url: str) -> str:
    """What tells this cluster from any other, empty where the role may not read it."""
    try:
        with connected(url) as connection:
            return str(one(connection, "SELECT system_identifier FROM pg_control_system()"))
    except psycopg.Error:
        return ""


def is_superuser(connection: Connection) -> bool:
    """Whether the connection's role may do everything."""
    return connection.info.parameter_status("is_superuser") == "on"


def one(connection: Connection, query: str, *values: object) -> Any:
    """The first column of a query's only row, None if there is no row."""
    row = connection.execute(query.encode(), values or None).fetchone()
    return row[0] if row else None


def words(error: Exception) -> str:
    """What an error says, on one line."""
    return " ".join(str(error).split()) or type(error).__name__
