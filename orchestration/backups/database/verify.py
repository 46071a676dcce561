"""Is a restored database what the recovery point says? Its rows against the manifest, its pages by amcheck."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import psycopg

from orchestration.backups.database.contents import read_contents
from orchestration.backups.database.programs import ProgramFailed, running
from orchestration.backups.database.server import connected, describe, one, words
from orchestration.backups.recovery_point import BackupError, Database
from zhiyun.postgresql import Programs, connection

_SHOWN = 20
_MAY_CHECK = """
SELECT bool_and(has_function_privilege(p.oid, 'EXECUTE')) FROM pg_extension e
JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e'
JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid
WHERE e.extname = 'amcheck' AND p.proname IN ('verify_heapam', 'bt_index_check')
"""


@dataclass(frozen=True)
class Amcheck:
    """What amcheck found in tables and indexes; `left_out` says why it did not look, if it did not."""

    problems: tuple[str, ...] = ()
    left_out: str = ""


def verify(url: str, database: Database, *, without: Collection[str] = ()) -> list[str]:
    """How a restored database differs from what the manifest says of it, a sentence each; empty: in nothing.

    `without` are extensions that the restore had to leave out. Raises BackupError if it cannot be read.
    """
    try:
        with connected(url) as session:
            session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            found = read_contents(session)
    except psycopg.Error as error:
        raise BackupError(f"The restored {describe(url)} cannot be read: {words(error)}.") from None
    differences: list[str] = []
    expected, actual = ({table.name: table for table in tables} for tables in (database.tables, found.tables))
    for name in sorted(expected.keys() | actual.keys()):
        if name not in actual:
            differences.append(f"Table {name} is missing.")
        elif name not in expected:
            differences.append(f"Table {name} is not in the recovery point.")
        elif actual[name].rows != expected[name].rows:
            differences.append(f"Table {name} has {actual[name].rows} rows and should have {expected[name].rows}.")
        elif expected[name].sample and actual[name].sample != expected[name].sample:
            differences.append(f"Table {name} has other values in {expected[name].sampled} sampled rows.")
    missing = sorted(database.extensions.keys() - found.extensions.keys() - set(without))
    differences += [f"Extension {name} is missing." for name in missing]
    if found.migration != database.migration:
        differences.append(
            f"The migration is {found.migration or 'none'} and should be {database.migration or 'none'}."
        )
    if found.live_release != database.live_release:
        differences.append(f"The live release is {found.live_release} and should be {database.live_release}.")
    return differences


def amcheck(url: str, programs: Programs, *, jobs: int = 2) -> Amcheck:
    """Check every table and B-tree index page by page. Raises BackupError if the check itself fails."""
    if not programs.has("pg_amcheck"):
        return Amcheck(left_out=f"There is no pg_amcheck in {programs.folder}.")
    with connected(url) as session:
        allowed = one(session, _MAY_CHECK)
    if allowed is None:
        return Amcheck(left_out="The database does not have the extension amcheck.")
    if not allowed:
        return Amcheck(left_out="The role of DATABASE_ADMIN_URL may not use the functions of amcheck.")
    target, environment = connection(url)
    command = [programs.path("pg_amcheck"), "--no-password", f"--jobs={jobs}", target]
    lines: list[str] = []
    with running(command, environment, writes=True) as program:
        try:
            for chunk in program.chunks():
                lines += chunk.decode("utf-8", errors="replace").splitlines()[: _SHOWN - len(lines)]
        except ProgramFailed as error:
            if error.code != 2:  # 2: it found something
                raise BackupError(f"The restored {describe(url)} could not be checked: {error}.") from None
            return Amcheck(problems=tuple(line.strip() for line in lines) or (error.words,))
    return Amcheck()
