"""The part of a recovery point that comes from PostgreSQL: both databases, and the roles of their server."""

from __future__ import annotations

from typing import Literal

import psycopg

from orchestration.backups.attempt import Attempt
from orchestration.backups.database.dump import Dump, globals_
from orchestration.backups.database.server import describe, maintenance, words
from orchestration.backups.installation import Installation
from orchestration.backups.recovery_point import BackupError, Database, PostgresPart
from orchestration.backups.streams.blobs import write_blob
from zhiyun.postgresql import Programs, ProgramsMissing, client_programs


def capture(inst: Installation, one: Attempt) -> PostgresPart:
    """Dump the platform's database and Dagster's, each in one snapshot, and the roles. Raises BackupError."""
    admin = inst.database.admin
    system, major = _about(admin)
    platform = dump_database(inst, one, "platform", admin, programs(inst, major))
    _, dagster_major = _about(inst.dagster_url)
    dagster = dump_database(inst, one, "dagster", inst.dagster_url, programs(inst, dagster_major))
    inst.progress.step("roles")
    key = f"{one.prefix}globals.sql.zst{inst.suffix}"
    roles = write_blob(inst.primary, key, globals_(admin, programs(inst, major)), keys=inst.keys)
    return PostgresPart((platform, dagster), roles, system)


def programs(inst: Installation, major: int) -> Programs:
    """PostgreSQL's client programs of this major version. Raises BackupError."""
    try:
        return client_programs(major, inst.database.programs)
    except ProgramsMissing as error:
        raise BackupError(str(error)) from None


def dump_database(
    inst: Installation, one: Attempt, role: Literal["platform", "dagster"], url: str, tools: Programs
) -> Database:
    """Dump one database into the primary store, with what is in it. Raises BackupError or ObjectStoreError."""
    inst.progress.step(f"database of {'the platform' if role == 'platform' else 'Dagster'}")
    key = f"{one.prefix}postgres-{role}.dump.zst{inst.suffix}"
    with Dump(url, tools) as dump:
        blob = write_blob(inst.primary, key, dump.chunks(), keys=inst.keys, progress=inst.progress.add)
        return dump.database(role, blob)


def server_major(url: str) -> int:
    """The major version of a server, whether or not it has the database of the URL. Raises BackupError."""
    return _about(maintenance(url))[1]


def _about(url: str) -> tuple[str, int]:
    """The cluster's own number, empty where it may not be read, and the server's major version."""
    try:
        with psycopg.connect(url, autocommit=True, connect_timeout=30, application_name="zhiyun backup") as connection:
            major = connection.info.server_version // 10000
            try:
                row = connection.execute("SELECT system_identifier FROM pg_control_system()").fetchone()
            except psycopg.errors.InsufficientPrivilege:
                row = None
            return str(row[0]) if row else "", major
    except psycopg.Error as error:
        raise BackupError(f"{describe(url)} cannot be read: {words(error)}. Earlier points are untouched.") from None
