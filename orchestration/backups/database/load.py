"""A dump's archive back into a new, empty database: by a superuser, or by the role that owns the database."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from time import perf_counter

import psycopg
from psycopg.conninfo import conninfo_to_dict

from orchestration.backups.database.programs import CHUNK, ProgramFailed, running
from orchestration.backups.database.server import connected, describe, is_superuser, one, words
from orchestration.backups.recovery_point import BackupError, PointDamaged
from zhiyun.postgresql import Programs, clean_environment, connection

# What is restored can be restored again: no need to wait for the disk at each step. Measured on 1 GB with 2 processors.
_SESSION = "-c synchronous_commit=off -c maintenance_work_mem=256MB -c max_parallel_maintenance_workers=2"
_ENTRY = re.compile(r"\d+; \d+ \d+ (?P<what>.*)")
_LONGEST_CONTENTS = 256 << 20


@dataclass(frozen=True)
class Restored:
    """A restore that is done. `extensions_left_out` for `verify`; `left_out` are sentences for whoever reads the report."""

    seconds: float
    analyze_seconds: float
    extensions_left_out: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


def restore_into(url: str, chunks: Iterable[bytes], programs: Programs, *, jobs: int = 2) -> Restored:
    """Restore a raw archive into the empty database that `url` names, stopping at the first error; then ANALYZE it.

    The archive streams through: tables and rows first, then indexes and constraints with `jobs` connections from a
    file that holds no more of it than its table of contents. Who is no superuser gets all objects as their own.
    Raises BackupError, PointDamaged, or what `chunks` raises; the database is then of no use and is the caller's to drop.
    """
    started = perf_counter()
    with tempfile.TemporaryDirectory(prefix="zhiyun-restore-") as folder:
        head = Path(folder) / "head"
        start, rest, entries = _table_of_contents(iter(chunks), head, programs)
        superuser, without = _look_at(url, entries)
        options = url_options(url)
        target, environment = connection(url, options=f"{options} {_SESSION}".strip())
        wanted = [line for line in entries if _wanted(line, without, superuser)]
        (Path(folder) / "list").write_text("\n".join([*wanted, ""]), encoding="utf-8")
        common = [
            programs.path("pg_restore"), f"--dbname={target}", "--no-password", f"--use-list={folder}/list",
            *([] if superuser else ["--no-owner"]),
        ]  # fmt: skip
        try:
            first = [*common, "--exit-on-error", "--section=pre-data", "--section=data"]
            with running(first, environment, reads=True) as program:
                program.feed(chain(start, rest))
            second = [*common, "--exit-on-error", "--section=post-data", f"--jobs={jobs}", str(head)]
            with running(second, environment) as program:
                program.finish()
        except ProgramFailed as error:
            raise BackupError(f"The restore into {describe(url)} failed: {error}.") from None
        notes = [f"The extension {name} was left out: {why}." for name, why in without.items()]
        if not superuser:
            notes += _grant(common, environment, head, [line for line in entries if _is_grant(line)])
    restored = perf_counter()
    try:
        with connected(url) as session:
            session.execute("ANALYZE")
    except psycopg.Error as error:
        raise BackupError(f"The restored {describe(url)} could not be analysed: {words(error)}.") from None
    return Restored(restored - started, perf_counter() - restored, tuple(without), tuple(notes))


def url_options(url: str) -> str:
    """The `options` of a URL, which say how its sessions are set up."""
    return str(conninfo_to_dict(url).get("options") or "")


def _table_of_contents(
    chunks: Iterator[bytes], head: Path, programs: Programs
) -> tuple[list[bytes], Iterator[bytes], list[str]]:
    """Copy the start of an archive to a file until it holds the table of contents.

    Gives the pieces that were read, those that follow, and the lines of `pg_restore --list`, which looks no further
    than the table of contents and fails on less.
    """
    pieces: list[bytes] = []
    size, enough, ended = 0, CHUNK, False
    with head.open("wb") as stream:
        while not ended:
            while size < enough and not ended:
                piece = next(chunks, None)
                ended = piece is None
                if piece:
                    pieces.append(piece)
                    size += stream.write(piece)
            stream.flush()
            listing = [programs.path("pg_restore"), "--list", str(head)]
            with running(listing, clean_environment(), writes=True) as program:
                try:
                    lines = b"".join(program.chunks()).decode("utf-8", errors="replace").splitlines()
                    return pieces, chunks, [line for line in lines if _ENTRY.match(line)]
                except ProgramFailed as error:
                    if ended or enough > _LONGEST_CONTENTS or "end of file" not in error.words:
                        raise PointDamaged(f"The dump is damaged: {error.words}. Nothing was changed.") from None
            enough *= 2
    raise AssertionError("unreachable")


def _look_at(url: str, entries: list[str]) -> tuple[bool, dict[str, str]]:
    """Whether we are a superuser, and which extensions of the archive cannot be made, and why. Raises BackupError."""
    with connected(url) as session:
        tables = one(
            session,
            "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' "
            "AND n.nspname <> 'information_schema' "
            "AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')",
        )
        if tables:
            raise BackupError(f"The {describe(url)} is not empty ({tables} tables); nothing was restored into it.")
        superuser = is_superuser(session)
        ours = session.execute(
            "SELECT a.name, a.installed_version IS NOT NULL, bool_or(NOT v.superuser OR v.trusted) "
            "FROM pg_available_extensions a JOIN pg_available_extension_versions v USING (name) GROUP BY 1, 2"
        ).fetchall()
    may = {name: installed or allowed for name, installed, allowed in ours}
    without: dict[str, str] = {}
    for line in entries:
        name = _extension(line)
        if name and name not in may:
            without[name] = "this server does not have it"
        elif name and not superuser and not may[name]:
            without[name] = "only a superuser may create it, and it is not in template1"
    return superuser, without


def _wanted(line: str, without: Iterable[str], superuser: bool) -> bool:
    match = _ENTRY.match(line)
    what = match["what"] if match else ""
    # An extension's comment is its maker's, and comes with it.
    if what.startswith("COMMENT - EXTENSION ") or _extension(line) in without:
        return False
    return superuser or not _is_grant(line)


def _extension(line: str) -> str:
    match = re.match(r"\d+; \d+ \d+ EXTENSION - (\S+)", line)
    return match[1] if match else ""


def _is_grant(line: str) -> bool:
    return bool(re.match(r"\d+; \d+ \d+ (DEFAULT )?ACL ", line))


def _grant(common: list[str], environment: dict[str, str], head: Path, entries: list[str]) -> list[str]:
    """Privileges as far as an ordinary role can give them: a role that is missing must not cost the data."""
    if not entries:
        return []
    listed = head.with_name("grants")
    listed.write_text("\n".join([*entries, ""]), encoding="utf-8")
    command = [f"--use-list={listed}" if option.startswith("--use-list") else option for option in common]
    with running([*command, str(head)], environment) as program:
        try:
            program.finish()
            return []
        except ProgramFailed as error:
            if error.killed:
                raise
            lines = [line.partition("ERROR:")[2].strip() for line in program.said().splitlines() if "ERROR:" in line]
            return [f"A privilege was left out: {line}." for line in dict.fromkeys(lines)] or [
                f"Privileges were left out: {error.words}."
            ]
