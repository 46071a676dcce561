"""Reading a recovery point back, whole, from where it lies."""

from __future__ import annotations

import time
from collections.abc import Collection as AnyOf
from collections.abc import Sequence
from datetime import UTC, datetime

from objects.store import ObjectStore, ObjectStoreError
from orchestration.backups.database import archive
from orchestration.backups.database.capture import programs
from orchestration.backups.files import restore as files_restore
from orchestration.backups.installation import Installation
from orchestration.backups.points import catalogue
from orchestration.backups.recovery_point import BackupError, Manifest, PointDamaged, Verification
from orchestration.backups.streams.blobs import hash_blob, read_blob
from orchestration.backups.streams.encryption import check_key

PARTS = ("database", "vectors", "files")


def check(inst: Installation, store: ObjectStore, manifest: Manifest, parts: AnyOf[str] = PARTS) -> None:
    """Read every object of these parts: decrypt, decompress, hash, and have pg_restore read the dumps to their end.

    Raises PointDamaged naming the object, or BackupError when it cannot be told: a key or a program is missing, the store
    does not answer. Nothing is changed anywhere.
    """
    check_key(inst.keys, manifest)
    progress = inst.progress
    if "database" in parts:
        for database in manifest.postgres.databases:
            progress.step(f"reading back {database.role} database from {store.name}")
            tools = programs(inst, database.major)
            archive.check(read_blob(store, database.dump, keys=inst.keys, progress=progress.add), tools)
        for _ in read_blob(store, manifest.postgres.globals_, keys=inst.keys):
            pass
    if "vectors" in parts:
        progress.step(f"reading back vectors from {store.name}")
        for collection in manifest.vectors.collections:
            hash_blob(store, collection.snapshot, progress.add)
        if manifest.golden:
            hash_blob(store, manifest.golden.answers)
    if "files" in parts:
        progress.step(f"reading back files from {store.name}")
        files_restore.verify(store, manifest.files, keys=inst.keys, progress=progress.add)


def verify(inst: Installation, store: ObjectStore, point: str) -> Verification:
    """Check a whole point of a store and write down what came of it, beside it.

    Raises BackupError or ObjectStoreError when it cannot be told whether the point is good.
    """
    began, reason = time.monotonic(), ""
    found = catalogue.find(store, point)
    assert found.manifest is not None  # catalogue.find
    try:
        check(inst, store, found.manifest)
    except PointDamaged as error:
        reason = str(error)
    verification = Verification(
        point=found.id,
        manifest_sha256=found.manifest_sha256,
        at=datetime.now(UTC),
        result="failed" if reason else "verified",
        reason=reason,
        seconds=round(time.monotonic() - began, 3),
    )
    catalogue.write_verification(store, verification)
    return verification


def verify_everywhere(inst: Installation, point: str, stores: Sequence[ObjectStore] | None = None) -> dict[str, str]:
    """Read a point back from these stores, or all; gives why it is not verified there, empty where it is. Raises BackupError."""
    problems: dict[str, str] = {}
    for store in stores or inst.stores:
        try:
            problems[store.name] = verify(inst, store, point).reason
        except (BackupError, ObjectStoreError) as error:
            problems[store.name] = str(error)
    return problems
