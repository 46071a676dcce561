"""Flaws of the manual's way with vectors and disasters, each shown on its own lines, and survived by ours."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import httpx
import pytest
from qdrant_client import QdrantClient

from orchestration.backups.progress import Logged
from orchestration.backups.recovery_point import BackupError, VectorsPart
from orchestration.backups.restore.recovery_report import CHECKLIST, Report
from orchestration.backups.timing import Timing
from orchestration.backups.vectors import capture as vectors_capture
from orchestration.backups.vectors import restore as vectors_restore
from tests.support.backups.memory_objects import MemoryObjects
from tests.support.vectors import vector_points
from tests.support.vectors.vector_store import connect
from zhiyun.settings import QdrantSettings

pytestmark = pytest.mark.slow


@pytest.fixture
def settings(qdrant_url: str) -> Iterator[QdrantSettings]:
    """A published collection of 300 passages."""
    found = QdrantSettings(url=qdrant_url, collection=vector_points.fresh_alias())
    client = connect(qdrant_url)
    vector_points.publish(client, found.collection, f"{found.collection}_aaaa", 7, range(300))
    yield found
    for name in vector_points.names(client):
        if name.startswith(found.collection):
            client.delete_collection(name)
    client.close()


@pytest.fixture
def client(settings: QdrantSettings) -> Iterator[QdrantClient]:
    opened = connect(settings.url)
    yield opened
    opened.close()


def captured(settings: QdrantSettings, store: MemoryObjects) -> VectorsPart:
    def others(name: str) -> bool:
        return not name.startswith(settings.collection)

    return vectors_capture.capture(settings, store, "points/p/1/", skip=others)


def test_flaw_10_the_manual_recovers_without_a_checksum_and_ours_refuses_a_changed_byte_before_anything_is_live(
    settings: QdrantSettings, client: QdrantClient
) -> None:
    outside = httpx.put(
        f"{settings.url}/collections/{settings.collection}/snapshots/recover", json={"location": "/etc/hostname"}
    )
    assert outside.status_code == 403  # only what lies inside the snapshots folder
    store = MemoryObjects()
    part = captured(settings, store)
    assert all(collection.checksum for collection in part.collections)
    before = vector_points.contents(client, settings.collection)
    [key] = [collection.snapshot.key for collection in part.collections]
    data = bytearray(store.objects[key])
    data[len(data) // 2] ^= 1
    store.objects[key] = bytes(data)
    with pytest.raises(BackupError, match=r"qdrant-.*is damaged"):
        vectors_restore.restore(settings, part, store)
    assert vector_points.contents(client, settings.collection) == before
    assert [name for name in vector_points.names(client) if "_r" in name and settings.collection in name] == []


def test_flaw_11_the_manuals_snapshot_stays_on_the_node_without_aliases_and_ours_is_elsewhere_with_them(
    settings: QdrantSettings, client: QdrantClient
) -> None:
    collection = f"{settings.collection}_aaaa"
    httpx.post(f"{settings.url}/collections/{settings.collection}/snapshots").raise_for_status()
    assert len(client.list_snapshots(collection)) == 1  # until somebody thinks of it
    made = client.list_snapshots(collection)[0].name
    client.delete_snapshot(collection, made)

    store = MemoryObjects()
    part = captured(settings, store)
    assert client.list_snapshots(collection) == []
    assert part.aliases == {settings.collection: collection}
    client.delete_collection(collection)
    restored = vectors_restore.restore(settings, part, store)
    vectors_restore.switch(settings, part, restored)
    assert client.count(settings.collection).count == 300  # by the alias, which a snapshot does not have


def test_flaw_12_the_manual_moves_dns_before_it_verifies_and_ours_tells_of_it_last_and_only_if_all_is_well() -> None:
    report = Report("2026-11-24", datetime(2026, 11, 23, 18, 30, tzinfo=UTC), "s3://b/p", Timing(Logged()))
    lines = report.lines()
    assert lines.index("Everything is restored and verified.") < lines.index(CHECKLIST)
    assert lines[-1] == CHECKLIST
    assert "DNS" in CHECKLIST
    report.problems.append("3 golden questions are answered otherwise.")
    assert not any("DNS" in line for line in report.lines())
    assert any("do not move customers" in line for line in report.lines())
