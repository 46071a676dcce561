"""Memory, connections and sizes, measured of real services; the history that is kept of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import psycopg
import pytest
import redis as redis_client
from psycopg import sql

from embedded.services import ports, postgres
from embedded.services.processes import running
from knowledge.database import connect
from objects.places import Place, open_store
from orchestration.capacity import connections, memory, samples, sizes
from orchestration.capacity.assets import connection_capacity, memory_capacity, storage_sizes
from orchestration.capacity.disk import Volume
from orchestration.capacity.samples import Sample
from tests.conftest import migrate
from tests.support.servers import SERVERS
from zhiyun.settings import (
    BackupSettings,
    CapacitySettings,
    DatabaseSettings,
    QdrantSettings,
    RedisSettings,
    S3Settings,
)


@pytest.fixture(scope="module", params=SERVERS)
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[postgres.Cluster]:
    """The system's PostgreSQL where there is one, and the packaged one."""
    home = tmp_path_factory.mktemp(request.param)
    prepared = postgres.prepare(home, ports.free_port(), prefer="packaged" if request.param == "packaged" else "")
    with running(prepared.service(durable=False), home / "postgres.log"):
        migrate(prepared.url("zhiyun"))
        yield prepared


def test_connections_are_counted_by_who_holds_them(cluster: postgres.Cluster) -> None:
    url = cluster.url("zhiyun")
    with connect(DatabaseSettings(url=url)) as connection:
        before = connections.of_postgres(connection)
        with (
            psycopg.connect(url, application_name="zhiyun-chat"),
            psycopg.connect(cluster.url("postgres", "postgres"), application_name="somebody") as other,
        ):
            other.execute("SELECT 1")
            found = connections.of_postgres(connection)
    assert found.used == before.used + 2
    assert ("zhiyun-chat", "idle", 1) in found.by
    assert ("somebody", "idle in transaction", 1) in found.by
    assert found.total == 200 - 3
    assert 0 < found.percent < 80


def test_a_role_without_pg_monitor_counts_what_it_may_not_see(cluster: postgres.Cluster) -> None:
    with psycopg.connect(cluster.url("postgres", "postgres"), autocommit=True) as admin:
        admin.execute("DROP ROLE IF EXISTS plain")
        admin.execute("CREATE ROLE plain LOGIN PASSWORD 'plain'")
        url = f"postgresql://plain:plain@127.0.0.1:{cluster.port}/postgres"
        with connect(DatabaseSettings(url=url)) as connection:
            found = connections.of_postgres(connection)
        assert ("postgres", "not visible", 1) in found.by
        admin.execute("DROP ROLE plain")


def test_connections_used_up_are_told(
    cluster: postgres.Cluster, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", cluster.url("zhiyun"))
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("CAPACITY_CONNECTIONS_PERCENT", "5")
    held = [psycopg.connect(cluster.url("zhiyun")) for _ in range(10)]
    try:
        result = dg.materialize([connection_capacity])
    finally:
        for connection in held:
            connection.close()
    [check] = result.get_asset_check_evaluations()
    assert not check.passed
    assert "of 197 connections are taken" in (check.description or "")


def test_redis_tells_its_clients(redis_url: str) -> None:
    held = redis_client.Redis.from_url(redis_url)
    held.ping()
    found = connections.of_redis(RedisSettings(url=redis_url))
    held.close()
    assert found.used >= 2
    assert found.total > 100
    with pytest.raises(connections.RedisUnavailable, match=r"^REDIS_URL: "):
        connections.of_redis(RedisSettings(url="redis://127.0.0.1:9"))


def test_sizes_are_what_the_stores_say(cluster: postgres.Cluster) -> None:
    with connect(DatabaseSettings(url=cluster.url("zhiyun"))) as connection:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS public.large AS SELECT repeat('x', 1000) FROM generate_series(1, 20000)"
        )
        tables = {one.name: one.bytes for one in sizes.of_tables(connection)}
        databases = {one.name: one.bytes for one in sizes.of_databases(connection)}
    assert max(tables, key=tables.__getitem__) == "public.large"
    assert 20_000_000 < tables["public.large"] < 40_000_000
    assert databases["zhiyun"] > tables["public.large"]
    assert {"zhiyun", "dagster", "postgres"} <= set(databases)


def test_collections_have_sizes_with_and_without_sight_of_their_disk(qdrant_url: str, services_home: Path) -> None:
    from qdrant_client import QdrantClient, models

    client = QdrantClient(qdrant_url, check_compatibility=False)
    client.create_collection("capacity", vectors_config=models.VectorParams(size=64, distance=models.Distance.COSINE))
    try:
        client.upsert(
            "capacity", [models.PointStruct(id=n, vector=[1.0] * 64, payload={"t": "x" * 100}) for n in range(500)]
        )
        settings = QdrantSettings(url=qdrant_url)
        unseen = {one.name: one for one in sizes.of_collections(settings, [])[0]}["capacity"]
        assert unseen.bytes >= 500 * 64 * 4
        assert "estimate" in unseen.note
        seen = {
            one.name: one for one in sizes.of_collections(settings, [Volume("vectors", services_home / "qdrant")])[0]
        }
        assert seen["capacity"].bytes >= 500 * 64 * 4
        assert not seen["capacity"].note
    finally:
        client.delete_collection("capacity")
    nothing, [problem] = sizes.of_collections(QdrantSettings(url="http://127.0.0.1:9"), [])
    assert not nothing
    assert problem.startswith("QDRANT_URL")


def test_a_bucket_has_the_size_of_its_objects_and_one_that_is_not_there_says_so(
    s3_settings: S3Settings, s3_bucket: str
) -> None:
    store = open_store(Place("b", f"s3://{s3_bucket}/files"), s3_settings, "BACKUP_FILES")
    for number in range(3):
        store.put(f"folder/{number}", [b"x" * 1000])
    backup = BackupSettings(files=f"s3://{s3_bucket}/files", stores="s3://no-such-bucket-here/x")
    there, missing = sizes.of_buckets(backup, s3_settings)
    assert (there.bytes, there.note) == (3000, "")
    assert missing.bytes == 0
    assert "no-such-bucket-here" in missing.note


def test_folders_are_measured_on_disk_and_a_linked_file_once(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").write_bytes(b"x" * 100_000)
    (tmp_path / "a" / "link").hardlink_to(tmp_path / "a" / "file")
    (tmp_path / "loop").symlink_to(tmp_path)
    found = {one.full_name: one.bytes for one in sizes.of_folders([Volume("files", tmp_path)])}
    assert 100_000 <= found["folder files/a"] < 110_000
    assert 0 <= found["folder files"] - found["folder files/a"] <= 8192  # the link, on disks where it takes a block


def test_every_service_is_found_with_the_manuals_limit(
    cluster: postgres.Cluster, redis_url: str, qdrant_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {one.service: one for one in memory.measure(CapacitySettings())}
    assert {"postgres", "redis", "qdrant", "machine"} <= set(found)
    if found["postgres"].source.startswith("CAPACITY"):
        assert found["postgres"].limit == 4 * 1024**3
    assert found["postgres"].processes >= 5
    assert found["postgres"].used > 5_000_000
    assert 0 < found["machine"].percent < 100
    monkeypatch.setenv("DATABASE_URL", cluster.url("zhiyun"))
    monkeypatch.setenv("CAPACITY_MEMORY_POSTGRES_GB", "0.004")
    result = dg.materialize([memory_capacity])
    [check] = result.get_asset_check_evaluations()
    assert not check.passed
    assert "postgres uses" in (check.description or "")


def test_storage_sizes_keeps_a_sample_of_each(
    cluster: postgres.Cluster, qdrant_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", cluster.url("zhiyun"))
    monkeypatch.setenv("QDRANT_URL", qdrant_url)
    monkeypatch.setenv("CAPACITY_VOLUMES", f"files={tmp_path}")
    assert dg.materialize([storage_sizes]).success
    with connect(DatabaseSettings()) as connection:
        (tmp_path / "new").write_bytes(b"x" * 5_000_000)
        assert dg.materialize([storage_sizes]).success
        grown = samples.growers(connection, 1)
    assert grown[0].name == "folder files"
    assert grown[0].bytes >= 5_000_000


def test_samples_are_kept_for_so_many_days_and_no_longer(cluster: postgres.Cluster) -> None:
    with connect(DatabaseSettings(url=cluster.url("zhiyun"))) as connection:
        for days in (1, 89, 91):
            connection.execute(
                sql.SQL(
                    "INSERT INTO operations.capacity_samples (taken_at, kind, name, used) VALUES (now() - make_interval(days => %s), 'disk', 'old', %s)"
                ),
                (days, days),
            )
        samples.keep(connection, [Sample("disk", "old", 0)], 90)
        assert [used for _, used, _ in samples.history(connection, "disk", "old", 400)] == [89, 1, 0]
