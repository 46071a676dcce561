"""The inventory of the file store in a recovery point, and the objects that it names.

An inventory is JSON lines of entries, sorted by source and path. The content of each file is an object under its hash;
with encryption under a keyed hash, so that names do not tell what is in them.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator

import msgspec

from objects.store import ObjectMissing, ObjectStore, ObjectStoreError
from orchestration.backups.recovery_point import BackupError, FilesPart, PointDamaged
from orchestration.backups.streams.blobs import decompressed, read_blob
from orchestration.backups.streams.encryption import Keys, WrongKey

FILES = "files/"
_OBJECT = re.compile(r"files/[0-9a-f]{2}/([0-9a-f]{16})[0-9a-f]{48}\.zst(\.age)?")


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """A file of the inventory, which is sorted by source and path."""

    source: str
    path: str
    size: int
    mtime_ns: int
    sha256: str  # of the file's content
    object: str  # its key in the store
    stored_size: int  # bytes in the store
    settled: bool = True  # False: too young when it was read for its time to tell whether it changed since


def entries(store: ObjectStore, part: FilesPart, keys: Keys | None = None) -> Iterator[Entry]:
    """The inventory of a point, as it is read. Raises PointDamaged (at the end, at the latest), BackupError for the key."""
    decoder = msgspec.json.Decoder(Entry)
    rest = b""
    for chunk in read_blob(store, part.inventory, keys=keys):
        *lines, rest = (rest + chunk).split(b"\n")
        try:
            yield from map(decoder.decode, lines)
        except msgspec.DecodeError as error:
            raise PointDamaged(f"{part.inventory.key} in {store.url} is no inventory of files: {error}.") from None
    if rest:
        raise PointDamaged(f"{part.inventory.key} in {store.url} ends in the middle of a line.")


def distinct(entries: Iterable[Entry]) -> Iterator[Entry]:
    """The first entry for each object, since files may have one content."""
    seen: set[int] = set()
    for entry in entries:
        if (number := short(entry.object)) not in seen:
            seen.add(number)
            yield entry


def content(store: ObjectStore, entry: Entry, keys: Keys | None = None) -> Iterator[bytes]:
    """The bytes of a file. Raises PointDamaged, at the latest at the end, if they are not what was backed up."""
    what = f"{entry.object} in {store.url}, which holds {entry.source}/{entry.path},"
    counts, digest = [0], hashlib.sha256()
    try:
        chunks = counted(store.read(entry.object), counts)
        for chunk in decompressed(keys.decrypted(chunks) if keys else chunks):
            digest.update(chunk)
            yield chunk
    except ObjectMissing:
        raise PointDamaged(f"{what} is missing.") from None
    except (PointDamaged, WrongKey) as error:
        # The inventory has the same key and could be read: no other key opens this either.
        why = str(error).rstrip(".")
        raise PointDamaged(f"{what} has {counts[0]} bytes of {entry.stored_size} and is damaged: {why}.") from None
    if digest.hexdigest() != entry.sha256:
        raise PointDamaged(f"{what} is damaged: its content does not have the hash of the file.")


def object_key(sha256: str, keys: Keys | None) -> str:
    """Where the content with this hash lies. With a key the name is an HMAC, which only its holder can compute."""
    name = sha256
    if keys:
        name = hmac.digest(keys.derived("names of files"), bytes.fromhex(sha256), "sha256").hex()
    return f"{FILES}{name[:2]}/{name}.zst{'.age' if keys else ''}"


def short(key: str) -> int:
    """The first 64 bits of an object's name; 0 for a key that is no file's object."""
    match = _OBJECT.fullmatch(key)
    return int(match[1], 16) if match else 0


class Listing:
    """Which objects a store has, in 16 bytes each."""

    def __init__(self, store: ObjectStore) -> None:
        self._numbers, self._sizes = array("Q"), array("Q")
        for item in store.list(FILES):  # in the order of the keys, so the numbers ascend
            if number := short(item.key):
                self._numbers.append(number)
                self._sizes.append(item.size)

    def size(self, key: str) -> int | None:
        number = short(key)
        at = bisect_left(self._numbers, number)
        return self._sizes[at] if at < len(self._numbers) and self._numbers[at] == number else None


class Earlier:
    """The earlier inventory, read beside the sources: both are in one order."""

    def __init__(self, entries: Iterable[Entry], problems: list[str]) -> None:
        self._entries, self._problems = iter(entries), problems
        self._next = self._read()

    def at(self, source: str, path: str) -> Entry | None:
        """The entry of this file. Asked for in order."""
        while self._next and (self._next.source, self._next.path) < (source, path):
            self._next = self._read()
        return self._next if self._next and (self._next.source, self._next.path) == (source, path) else None

    def had(self, source: str) -> bool:
        """Whether it had files of a source of which none was asked for."""
        self.at(source, "")
        return self._next is not None and self._next.source == source

    def _read(self) -> Entry | None:
        try:
            return next(self._entries, None)
        except (BackupError, ObjectStoreError) as error:
            self._problems.append(f"The inventory of the point before cannot be read, so more files were read: {error}")
            return None


def counted(chunks: Iterable[bytes], counts: list[int]) -> Iterator[bytes]:
    for chunk in chunks:
        counts[0] += len(chunk)
        yield chunk
