"""Which recovery points a store has, and what is known of each.

Nothing is kept beside the stores: the list is read from them, so it is the same for whoever asks, on an empty machine
too. One damaged point never hides the others: it is in the list, with the reason.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import msgspec

from objects.store import ObjectMissing, ObjectStore, ObjectStoreError, StoredObject
from orchestration.backups.recovery_point import (
    BackupError,
    Failure,
    Manifest,
    PointDamaged,
    State,
    Verification,
    check_id,
    decode_manifest,
    encode_manifest,
    failure_key,
    folder,
    manifest_key,
    verification_key,
)
from zhiyun.logs import without_secrets

POINTS = "points/"
_WORDS_MAX = 64 << 20  # bytes; a larger manifest is not one of ours
_RANK: Mapping[State, int] = {"failed": 0, "complete": 1, "verified": 2}


@dataclass(frozen=True, slots=True)
class Point:
    """A recovery point as a store shows it. `made_at` is UTC; of a try that failed it is when that was written down."""

    id: str
    state: State
    made_at: datetime
    verified_at: datetime | None = None  # when it was last read back, whatever came of that
    size: int = 0  # bytes in the store that came with it
    reason: str = ""  # why it failed
    manifest: Manifest | None = None
    manifest_sha256: str = ""  # of its bytes in the store; what a verification is bound to
    has_data: bool = False  # objects of its own lie there, beside what is said about it
    committed_at: datetime | None = None  # when the manifest was written, by the store's clock; None: there is none
    later: bool = False  # a later version wrote it, so this one cannot judge it
    stores: Mapping[str, State] = field(default_factory=dict[str, State])  # its state in each store that has it


def points(store: ObjectStore) -> list[Point]:
    """All points of a store, newest first: whole ones, damaged ones, and tries that failed and said why.

    Raises ObjectStoreError only when the store itself cannot be read.
    """
    found: list[Point] = []
    name, objects = "", dict[str, StoredObject]()
    for item in store.list(POINTS):
        point = item.key.split("/")[1]
        if point != name:
            found += _looked_at(store, name, objects)
            name, objects = point, {}
        # Of what steps left only the sum counts: a point has some dozen objects, so the list stays small.
        objects[item.key] = item
    found += _looked_at(store, name, objects)
    return sorted(found, key=lambda point: (point.made_at, point.id), reverse=True)


def all_points(stores: Iterable[ObjectStore]) -> list[Point]:
    """The points of every store that answers, newest first, each with the stores that have it."""
    found: list[Sequence[Point]] = []
    for store in stores:
        with contextlib.suppress(ObjectStoreError):  # told by the alerts; what the others have is still worth seeing
            found.append(points(store))
    return merge(found)


def find(store: ObjectStore, wanted: str) -> Point:
    """The point of this id, or with `latest` the newest verified one; its manifest could be read.

    Raises BackupError when there is none, PointDamaged when its manifest cannot be read. A point that failed its
    verification is given all the same: who asks for it by name may know why.
    """
    there = points(store)
    if wanted == "latest":
        if best := newest_verified(there):
            return best
        others = [point.id for point in there if point.manifest]
        hint = f"; {others[0]} is there, but not verified: name it to use it all the same" if others else ""
        raise BackupError(f"{_place(store)} has no verified recovery point{hint}. Nothing was changed.")
    check_id(wanted)
    point = next((point for point in there if point.id == wanted), None)
    if point is None:
        raise BackupError(
            f"Recovery point {wanted} is not in {_place(store)}; `zhiyun backup list` shows what is. Nothing was changed."
        )
    if point.committed_at is None:
        raise BackupError(f"Recovery point {wanted} in {_place(store)} was never completed: {point.reason}")
    if point.manifest is None:
        raise (BackupError if point.later else PointDamaged)(point.reason)
    return point


def newest_verified(points: Iterable[Point]) -> Point | None:
    """The verified point that was made last."""
    return max((p for p in points if p.state == "verified"), key=lambda p: (p.made_at, p.id), default=None)


def merge(stores: Iterable[Sequence[Point]]) -> list[Point]:
    """One list of the points of several stores, newest first: each as its best copy shows it, with all `stores`."""
    best: dict[str, Point] = {}
    for there in stores:
        for point in there:
            known = best.get(point.id)
            if known is None:
                best[point.id] = point
                continue
            first = known if _RANK[known.state] >= _RANK[point.state] else point
            best[point.id] = replace(first, stores={**known.stores, **point.stores})
    return sorted(best.values(), key=lambda point: (point.made_at, point.id), reverse=True)


def write_manifest(store: ObjectStore, manifest: Manifest) -> str:
    """Commit a point: from here on it exists. Gives the sha256 that its verification names.

    What an earlier try of the same point said of its failure no longer holds and is removed, if that can be done.
    """
    data = encode_manifest(manifest)
    store.put(manifest_key(manifest.id), [data])
    with contextlib.suppress(ObjectStoreError):  # a point with a manifest is whole whatever lies beside it
        store.delete([failure_key(manifest.id)])
    return hashlib.sha256(data).hexdigest()


def write_verification(store: ObjectStore, verification: Verification) -> None:
    """Write down what came of reading a point back."""
    reason = without_secrets(verification.reason)
    text = msgspec.json.encode(msgspec.structs.replace(verification, reason=reason))
    store.put(verification_key(verification.point), [text])


def write_failure(store: ObjectStore, point: str, reason: str, now: datetime | None = None) -> bool:
    """Write down why a try did not become a point; False where even that failed. Never raises for the store."""
    failure = Failure(point=point, at=now or datetime.now(UTC), reason=without_secrets(reason))
    try:
        store.put(failure_key(point), [msgspec.json.encode(failure)])
    except ObjectStoreError:
        return False
    return True


def _looked_at(store: ObjectStore, name: str, objects: Mapping[str, StoredObject]) -> list[Point]:
    """The point of one folder, or none: an unfinished try without a reason, or a folder that is not ours."""
    try:
        check_id(name)
    except BackupError:
        return []
    said = {manifest_key(name), verification_key(name), failure_key(name)}
    data = [item for key, item in objects.items() if key not in said]
    if (item := objects.get(manifest_key(name))) and (content := _content(store, item.key)) is not None:
        point = _with_manifest(store, name, item, content, told=verification_key(name) in objects)
        size = point.size or sum(item.size for item in data)
    elif (item := objects.get(failure_key(name))) and (content := _content(store, item.key)) is not None:
        point, size = _without_manifest(name, item, content), sum(item.size for item in data)
    else:
        return []
    return [replace(point, size=size, has_data=bool(data), stores={store.name: point.state})]


def _with_manifest(store: ObjectStore, name: str, item: StoredObject, content: bytes, *, told: bool) -> Point:
    sha256 = hashlib.sha256(content).hexdigest()
    where = f"{item.key} in {_place(store)}"
    known = Point(name, "failed", item.modified, manifest_sha256=sha256, committed_at=item.modified)
    try:
        manifest = decode_manifest(content, where)
    except PointDamaged as error:
        return replace(known, reason=str(error))
    except BackupError as error:
        return replace(known, reason=str(error), later=True)
    if manifest.id != name:
        return replace(known, reason=f"{where} is damaged: it is the manifest of {manifest.id}. Nothing was changed.")
    if manifest.made_at.tzinfo is None:
        return replace(known, reason=f"{where} is damaged: its time has no zone. Nothing was changed.")
    known = replace(known, state="complete", made_at=manifest.made_at, size=manifest.size, manifest=manifest)
    verification = _verification(store, name) if told else None
    if verification is None or verification.manifest_sha256 != sha256:
        return known
    return replace(
        known,
        state="verified" if verification.result == "verified" else "failed",
        verified_at=verification.at,
        reason=verification.reason,
    )


def _without_manifest(name: str, item: StoredObject, content: bytes) -> Point:
    try:
        failure = msgspec.json.decode(content, type=Failure)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Point(name, "failed", item.modified, reason=f"{item.key} says why, but cannot be read")
    made_at = failure.at if failure.at.tzinfo else item.modified
    return Point(name, "failed", made_at, reason=failure.reason)


def _verification(store: ObjectStore, name: str) -> Verification | None:
    """What verification.json says; nothing when it is damaged: such a point counts as not verified."""
    content = _content(store, verification_key(name))
    try:
        return None if content is None else msgspec.json.decode(content, type=Verification)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _content(store: ObjectStore, key: str) -> bytes | None:
    """A small object whole, as much of it as can be ours; None when it was deleted since it was listed."""
    data = bytearray()
    try:
        for chunk in store.read(key):
            data += chunk
            if len(data) > _WORDS_MAX:
                break
    except ObjectMissing:
        return None
    return bytes(data)


def own_objects(store: ObjectStore, point: str) -> list[StoredObject]:
    """Everything in a point's folder."""
    return list(store.list(folder(point)))


def _place(store: ObjectStore) -> str:
    return f"store {store.name!r} ({store.url})"
