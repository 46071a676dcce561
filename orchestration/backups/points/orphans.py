"""Objects in a store that belong to no recovery point: found here, deleted by `retention.prune`.

Two kinds: what tries that never became a point have left in `points/`, and files under `files/` that no point names any
more. The second are looked for only when every point's inventory could be read; in doubt an object stays.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from objects.store import ObjectStore, ObjectStoreError, StoredObject
from orchestration.backups.files.inventory import FILES, entries, short
from orchestration.backups.points.catalogue import POINTS, Point
from orchestration.backups.recovery_point import BackupError, check_id, failure_key, manifest_key, verification_key
from orchestration.backups.streams.encryption import Keys

GRACE = timedelta(hours=6)
"""What is younger may belong to a backup that is under way."""
_BATCH = 1000  # keys in one deletion, as many as S3 takes


@dataclass(frozen=True, slots=True)
class Leftovers:
    """What may be deleted; `note` says why files were not looked at."""

    found: Iterable[StoredObject]
    note: str = ""

    def batches(self) -> Iterator[list[StoredObject]]:
        """The objects in portions, as they are found."""
        batch: list[StoredObject] = []
        for item in self.found:
            batch.append(item)
            if len(batch) == _BATCH:
                yield batch
                batch = []
        if batch:
            yield batch


def leftovers(
    store: ObjectStore,
    kept: Sequence[Point],
    now: datetime,
    keys: Keys | None,
    under_way: Collection[str] = (),
    expired: Collection[str] = (),
) -> Leftovers:
    """Objects of a store that none of the kept points needs and that are older than GRACE.

    `under_way` are points that are being made, `expired` those that are dealt with already: their folders are left
    alone. Raises ObjectStoreError when the store cannot be listed.
    """
    in_points, young = _in_points(store, kept, now, {*under_way, *expired})
    young = next(iter(under_way), young)
    if young:
        return Leftovers(in_points, f"Files were not looked at: {young} may be a backup that is under way.")
    named, note = _named(store, kept, keys)
    if named is None:
        return Leftovers(in_points, note)
    return Leftovers(_chained(in_points, _in_files(store, named, now)))


def _in_points(
    store: ObjectStore, kept: Sequence[Point], now: datetime, passed_over: Collection[str]
) -> tuple[list[StoredObject], str]:
    """Leftovers below `points/`, and the id of a point without manifest that is young, if there is one.

    A point's few objects are looked at together: one young object keeps all of an unfinished point.
    """
    known = {point.id: point for point in kept}
    folders: dict[str, list[StoredObject]] = {}
    for item in store.list(POINTS):
        point = item.key.split("/")[1]
        if _is_id(point) and point not in passed_over:
            folders.setdefault(point, []).append(item)
    found: list[StoredObject] = []
    young = ""
    for name, objects in folders.items():
        said = {manifest_key(name), verification_key(name), failure_key(name)}
        point = known.get(name)
        if point is None or point.committed_at is None:
            if any(now - item.modified < GRACE for item in objects if item.key not in said):
                young = young or name
            else:
                # Why a try failed stays as long as the list shows it.
                found += [item for item in objects if point is None or item.key not in said]
        elif point.manifest is not None:
            needed = said | {blob.key for blob in point.manifest.blobs()}
            found += [item for item in objects if item.key not in needed and now - item.modified >= GRACE]
    return found, young


def _named(store: ObjectStore, kept: Sequence[Point], keys: Keys | None) -> tuple[set[int] | None, str]:
    """The files that kept points name, as short numbers: two files with one number only keep each other."""
    named: set[int] = set()
    for point in kept:
        if point.committed_at is None:
            continue
        try:
            if point.manifest is None:
                raise BackupError(point.reason)
            named.update(short(entry.object) for entry in entries(store, point.manifest.files, keys))
        except (BackupError, ObjectStoreError) as error:
            return None, f"Files were not looked at, since those of {point.id} are not known: {error}"
    return named, ""


def _in_files(store: ObjectStore, named: set[int], now: datetime) -> Iterator[StoredObject]:
    for item in store.list(FILES):
        number = short(item.key)
        if number and number not in named and now - item.modified >= GRACE:
            yield item


def _chained(first: Iterable[StoredObject], second: Iterable[StoredObject]) -> Iterator[StoredObject]:
    yield from first
    yield from second


def _is_id(name: str) -> bool:
    try:
        check_id(name)
    except BackupError:
        return False
    return True
