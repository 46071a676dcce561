"""What can be wrong with recovery points, stores and disks: found before anything is touched, told in a sentence."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
from psycopg import sql
from qdrant_client import models

from embedded.services import postgres
from knowledge.database import AnotherWriter, DatabaseUnavailable, connect, writer
from objects.s3 import S3Objects
from objects.store import ObjectStoreError
from orchestration.backups.installation import Installation
from orchestration.backups.making import steps
from orchestration.backups.points import catalogue
from orchestration.backups.recovery_point import FORMAT, BackupError, Manifest, PointDamaged, manifest_key
from orchestration.backups.restore import in_place
from orchestration.backups.streams import encryption
from orchestration.backups.vectors.node import Node
from orchestration.capacity.guard import NoRoom
from orchestration.exclusion import Busy, exclusive
from tests.support.backups.backed_up import ALIAS, Platform, snapshots
from tests.support.backups.databases import eventually, value
from tests.support.faults.s3_faults import faulty
from tests.support.knowledge_base import KnowledgeBase, failures
from tests.support.vectors.vector_store import ServerProcess
from tests.support.vectors.vector_store import connect as connect_qdrant
from zhiyun.postgresql import OLDEST, servers
from zhiyun.settings import DatabaseSettings, S3Settings

POINT, NEXT = "2026-01-01", "2026-01-02"
OBJECTS = {
    "dump": "postgres-platform.dump",
    "Dagster's dump": "postgres-dagster.dump",
    "globals": "globals.sql",
    "snapshot": ".snapshot",
    "golden answers": "golden.jsonl",
    "inventory": "files.jsonl",
    "file": "files/",
    "manifest": "manifest.json",
}


@pytest.fixture(scope="module")
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


def installed(platform: Platform, store: Path | str, **changes: str) -> Installation:
    place = store if isinstance(store, str) else f"primary={store}"
    return platform.installation(BACKUP_STORES=place, **changes)


def make(platform: Platform, inst: Installation, point: str) -> steps.Made:
    with platform.settings():
        made = steps.make(inst, point, "hand")
    assert made.good, made.problems
    return made


@pytest.fixture
def store(platform: Platform, tmp_path: Path) -> Path:
    """A copy of the plain store that a test may damage."""
    return shutil.copytree(platform.home / "plain", tmp_path / "store")


def object_in(store: Path, what: str) -> Path:
    """The largest object of this kind."""
    found = [path for path in store.rglob("*") if path.is_file() and OBJECTS[what] in str(path.relative_to(store))]
    return max(found, key=lambda path: path.stat().st_size)


def one_sentence(text: str, *names: str) -> str:
    """What was told, if it is a line that names these, ends as a sentence does, and has no traceback in it."""
    assert "\n" not in text
    assert text.endswith("."), text
    assert len(text) < 600, text
    for name in names:
        assert name in text, f"{name!r} is not named: {text}"
    return text


@contextmanager
def untouched(platform: Platform) -> Iterator[None]:
    """Databases, aliases, collections and files are afterwards what they were before."""
    before = platform.state()
    yield
    assert platform.state() == before


def refused(platform: Platform, inst: Installation, *names: str, point: str = POINT) -> None:
    """A restore is refused, and so is verifying, in a sentence that names this; and nothing was touched."""
    with untouched(platform), platform.settings():
        with pytest.raises((BackupError, ObjectStoreError)) as caught:
            in_place.restore(inst, inst.primary, point)
        one_sentence(str(caught.value), *names)
        one_sentence(steps.verify_everywhere(inst, point)["primary"], *names)


def listed(inst: Installation, point: str = POINT) -> catalogue.Point:
    return next(one for one in catalogue.points(inst.primary) if one.id == point)


def flip(path: Path) -> None:
    """One bit in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


# Damage


@pytest.mark.parametrize("what", OBJECTS)
def test_one_flipped_byte_is_found_before_anything_is_touched(platform: Platform, store: Path, what: str) -> None:
    path = object_in(store, what)
    flip(path)
    inst = installed(platform, store)
    refused(platform, inst, str(path.relative_to(store)))
    assert listed(inst).state == "failed"
    with pytest.raises(BackupError, match="no verified recovery point"):
        catalogue.find(inst.primary, "latest")


@pytest.mark.parametrize("what", ["dump", "snapshot", "file"])
def test_one_flipped_byte_in_what_is_encrypted_is_no_matter_of_the_key(
    platform: Platform, tmp_path: Path, what: str
) -> None:
    store = shutil.copytree(platform.home / "sealed", tmp_path / "store")
    path = object_in(store, what)
    flip(path)
    inst = installed(platform, store, BACKUP_KEY_FILE=str(platform.home / "key"))
    refused(platform, inst, str(path.relative_to(store)))
    with pytest.raises(PointDamaged):
        in_place.check(inst, inst.primary, _manifest(inst))


@pytest.mark.parametrize("what", ["dump", "globals", "snapshot", "inventory", "file", "manifest"])
def test_a_truncated_object_is_found_before_anything_is_touched(platform: Platform, store: Path, what: str) -> None:
    path = object_in(store, what)
    os.truncate(path, path.stat().st_size * 2 // 3)
    refused(platform, installed(platform, store), str(path.relative_to(store)))


@pytest.mark.parametrize("what", ["dump", "globals", "snapshot", "inventory", "file"])
def test_a_missing_object_is_found_before_anything_is_touched(platform: Platform, store: Path, what: str) -> None:
    path = object_in(store, what)
    path.unlink()
    refused(platform, installed(platform, store), str(path.relative_to(store)), "missing")


def test_an_object_that_belongs_to_another_point_is_found(platform: Platform, store: Path) -> None:
    path = object_in(store, "dump")
    shutil.copy(object_in(store, "Dagster's dump"), path)
    refused(platform, installed(platform, store), str(path.relative_to(store)))


def test_a_manifest_from_the_future_is_refused_by_its_version(platform: Platform, store: Path) -> None:
    path = store / manifest_key(POINT)
    inst = installed(platform, store)
    path.write_bytes(catalogue.encode_manifest(msgspec.structs.replace(_manifest(inst), format=FORMAT + 1)))
    refused(platform, inst, manifest_key(POINT), "later version", f"format {FORMAT + 1}")
    assert listed(inst).later


# Keys


def test_without_the_key_nothing_is_touched(platform: Platform) -> None:
    refused(platform, installed(platform, platform.home / "sealed"), "BACKUP_KEY_FILE", POINT)
    assert listed(installed(platform, platform.home / "sealed")).state == "verified"


def test_with_another_key_nothing_is_touched(platform: Platform) -> None:
    inst = installed(platform, platform.home / "sealed", BACKUP_KEY_FILE=str(platform.home / "other-key"))
    right = encryption.Keys.load(platform.installation(BACKUP_KEY_FILE=str(platform.home / "key")).backup)
    assert right
    assert inst.keys
    refused(platform, inst, "BACKUP_KEY_FILE", right.fingerprint, inst.keys.fingerprint)
    # A wrong key says nothing about the point.
    assert listed(inst).state == "verified"


# Disks


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


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of some MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def filled(disk: Path, leave: int) -> Iterator[None]:
    """The disk has so many bytes left for as long as the block lasts."""
    status = os.statvfs(disk)
    filler = disk / "filler"
    filler.write_bytes(b"x" * (status.f_bavail * status.f_frsize - leave))
    yield
    filler.unlink()


# Stores that fail


def s3(url: str, **changes: str) -> dict[str, str]:
    return {
        "S3_ENDPOINT_URL": url, "S3_ACCESS_KEY_ID": "zhiyun", "S3_SECRET_ACCESS_KEY": "a-secret", "S3_ATTEMPTS": "2",
        "S3_TIMEOUT": "20", **changes,
    }  # fmt: skip


@pytest.fixture
def bucket(platform: Platform, s3_bucket: str, s3_settings: S3Settings) -> str:
    """A bucket that has the plain store in it."""
    target = S3Objects("primary", s3_bucket, "", s3_settings)
    for path in (platform.home / "plain").rglob("*"):
        if path.is_file():
            target.put(str(path.relative_to(platform.home / "plain")), [path.read_bytes()])
    return s3_bucket


def test_a_bucket_that_answers_500_is_told_and_nothing_is_touched(
    platform: Platform, bucket: str, s3_server: str
) -> None:
    with faulty(s3_server) as faults:
        inst = installed(platform, f"primary=s3://{bucket}", **s3(faults.url))
        faults.fail()
        refused(platform, inst, f"s3://{bucket}", "BACKUP_STORES")
        faults.mend()
        faults.only = lambda method, path: "postgres-platform" in path and method in ("PUT", "POST")
        faults.fail()
        with untouched(platform), platform.settings(), pytest.raises(ObjectStoreError) as caught:
            steps.make(inst, NEXT, "hand")
        one_sentence(str(caught.value), "postgres-platform", f"s3://{bucket}")
        assert listed(inst).state == "verified"
        assert listed(inst, NEXT).reason == str(caught.value)
        faults.mend()
        faults.only = lambda method, path: "postgres-dagster" in path
        faults.fail(times=1)  # once is nothing
        make(platform, inst, NEXT)


def test_a_bucket_that_is_too_slow_is_told_and_one_that_is_slow_is_waited_for(
    platform: Platform, bucket: str, s3_server: str
) -> None:
    with faulty(s3_server) as faults:
        hasty = installed(platform, f"primary=s3://{bucket}", **s3(faults.url, S3_TIMEOUT="3", S3_ATTEMPTS="1"))
        faults.only = lambda method, path: "postgres-platform" in path
        faults.delay(4)
        refused(platform, hasty, f"s3://{bucket}", "S3_TIMEOUT")
        with platform.settings(), pytest.raises(ObjectStoreError) as caught:
            steps.make(hasty, NEXT, "hand")
        one_sentence(str(caught.value), "postgres-platform", "S3_TIMEOUT")
        assert listed(hasty).state == "verified"
        faults.delay(0.5)
        make(platform, hasty, NEXT)


def test_a_bucket_whose_answers_are_cut_is_told_and_one_cut_is_taken_up(
    platform: Platform, bucket: str, s3_server: str
) -> None:
    with faulty(s3_server) as faults:
        inst = installed(platform, f"primary=s3://{bucket}", **s3(faults.url))
        faults.only = lambda method, path: "postgres-platform" in path
        faults.cut(after=1000, times=1)
        with platform.settings():
            assert steps.verify_everywhere(inst, POINT) == {"primary": ""}
        faults.cut(after=0)
        refused(platform, inst, "postgres-platform", "cannot be read")
        # A store that does not answer says nothing about the point.
        assert listed(inst).state == "verified"


def test_a_copy_that_fails_is_told_and_the_primary_point_is_verified(
    platform: Platform, s3_bucket: str, s3_server: str, tmp_path: Path
) -> None:
    with faulty(s3_server) as faults:
        place = f"primary={tmp_path / 'store'},offsite=s3://{s3_bucket}/copy"
        inst = installed(platform, place, **s3(faults.url))
        faults.fail()
        with platform.settings():
            made = steps.make(inst, POINT, "hand")
        assert made.problems["primary"] == ""
        one_sentence(made.problems["offsite"], f"s3://{s3_bucket}/copy")
        assert listed(inst).state == "verified"
        faults.mend()
        make(platform, inst, NEXT)
        assert [(point.id, dict(point.stores)) for point in catalogue.merge(map(catalogue.points, inst.stores))] == [
            (NEXT, {"primary": "verified", "offsite": "verified"}),
            (POINT, {"primary": "verified"}),
        ]


def test_two_stores_are_each_verified_and_a_damaged_copy_is_told_of_that_store(
    platform: Platform, tmp_path: Path
) -> None:
    inst = installed(platform, f"primary={tmp_path / 'store'},offsite={tmp_path / 'copy'}")
    made = make(platform, inst, POINT)
    assert made.problems == {"primary": "", "offsite": ""}
    assert [listed(inst).state, catalogue.points(inst.stores[1])[0].state] == ["verified", "verified"]
    path = object_in(tmp_path / "copy", "dump")
    flip(path)
    with platform.settings():
        problems = steps.verify_everywhere(inst, POINT)
        assert problems["primary"] == ""
        one_sentence(problems["offsite"], str(path))
        with untouched(platform), pytest.raises(PointDamaged):
            in_place.restore(inst, inst.store("offsite"), POINT)
    assert catalogue.merge(map(catalogue.points, inst.stores))[0].stores == {"primary": "verified", "offsite": "failed"}


def test_a_store_whose_disk_is_not_mounted_is_told(platform: Platform, tmp_path: Path) -> None:
    inst = installed(platform, tmp_path / "not-mounted" / "store")
    with platform.settings(), pytest.raises(ObjectStoreError) as caught:
        steps.make(inst, POINT, "hand")
    one_sentence(str(caught.value), "BACKUP_STORES", "not mounted", str(tmp_path / "not-mounted"))
    assert not (tmp_path / "not-mounted").exists()


# Others at work


def test_while_a_backup_is_under_way_backup_restore_and_ingestion_say_so(
    platform: Platform, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, setting in platform.environment().items():
        monkeypatch.setenv(name, setting)
    inst, outcome = installed(platform, store), list[Any]()
    admin = platform.cluster.url(platform.database, "postgres")
    dumping = f"SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = '{platform.database}' AND application_name = 'pg_dump'"
    with psycopg.connect(admin) as migration:  # holds the backup up, as a long migration does
        migration.execute("LOCK TABLE bulk IN ACCESS EXCLUSIVE MODE")
        first = threading.Thread(target=lambda: outcome.append(steps.make(inst, NEXT, "schedule")))
        first.start()
        assert eventually(lambda: value(admin, dumping), 60)
        monkeypatch.setattr(steps, "WAIT", 0.0)
        monkeypatch.setattr(in_place, "WAIT", 0.0)
        with untouched(platform):
            with pytest.raises(Busy) as caught:
                steps.make(inst, "2026-01-03", "hand")
            one_sentence(str(caught.value), f"backup of {NEXT}", "backup of 2026-01-03")
            with pytest.raises(Busy) as caught:
                in_place.restore(inst, inst.primary, POINT)
            one_sentence(str(caught.value), f"backup of {NEXT}", f"restore of {POINT}")
            base = KnowledgeBase(
                platform.documents, platform.cluster.url(platform.database), platform.qdrant_url, ALIAS
            )
            result = base.ingest()
            assert not result.success
            assert f"backup of {NEXT}" in failures(result)
        migration.rollback()
        first.join(120)
    [made] = outcome
    assert made.good
    assert {point.id: point.state for point in catalogue.points(inst.primary)} == {POINT: "verified", NEXT: "verified"}


def test_what_was_captured_while_nobody_kept_ingestion_out_becomes_no_point(platform: Platform, store: Path) -> None:
    inst, outcome = installed(platform, store), list[str]()
    admin = platform.cluster.url(platform.database, "postgres")
    dumping = f"SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = '{platform.database}' AND application_name = 'pg_dump'"

    def attempt() -> None:
        try:
            steps.make(inst, NEXT, "schedule")
        except DatabaseUnavailable as error:
            outcome.append(str(error))

    with platform.settings(), psycopg.connect(admin) as migration:
        migration.execute("LOCK TABLE bulk IN ACCESS EXCLUSIVE MODE")
        backup = threading.Thread(target=attempt)
        backup.start()
        assert eventually(lambda: value(admin, dumping), 60)
        migration.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
            "AND application_name = %s",
            (f"zhiyun backup of {NEXT}",),
        )
        migration.rollback()
        backup.join(120)
    [told] = outcome
    one_sentence(told, "DATABASE_URL", "went away")
    assert (listed(inst, NEXT).state, listed(inst, NEXT).reason) == ("failed", told)
    assert listed(inst).state == "verified"


@pytest.mark.parametrize("other", ["restore", "ingestion"])
def test_while_another_is_under_way_a_backup_says_so(
    platform: Platform, store: Path, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    monkeypatch.setattr(steps, "WAIT", 0.0)
    inst = installed(platform, store)
    with ExitStack() as held:
        if other == "restore":
            held.enter_context(exclusive(inst.database.admin, f"restore of {POINT}"))
        else:
            url = DatabaseSettings(url=platform.cluster.url(platform.database))
            held.enter_context(writer(held.enter_context(closing(connect(url)))))
        with untouched(platform), platform.settings(), pytest.raises((Busy, AnotherWriter)) as caught:
            steps.make(inst, NEXT, "hand")
        one_sentence(str(caught.value), f"restore of {POINT}" if other == "restore" else "zhiyun ingestion")
    make(platform, inst, NEXT)


# What it takes to make one


def test_programs_of_another_major_version_are_refused_in_a_line(platform: Platform, store: Path) -> None:
    own = platform.cluster.binaries
    other = next(
        (found for packaged in (False, True) for found in servers(packaged_only=packaged) if found.major != own.major),
        None,
    )
    if other is None:
        pytest.skip(f"this machine has no other PostgreSQL {OLDEST} or later than {own.major}")
    inst = installed(platform, store, DATABASE_PROGRAMS=str(other.folder))
    names = f"DATABASE_PROGRAMS={other.folder}", f"PostgreSQL {own.major}", str(other.major)
    with platform.settings(), untouched(platform):
        with pytest.raises(BackupError) as caught:
            steps.make(inst, NEXT, "hand")
        one_sentence(str(caught.value), *names)
        assert listed(inst, NEXT).reason == str(caught.value)
    refused(platform, inst, *names)
    assert listed(inst).state == "verified"  # it could not be told


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


def _manifest(inst: Installation, point: str = POINT) -> Manifest:
    manifest = catalogue.find(inst.primary, point).manifest
    assert manifest
    return manifest
