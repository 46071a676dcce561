"""A platform whose stores have a verified point each, and a copy of a store that may be harmed."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from embedded.services import postgres
from orchestration.backups.streams import encryption
from tests.support.backups.backed_up import Platform
from tests.support.backups.small_points import POINT, installed, make
from tests.support.vectors.vector_store import ServerProcess


@pytest.fixture(scope="session")
def platform(
    postgres_cluster: postgres.Cluster, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Platform]:
    """A platform with two stores that each have a verified point: `plain`, and `sealed`, which is encrypted."""
    home = tmp_path_factory.mktemp("faults")
    names = [f"faults_{uuid.uuid4().hex[:8]}" for _ in range(2)]
    admin = postgres_cluster.url("postgres", "postgres")
    with psycopg.connect(admin, autocommit=True) as connection, ExitStack() as stack:
        for name in names:
            connection.execute(sql.SQL("CREATE DATABASE {} OWNER zhiyun").format(sql.Identifier(name)))
            drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
            stack.callback(connection.execute, drop)
        server = ServerProcess(home / "qdrant", log=home / "qdrant.log").wait_until_ready()
        stack.callback(server.stop)
        platform = Platform(home, postgres_cluster, *names, server.url, redis_url)
        platform.fill(100)
        (home / "key").write_text(encryption.generate())
        (home / "other-key").write_text(encryption.generate())
        make(platform, installed(platform, home / "plain"), POINT)
        make(platform, installed(platform, home / "sealed", BACKUP_KEY_FILE=str(home / "key")), POINT)
        yield platform


@pytest.fixture
def store(platform: Platform, tmp_path: Path) -> Path:
    """A copy of the plain store that a test may damage."""
    return shutil.copytree(platform.home / "plain", tmp_path / "store")
