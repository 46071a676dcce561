"""Roles of a recovery point on a server that may not have them: only what is missing is made, without passwords."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import psycopg

from orchestration.backups.database.server import Connection, connected, maintenance, words

# The lines that pg_dumpall writes, and no others: what does not look like one of them is not run.
_NAME = r'("(?:[^"]|"")+"|[a-z_][a-z0-9_$]*)'
_VALUE = r"(?:'(?:[^'\\]|'')*'|[\w.]+)"
_CREATE = re.compile(rf"CREATE ROLE {_NAME};")
_ATTRIBUTE = r"(?:NO)?(?:SUPERUSER|INHERIT|CREATEROLE|CREATEDB|LOGIN|REPLICATION|BYPASSRLS)"
_ATTRIBUTES = re.compile(
    rf"ALTER ROLE {_NAME} WITH ({_ATTRIBUTE}(?: {_ATTRIBUTE})*(?: CONNECTION LIMIT [0-9]+)?(?: VALID UNTIL '[^']*')?);"
)
_SETTING = re.compile(rf"ALTER ROLE {_NAME} SET (\"?[\w.]+\"? TO {_VALUE}(?:, {_VALUE})*);")
_OPTION = r"(?:ADMIN|INHERIT|SET) (?:OPTION|TRUE|FALSE)"
_MEMBER = re.compile(rf"GRANT {_NAME} TO {_NAME}((?: WITH {_OPTION}(?:, {_OPTION})*)?)(?: GRANTED BY {_NAME})?;")


@dataclass(frozen=True)
class Roles:
    """What was made, and what is missing because it may not or could not be made."""

    created: tuple[str, ...] = ()
    memberships: tuple[str, ...] = ()  # "reader in pg_monitor"
    missing: tuple[str, ...] = ()


def apply_globals(admin_url: str, chunks: Iterable[bytes]) -> Roles:
    """Make the roles and memberships of `pg_dumpall --globals-only` that the server does not have.

    A role that is there is neither changed nor dropped; a new one has no password until it is given one. If we may
    not create roles, the result says what is missing. Raises BackupError if the server cannot be reached.
    """
    lines = b"".join(chunks).decode("utf-8").splitlines()
    made: tuple[list[str], list[str]] = [], []
    missing: list[str] = []
    with connected(maintenance(admin_url)) as connection:
        present = {row[0] for row in connection.execute("SELECT rolname FROM pg_roles")}
        for name in [match[1] for line in lines if (match := _CREATE.fullmatch(line))]:
            if _unquoted(name) in present:
                continue
            attributes, settings = _of(_ATTRIBUTES, lines, name), _of(_SETTING, lines, name)
            statements = [
                f"CREATE ROLE {name} {' '.join(attributes)}",
                *(f"ALTER ROLE {name} SET {one}" for one in settings),
            ]
            complaint = _run(connection, statements)
            if complaint:
                missing.append(f"role {_unquoted(name)} ({complaint})")
            else:
                made[0].append(_unquoted(name))
        members = set(
            connection.execute(
                "SELECT g.rolname, m.rolname FROM pg_auth_members a "
                "JOIN pg_roles g ON g.oid = a.roleid JOIN pg_roles m ON m.oid = a.member"
            ).fetchall()
        )
        for match in [match for line in lines if (match := _MEMBER.fullmatch(line))]:
            group, member = _unquoted(match[1]), _unquoted(match[2])
            if (group, member) in members:
                continue
            # Granted by ourselves: the role that did it there may not exist here.
            complaint = _run(connection, [f"GRANT {match[1]} TO {match[2]}{match[3]}"])
            if complaint:
                missing.append(f"membership of {member} in {group} ({complaint})")
            else:
                made[1].append(f"{member} in {group}")
    return Roles(tuple(made[0]), tuple(made[1]), tuple(missing))


def _run(connection: Connection, statements: list[str]) -> str:
    """All of them or none; gives what the server has against it."""
    try:
        with connection.transaction():
            for statement in statements:
                connection.execute(statement.encode())
    except psycopg.Error as error:
        return words(error)
    return ""


def _of(pattern: re.Pattern[str], lines: list[str], name: str) -> list[str]:
    return [match[2] for line in lines if (match := pattern.fullmatch(line)) and match[1] == name]


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name
