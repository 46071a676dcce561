"""A recovery point into another store: what it needs and is not there yet, and the manifest last."""

from __future__ import annotations

from objects.store import ObjectStore
from orchestration.backups.files import restore as files_restore
from orchestration.backups.installation import Installation
from orchestration.backups.points import catalogue
from orchestration.backups.recovery_point import Manifest
from orchestration.backups.streams.blobs import copy_blob


def copy(inst: Installation, manifest: Manifest, source: ObjectStore, target: ObjectStore) -> None:
    """Copy a point; hashes are checked while it flows. Raises PointDamaged, BackupError or ObjectStoreError.

    Until the manifest is there the target has no such point, and the one that it may have had under this id stays.
    """
    for blob in manifest.blobs():
        there = target.stat(blob.key)
        if there is None or there.size != blob.size:  # keys name the try, so what is there is of this very point
            copy_blob(source, target, blob, inst.progress.add)
    files_restore.copy(source, target, manifest.files, inst.keys, inst.progress.add)
    catalogue.write_manifest(target, manifest)
