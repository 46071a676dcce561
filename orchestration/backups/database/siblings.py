"""Databases beside the live one: made for a restore or a drill, kept after a swap, dropped when they have served.

Their names say what they are, of which database, and since when: `zhiyun_before_20261124T031500Z`.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import sleep
from typing import Any, Literal

import psycopg
from psycopg import sql

from orchestration.backups.database.server import Connection, connected, maintenance, one, words
from orchestration.backups.recovery_point import BackupError

_LONGEST = 63  # bytes of a name in PostgreSQL
_TIME = "%Y%m%dT%H%M%SZ"
_BUSY_TRIES = 10
_PRIVILEGES = {"CREATE": sql.SQL("CREATE"), "CONNECT": sql.SQL("CONNECT"), "TEMPORARY": sql.SQL("TEMPORARY")}


@dataclass(frozen=True)
class Beside:
    """A database beside the live one: since when, and its size in bytes (None where that may not be read)."""

    name: str
    at: datetime
    size: int | None


def name_beside(live: str, kind: Literal["before", "restore", "drill"], at: datetime) -> str:
    """What a database is called that is kept (`before`), restored into, or made for a drill."""
    return f"{_stem(live)}_{kind}_{at.astimezone(UTC).strftime(_TIME)}"


def create(admin_url: str, name: str, like: str) -> None:
    """Make an empty database with the owner, encoding, locale, settings and privileges of the database `like`.

    If there is no `like` on the server (it is empty), with the server's defaults. Raises BackupError, also if there
    is one of this name.
    """
    with connected(maintenance(admin_url)) as connection:
        if _exists(connection, name):
            raise BackupError(f"There is already a database {name}; nothing was changed.")
        options, from_template1 = _options(connection, like)
        try:
            for template in ["template1", "template0"] if from_template1 else ["template0"]:
                if _created(connection, name, [*options, sql.SQL("TEMPLATE {}").format(sql.Identifier(template))]):
                    break
            else:
                raise BackupError(
                    f"Database {name} could not be made: somebody is connected to template0. Nothing was changed."
                )
            try:
                if _exists(connection, like):
                    _copy_privileges(connection, like, name)
            except BaseException:
                connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
                raise
        except psycopg.Error as error:
            raise BackupError(
                f"Database {name} could not be made: {words(error)}. The role of DATABASE_ADMIN_URL needs CREATEDB and has "
                "to be the owner's; nothing else was changed."
            ) from None


def _created(connection: Connection, name: str, options: list[sql.Composable]) -> bool:
    statement = sql.SQL("CREATE DATABASE {} {}").format(sql.Identifier(name), sql.SQL(" ").join(options))
    for _ in range(_BUSY_TRIES):
        try:
            connection.execute(statement)
            return True
        except psycopg.errors.ObjectInUse:  # somebody looks into the template
            sleep(0.2)
    return False


def _options(connection: Connection, like: str) -> tuple[list[sql.Composable], bool]:
    """For CREATE DATABASE, and whether template1 suits."""
    row = connection.execute(
        "SELECT to_jsonb(d) || jsonb_build_object('owner', pg_get_userbyid(datdba), 'charset', pg_encoding_to_char(encoding)) "
        "FROM pg_database d WHERE datname = %s",
        (like,),
    ).fetchone()
    # An ordinary role may not create every extension: it takes those that the administrator put into template1. What
    # else is in there would be in the way of a restore, so that a superuser starts with nothing.
    ordinary = connection.info.parameter_status("is_superuser") != "on"
    if not row:
        return [], ordinary
    facts: dict[str, Any] = row[0]
    provider = {"c": "libc", "i": "icu", "b": "builtin"}[facts["datlocprovider"]]
    locale = facts.get("datlocale") or facts.get("daticulocale")  # 17 and later, 15 and 16
    options: list[sql.Composable] = [
        sql.SQL("OWNER {}").format(sql.Identifier(facts["owner"])),
        sql.SQL("ENCODING {}").format(facts["charset"]),
        sql.SQL("LOCALE_PROVIDER {}").format(sql.Identifier(provider)),
        sql.SQL("LC_COLLATE {} LC_CTYPE {}").format(facts["datcollate"], facts["datctype"]),
    ]
    if provider != "libc":
        options.append(sql.SQL("ICU_LOCALE {}" if provider == "icu" else "BUILTIN_LOCALE {}").format(locale))
    if facts.get("daticurules"):
        options.append(sql.SQL("ICU_RULES {}").format(facts["daticurules"]))
    if facts["datconnlimit"] >= 0:
        options.append(sql.SQL("CONNECTION LIMIT {}").format(facts["datconnlimit"]))
    same = one(
        connection,
        "SELECT (a.encoding, a.datlocprovider, a.datcollate, a.datctype) = "
        "(b.encoding, b.datlocprovider, b.datcollate, b.datctype) FROM pg_database a, pg_database b "
        "WHERE a.datname = 'template1' AND b.datname = %s",
        like,
    )
    return options, ordinary and bool(same)


def _copy_privileges(connection: Connection, like: str, name: str) -> None:
    """Settings and privileges are tied to a database, not to its name: without this, a swap would lose them."""
    grants = connection.execute(
        "SELECT CASE a.grantee WHEN 0 THEN NULL ELSE pg_get_userbyid(a.grantee) END, a.privilege_type, a.is_grantable "
        "FROM pg_database d, aclexplode(d.datacl) a WHERE d.datname = %s AND a.grantee <> d.datdba",
        (like,),
    ).fetchall()
    settings = connection.execute(
        "SELECT CASE setrole WHEN 0 THEN NULL ELSE pg_get_userbyid(setrole) END, split_part(item, '=', 1), "
        "substr(item, strpos(item, '=') + 1) FROM pg_db_role_setting, unnest(setconfig) item "
        "WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = %s)",
        (like,),
    ).fetchall()
    database = sql.Identifier(name)
    if one(connection, "SELECT datacl IS NOT NULL FROM pg_database WHERE datname = %s", like):
        connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database))
    for role, privilege, grantable in grants:
        connection.execute(
            sql.SQL("GRANT {} ON DATABASE {} TO {}{}").format(
                _PRIVILEGES[privilege],
                database,
                sql.Identifier(role) if role else sql.SQL("PUBLIC"),
                sql.SQL(" WITH GRANT OPTION" if grantable else ""),
            )
        )
    for role, setting, value in settings:
        whose = sql.SQL("ROLE {} IN DATABASE {}") if role else sql.SQL("DATABASE {}")
        names = [sql.Identifier(role), database] if role else [database]
        # From the session: the text of a list of names cannot be written as a literal.
        with connection.transaction():
            connection.execute("SELECT set_config(%s, %s, true)", (setting, value))
            connection.execute(
                sql.SQL("ALTER {} SET {} FROM CURRENT").format(
                    whose.format(*names), sql.SQL(".").join(map(sql.Identifier, setting.split(".")))
                )
            )


def note(admin_url: str, name: str, text: str) -> None:
    """Write a note on a database, for whoever finds it: it stays with it through a rename."""
    with connected(maintenance(admin_url)) as connection:
        connection.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(name), text))


def noted(admin_url: str, name: str) -> str:
    """The note on a database, empty if there is none."""
    query = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s"
    with connected(maintenance(admin_url)) as connection:
        return one(connection, query, name) or ""


def is_beside(live: str, name: str) -> bool:
    """Whether a name is one of those that restores and drills give."""
    return bool(_pattern(live, "before|restore|drill").fullmatch(name))


def kept(admin_url: str, live: str) -> list[Beside]:
    """Databases that swaps have left, newest first."""
    return _beside(admin_url, live, "before")


def scratch(admin_url: str, live: str) -> list[Beside]:
    """Databases of restores and drills that are at work, or were broken off, newest first."""
    return _beside(admin_url, live, "restore|drill")


def discard(admin_url: str, live: str, name: str) -> None:
    """Drop a database that was kept, or made for a restore or a drill; whoever uses it is thrown out.

    Raises BackupError, also if the name is another's.
    """
    if not _pattern(live, "before|restore|drill").fullmatch(name):
        raise BackupError(f"{name} is no database that was kept or made beside {live}; it was not dropped.")
    with connected(maintenance(admin_url)) as connection:
        try:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
        except psycopg.Error as error:
            raise BackupError(f"Database {name} could not be dropped and is still there: {words(error)}.") from None


def sweep_scratch(admin_url: str, live: str, older_than: timedelta) -> list[str]:
    """Drop what restores and drills have left that were killed; gives the names. One that is in use stays."""
    dropped: list[str] = []
    limit = datetime.now(UTC) - older_than
    with connected(maintenance(admin_url)) as connection:
        for leftover in scratch(admin_url, live):
            if leftover.at > limit or one(
                connection, "SELECT count(*) FROM pg_stat_activity WHERE datname = %s", leftover.name
            ):
                continue
            try:  # without FORCE: the server itself refuses while there is a session
                connection.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(leftover.name)))
                dropped.append(leftover.name)
            except (
                psycopg.errors.ObjectInUse,
                psycopg.errors.InsufficientPrivilege,
                psycopg.errors.InvalidCatalogName,
            ):
                continue
    return dropped


def _beside(admin_url: str, live: str, kinds: str) -> list[Beside]:
    pattern = _pattern(live, kinds)
    with connected(maintenance(admin_url)) as connection:
        rows = connection.execute(
            "SELECT datname, CASE WHEN has_database_privilege(oid, 'CONNECT') THEN pg_database_size(oid) END FROM pg_database"
        ).fetchall()
    found = [
        Beside(name, datetime.strptime(match[1], _TIME).replace(tzinfo=UTC), size)
        for name, size in rows
        if (match := pattern.fullmatch(name))
    ]
    return sorted(found, key=lambda database: database.at, reverse=True)


def _pattern(live: str, kinds: str) -> re.Pattern[str]:
    return re.compile(rf"{re.escape(_stem(live))}_(?:{kinds})_([0-9]{{8}}T[0-9]{{6}}Z)")


def _stem(live: str) -> str:
    """The live database's name, or what tells it where that is too long."""
    room = _LONGEST - len("_restore_20261124T031500Z")
    if len(live.encode()) <= room:
        return live
    digest = hashlib.sha256(live.encode()).hexdigest()[:8]
    return f"{live.encode()[: room - 9].decode(errors='ignore')}_{digest}"


def _exists(connection: Connection, name: str) -> bool:
    return bool(one(connection, "SELECT count(*) FROM pg_database WHERE datname = %s", name))
