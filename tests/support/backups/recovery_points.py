"""Recovery points for tests that are about points and not about what is in them, and a store to put them in."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta

import msgspec

from objects.store import ObjectMissing, ObjectStore, ObjectStoreError, StoredObject
from orchestration.backups.files.inventory import Entry, object_key
from orchestration.backups.files.restore import verify
from orchestration.backups.points.catalogue import Point, points, write_failure, write_manifest, write_verification
from orchestration.backups.recovery_point import (
    Blob,
    Database,
    FileSource,
    FilesPart,
    Manifest,
    PostgresPart,
    State,
    VectorsPart,
    Verification,
    folder,
)
from orchestration.backups.streams.blobs import compressed, hash_blob, write_blob

NIGHT = datetime(2026, 11, 24, 18, 30, tzinfo=UTC)  # 02:30 in Shanghai


class Killed(BaseException):
    """The process ends here, as far as the code under test can tell."""


class MemoryObjects:
    """An ObjectStore whose clock stands where the test puts it, and that can be told to break."""

    def __init__(self, name: str = "primary", now: datetime = NIGHT) -> None:
        self.name, self.url = name, f"memory://{name}"
        self.now = now
        self.objects: dict[str, tuple[bytes, datetime]] = {}
        self.unreachable = ""  # why every call fails
        self.deletions_left: int | None = None  # after so many the process is killed
        self.swept = 0

    def put(self, key: str, chunks: Iterable[bytes]) -> int:
        self._check()
        data = b"".join(chunks)
        self.objects[key] = (data, self.now)
        return len(data)

    def read(self, key: str) -> Iterator[bytes]:
        self._check()
        if key not in self.objects:
            raise ObjectMissing(f"{self.url} has no {key}.")
        yield self.objects[key][0]

    def stat(self, key: str) -> StoredObject | None:
        self._check()
        if key not in self.objects:
            return None
        data, modified = self.objects[key]
        return StoredObject(key, len(data), modified)

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        self._check()
        for key in sorted(self.objects):
            if key.startswith(prefix) and (item := self.stat(key)):
                yield item

    def delete(self, keys: Iterable[str]) -> int:
        count = 0
        for key in keys:
            self._check()
            if self.deletions_left is not None:
                if not self.deletions_left:
                    raise Killed
                self.deletions_left -= 1
            self.objects.pop(key, None)
            count += 1
        return count

    def sweep(self, older_than: timedelta) -> int:
        self._check()
        self.swept += 1
        return 0

    def free_bytes(self) -> int | None:
        return None

    def _check(self) -> None:
        if self.unreachable:
            raise ObjectStoreError(f"{self.url} {self.unreachable}.")


def point(id: str, state: State, made_at: datetime) -> Point:
    """A point as a list shows it."""
    return Point(id, state, made_at, committed_at=None if state == "failed" else made_at, stores={"primary": state})


def add_point(
    store: ObjectStore,
    id: str,
    state: State = "verified",
    made_at: datetime = NIGHT,
    files: Mapping[str, bytes] | None = None,
) -> Manifest:
    """Write a small whole point; `failed` is one whose verification failed."""
    attempt = f"{folder(id)}a1/"
    found: list[Entry] = []
    for path, content in sorted((files or {}).items()):
        sha256 = hashlib.sha256(content).hexdigest()
        key = object_key(sha256, None)
        known = store.stat(key)
        size = known.size if known else store.put(key, compressed([content]))
        found.append(Entry("docs", path, len(content), 0, sha256, key, size))
    lines = [msgspec.json.encode(entry) + b"\n" for entry in found]
    inventory = write_blob(store, f"{attempt}files.jsonl.zst", lines)

    def blob(name: str) -> Blob:
        return write_blob(store, attempt + name, [f"{id} {name}".encode() * 50])

    manifest = Manifest(
        format=1,
        id=id,
        made_at=made_at,
        by="schedule",
        zhiyun="0.1.0",
        postgres=PostgresPart(
            (Database("zhiyun", "platform", blob("postgres-zhiyun.dump.zst"), "18.1", "18.1", ()),),
            blob("globals.sql.zst"),
            "",
        ),
        vectors=VectorsPart("embedded", "1.19", (), {}),
        files=FilesPart(inventory, (FileSource("docs", "file:///docs", len(found), 0),), len(found), 0),
    )
    sha256 = write_manifest(store, manifest)
    if state != "complete":
        result = "verified" if state == "verified" else "failed"
        reason = "" if state == "verified" else "a byte was flipped"
        write_verification(store, Verification(id, sha256, made_at + timedelta(minutes=9), result, reason))
    return manifest


def add_failure(store: ObjectStore, id: str, at: datetime, reason: str = "pg_dump ended with 1") -> None:
    """Write down a try that failed."""
    assert write_failure(store, id, reason, at)


def assert_whole(store: ObjectStore) -> list[Point]:
    """Every point that is listed and has a manifest is there to its last byte."""
    there = points(store)
    for item in there:
        if item.manifest:
            for blob in item.manifest.blobs():
                hash_blob(store, blob)
            verify(store, item.manifest.files)
    return there
