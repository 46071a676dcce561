"""Fixtures that every test may use: real services, started once for the session when a test first asks for them."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import certifi
import hypothesis
import psycopg
import pytest
from psycopg import sql

from embedded.services import ports, postgres, redis
from embedded.services.processes import Service, running
from zhiyun.repository import REPOSITORY
from zhiyun.settings import S3Settings

# What CI says of a commit must not depend on chance; on a developer's machine each run tries other examples.
hypothesis.settings.register_profile("ci", derandomize=True, deadline=None)
if os.environ.get("CI"):
    hypothesis.settings.load_profile("ci")


@pytest.fixture(scope="session", autouse=True)
def few_authorities(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One authority for TLS instead of 140: each HTTP client reads all of them, for 60 ms, and no test speaks TLS.

    Processes that tests start have it from the environment.
    """
    end = "-----END CERTIFICATE-----\n"
    first = Path(certifi.where()).read_text(encoding="utf-8").partition(end)[0] + end
    file = tmp_path_factory.mktemp("authorities") / "one.pem"
    file.write_text(first, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(file))
        yield


@pytest.fixture(scope="session")
def services_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder below which the session's services keep data and logs."""
    return tmp_path_factory.mktemp("services")


@pytest.fixture(scope="session")
def postgres_cluster(services_home: Path) -> Iterator[postgres.Cluster]:
    """A running PostgreSQL with the databases `zhiyun` and `dagster`, both empty."""
    cluster = postgres.prepare(services_home, ports.free_port())
    with running(cluster.service(durable=False), services_home / "logs" / "postgres.log"):
        yield cluster


@pytest.fixture(scope="session")
def migrated_template(postgres_cluster: postgres.Cluster) -> str:
    """The name of a database with the platform's tables in it, to be copied: that is much faster than to migrate."""
    url = _create_database(postgres_cluster)
    migrate(url)
    return url.rpartition("/")[2]


@pytest.fixture(scope="session")
def postgres_url(postgres_cluster: postgres.Cluster, migrated_template: str) -> str:
    """A database of this session with the platform's tables in it. Tests share it: tidy up, or use other rows."""
    return _create_database(postgres_cluster, migrated_template)


@pytest.fixture
def database_url(postgres_cluster: postgres.Cluster) -> Iterator[str]:
    """An empty database of the test's own, dropped afterwards."""
    url = _create_database(postgres_cluster)
    yield url
    _drop_database(postgres_cluster, url)


@pytest.fixture
def migrated_database_url(postgres_cluster: postgres.Cluster, migrated_template: str) -> Iterator[str]:
    """A database of the test's own with the platform's tables in it, dropped afterwards."""
    url = _create_database(postgres_cluster, migrated_template)
    yield url
    _drop_database(postgres_cluster, url)


@pytest.fixture(scope="session")
def redis_url(services_home: Path) -> Iterator[str]:
    """A running Redis. Tests share it: use keys of your own."""
    server = redis.prepare(services_home, ports.free_port())
    with running(server.service(), services_home / "logs" / "redis.log"):
        yield server.url


@pytest.fixture(scope="session")
def qdrant_url(services_home: Path) -> Iterator[str]:
    """A running embedded vector store. Tests share it: use collections of your own."""
    import httpx

    port = ports.free_port()
    url = f"http://127.0.0.1:{port}"

    def ready() -> bool:
        try:
            return httpx.get(f"{url}/readyz", timeout=5).is_success
        except httpx.TransportError:
            return False

    service = Service(
        name="qdrant",
        command=[sys.executable, "-m", "embedded.qdrant", "--data", str(services_home / "qdrant"), "--port", str(port)],
        ready=ready,
        folder=REPOSITORY,
    )
    with running(service, services_home / "logs" / "qdrant.log"):
        yield url


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of a running S3-compatible store. Tests share it: use buckets of your own (`s3_bucket`)."""
    from moto.moto_server.threaded_moto_server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # a line for every request otherwise
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=ports.free_port(), verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def s3_settings(s3_server: str) -> S3Settings:
    """How the platform reaches `s3_server`."""
    return S3Settings(
        endpoint_url=s3_server, access_key_id="zhiyun", secret_access_key="a-secret", attempts=3, timeout=20
    )


@pytest.fixture
def s3_bucket(s3_settings: S3Settings) -> Iterator[str]:
    """An empty bucket of the test's own, gone afterwards with all that is in it."""
    import boto3

    bucket = boto3.resource(
        "s3",
        endpoint_url=s3_settings.endpoint_url,
        region_name=s3_settings.region,
        aws_access_key_id=s3_settings.access_key_id,
        aws_secret_access_key=s3_settings.secret_access_key,
    ).create_bucket(Bucket=f"test-{uuid.uuid4().hex[:12]}")
    yield bucket.name
    bucket.objects.all().delete()
    bucket.delete()


def migrate(url: str) -> None:
    """Bring a database to the platform's newest tables."""
    subprocess.run(
        [sys.executable, "-m", "migrations", "upgrade"],
        cwd=REPOSITORY,
        env={**os.environ, "DATABASE_URL": url},
        check=True,
        capture_output=True,
        text=True,
    )


def _create_database(cluster: postgres.Cluster, template: str = "template1") -> str:
    name = f"test_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(cluster.url("postgres", "postgres"), autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} OWNER zhiyun TEMPLATE {}").format(
                sql.Identifier(name), sql.Identifier(template)
            )
        )
    return cluster.url(name)


def _drop_database(cluster: postgres.Cluster, url: str) -> None:
    name = sql.Identifier(url.rpartition("/")[2])
    with psycopg.connect(cluster.url("postgres", "postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))
