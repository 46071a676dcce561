"""A disk that is full or not mounted costs the point that was to be made, and no other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from qdrant_client import models

from objects.store import ObjectStoreError
from orchestration.backups.making import steps
from orchestration.backups.points import catalogue
from orchestration.backups.recovery_point import BackupError
from orchestration.backups.vectors.node import Node
from orchestration.capacity.guard import NoRoom
from tests.support.backups.backed_up import Platform, snapshots
from tests.support.backups.small_points import NEXT, POINT, installed, listed, make, one_sentence, untouched
from tests.support.faults import small_disk as small_disks
from tests.support.vectors.vector_store import ServerProcess
from tests.support.vectors.vector_store import connect as connect_qdrant

pytestmark = pytest.mark.slow


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of some MB."""
    with small_disks.small_disk(tmp_path / "disk", 48) as disk:
        yield disk.path


@contextmanager
def filled(disk: Path, leave: int) -> Iterator[None]:
    """The disk has so many bytes left for as long as the block lasts."""
    status = os.statvfs(disk)
    filler = disk / "filler"
    filler.write_bytes(b"x" * (status.f_bavail * status.f_frsize - leave))
    yield
    filler.unlink()


def test_a_full_disk_at_the_target_costs_this_point_only(platform: Platform, small_disk: Path) -> None:
    store = small_disk / "store"
    inst = installed(platform, store)
    make(platform, inst, POINT)
    with filled(small_disk, leave=200_000):
        with untouched(platform), platform.settings(), pytest.raises(ObjectStoreError) as caught:
            steps.make(inst, NEXT, "hand")
        one_sentence(str(caught.value), "is full", "BACKUP_STORES", str(store), NEXT)
        assert listed(inst).state == "verified"
        assert (listed(inst, NEXT).state, listed(inst, NEXT).reason) == ("failed", str(caught.value))
        with platform.settings(CAPACITY_CRITICAL_PERCENT="95"), pytest.raises(NoRoom) as early:
            steps.make(inst, NEXT, "hand")
        one_sentence(str(early.value), "CAPACITY_CRITICAL_PERCENT", str(store))
    assert [path for path in store.rglob("*") if ".unfinished" in path.name] == []
    make(platform, inst, NEXT)
    assert (listed(inst).state, listed(inst, NEXT).state) == ("verified", "verified")


def test_a_full_disk_of_the_copy_leaves_the_primary_point_verified(
    platform: Platform, small_disk: Path, tmp_path: Path
) -> None:
    inst = installed(platform, f"primary={tmp_path / 'store'},offsite={small_disk / 'copy'}")
    with filled(small_disk, leave=200_000), platform.settings(CAPACITY_CRITICAL_PERCENT="98"):
        made = steps.make(inst, POINT, "hand")
    assert not made.good
    assert made.problems["primary"] == ""
    one_sentence(made.problems["offsite"], "is full", "offsite")
    assert listed(inst).state == "verified"
    assert [point.state for point in catalogue.points(inst.stores[1])] == ["failed"]


def test_a_full_disk_of_the_vector_store_is_told_and_leaves_no_snapshot(
    platform: Platform, small_disk: Path, store: Path
) -> None:
    server = ServerProcess(
        small_disk / "qdrant", "--reserve-mib", "2", log=platform.home / "small.log"
    ).wait_until_ready()
    with ExitStack() as stack:
        stack.callback(server.stop)
        client = connect_qdrant(server.url)
        stack.callback(client.close)
        client.create_collection("c", vectors_config=models.VectorParams(size=64, distance=models.Distance.COSINE))
        client.upsert("c", [models.PointStruct(id=i, vector=[i + 1.0] * 64) for i in range(500)], wait=True)
        inst = installed(platform, store, QDRANT_URL=server.url)
        with filled(small_disk, leave=1_000_000), platform.settings():
            with pytest.raises(BackupError) as caught:
                steps.make(inst, NEXT, "hand")
            one_sentence(str(caught.value), server.url, "507", "make room")
        with Node(inst.qdrant) as node:
            assert snapshots(node) == []
        assert listed(inst).state == "verified"
        assert listed(inst, NEXT).reason == str(caught.value)
        # The live collection is not in this vector store: no reason to leave the conversations without a backup.
        assert make(platform, inst, NEXT).manifest.golden is None


def test_a_store_whose_disk_is_not_mounted_is_told(platform: Platform, tmp_path: Path) -> None:
    inst = installed(platform, tmp_path / "not-mounted" / "store")
    with platform.settings(), pytest.raises(ObjectStoreError) as caught:
        steps.make(inst, POINT, "hand")
    one_sentence(str(caught.value), "BACKUP_STORES", "not mounted", str(tmp_path / "not-mounted"))
    assert not (tmp_path / "not-mounted").exists()


def test_a_source_folder_that_vanished_makes_no_point_without_its_files(platform: Platform, store: Path) -> None:
    inst = installed(platform, store)
    away = platform.documents.rename(platform.home / "away")
    try:
        with platform.settings(), pytest.raises(BackupError) as caught:
            steps.make(inst, NEXT, "hand")
        one_sentence(str(caught.value), str(platform.documents), "KNOWLEDGE_SOURCES", "mounted")
    finally:
        away.rename(platform.documents)
    assert listed(inst).state == "verified"
    assert listed(inst, NEXT).reason == str(caught.value)
    make(platform, inst, NEXT)
