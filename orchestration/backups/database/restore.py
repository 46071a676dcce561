"""One database of a recovery point as a new database of a server: restored, compared, its pages checked."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal

import psycopg
from psycopg import conninfo, sql

from objects.store import ObjectStore
from orchestration.backups.database import load, siblings, swap, verify
from orchestration.backups.database.capture import programs, server_major
from orchestration.backups.database.server import connected, maintenance, one, system_identifier, words
from orchestration.backups.installation import Installation
from orchestration.backups.recovery_point import BackupError, Database, Manifest
from orchestration.backups.streams.blobs import read_blob
from orchestration.backups.timing import Timing
from orchestration.backups.undo import Undo

_OURS = """
SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
"""


def check(inst: Installation, manifest: Manifest, into: str = "") -> None:
    """Whatever would stop a restore half-way, as far as it can be known before. Raises BackupError."""
    database = manifest.database("platform")
    major = server_major(inst.database.admin)
    if major < database.major:
        raise BackupError(
            f"Recovery point {manifest.id} is of PostgreSQL {database.server_version}, and the server is {major}: a dump does "
            "not go back to an older version. Use a server of the same version. Nothing was changed."
        )
    programs(inst, major)
    if into and exists(inst, into):
        raise BackupError(f"--into {into}: there is a database of that name; choose another. Nothing was changed.")


def beside(inst: Installation, kind: Literal["before", "restore", "drill"], now: datetime, live: str = "") -> str:
    """A name for a database beside the live one, that nobody has: of `now`, or of the next free second."""
    while exists(inst, name := siblings.name_beside(live or inst.live_database, kind, now)):
        now += timedelta(seconds=1)
    return name


def make(
    inst: Installation, store: ObjectStore, database: Database, name: str, timing: Timing, undo: Undo
) -> list[str]:
    """Restore a dump into the new database `name`, which `undo` drops; gives notes.

    Raises BackupError when the restore stops, or when what is there then is not what the point says.
    """
    admin, url = inst.database.admin, inst.url(name)
    tools = programs(inst, server_major(admin))
    with timing.step(f"{database.role} database"):
        siblings.create(admin, name, like=inst.name_of(database.role))
        undo.later(drop, inst, name)  # not before: until then a database of this name is somebody else's
        archive = read_blob(store, database.dump, keys=inst.keys, progress=inst.progress.add)
        restored = load.restore_into(url, archive, tools)
    with timing.step(f"{database.role} database compared"):
        differences = verify.verify(url, database, without=restored.extensions_left_out)
        _require(database, "is not what the recovery point says", differences)
    with timing.step(f"{database.role} database's pages"):
        pages = verify.amcheck(url, tools)
        _require(database, "has damaged pages", pages.problems)
    return [*restored.left_out, *([f"Pages were not checked: {pages.left_out}"] if pages.left_out else [])]


def _require(database: Database, what: str, problems: Sequence[str]) -> None:
    if problems:
        more = f" And {len(problems) - 1} more." if len(problems) > 1 else ""
        raise BackupError(
            f"The {database.role} database was restored and {what}: {problems[0]}{more} It was removed again; what is live "
            "was not touched."
        )


def put_in_place(inst: Installation, made: Sequence[tuple[str, str]], now: datetime) -> None:
    """Give new databases their names, all at once; an empty one that has the name goes. Raises BackupError."""
    steps: list[tuple[str, str]] = []
    empty: list[str] = []
    for new, name in made:
        if exists(inst, name):
            empty.append(beside(inst, "before", now, name))
            steps.append((name, empty[-1]))
        steps.append((new, name))
    swap.exchange(inst.database.admin, steps, without_note=[new for new, _ in made])
    for name in empty:
        drop(inst, name)


def exists(inst: Installation, name: str) -> bool:
    """Whether the server has a database of this name."""
    with connected(maintenance(inst.database.admin)) as connection:
        return bool(one(connection, "SELECT count(*) FROM pg_database WHERE datname = %s", name))


def is_here(inst: Installation, role: str) -> bool:
    """Whether Dagster's database, like the platform's, is on the server of DATABASE_ADMIN_URL, as far as can be told."""
    urls = (inst.database.admin, inst.dagster_url)
    ours, theirs = (conninfo.conninfo_to_dict(url) for url in urls)
    if role == "platform" or all(ours.get(key) == theirs.get(key) for key in ("host", "port")):
        return True
    try:
        identifiers = {system_identifier(maintenance(url)) for url in urls}
    except BackupError:  # one does not answer
        return False
    return len(identifiers) == 1 and identifiers != {""}


def tables(inst: Installation, name: str) -> int:
    """Tables of a database, but for those of extensions; 0 if there is no such database."""
    if not exists(inst, name):
        return 0
    with connected(inst.url(name)) as connection:
        return int(one(connection, _OURS))


def drop(inst: Installation, name: str) -> None:
    """Drop a database that a restore has made, if it is there. Raises BackupError."""
    with connected(maintenance(inst.database.admin)) as connection:
        try:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        except psycopg.Error as error:
            raise BackupError(f"Database {name} could not be dropped and is still there: {words(error)}.") from None
