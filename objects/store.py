"""Objects under keys, in a folder or an S3 bucket: one interface for the file store and for the stores of backups.

A key is `part/part/name` in forward slashes. A write is there whole or not at all, whatever happens meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol


class ObjectStoreError(RuntimeError):
    """An object store did not do what was asked. One sentence: what, the store's URL, the setting, what was untouched."""


class ObjectMissing(ObjectStoreError):
    """There is no object under this key."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as a listing shows it: `size` in bytes, `modified` in UTC."""

    key: str
    size: int
    modified: datetime


class ObjectStore(Protocol):
    """A place for objects. Every failure is an ObjectStoreError."""

    @property
    def name(self) -> str:
        """What the operator calls it, for example `offsite`."""
        ...

    @property
    def url(self) -> str:
        """Where it is, without secrets: `file:///backup` or `s3://bucket/prefix`."""
        ...

    def put(self, key: str, chunks: Iterable[bytes]) -> int:
        """Write an object as its bytes come, in bounded memory; gives their number.

        What `chunks` raises ends the write and comes out as it is. Until the last byte is safely there, the object that
        had the key before is what readers get; nothing of a write that failed is listed.
        """
        ...

    def read(self, key: str) -> Iterator[bytes]:
        """The bytes of an object, in pieces of at most some MiB. Raises ObjectMissing."""
        ...

    def stat(self, key: str) -> StoredObject | None:
        """What a listing would show of this key."""
        ...

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """Objects whose key starts with the prefix, in the order of their keys."""
        ...

    def delete(self, keys: Iterable[str]) -> int:
        """Delete objects; those that are not there count as deleted. Gives how many keys there were."""
        ...

    def sweep(self, older_than: timedelta) -> int:
        """Remove what writes that were broken off have left, if it is older; gives how many there were."""
        ...

    def free_bytes(self) -> int | None:
        """Room that is left, None where nobody can tell."""
        ...


def checked_key(key: str) -> str:
    """The key, if it is one that every store can keep. Raises ObjectStoreError."""
    if "\0" in key or any(part in ("", ".", "..") for part in key.split("/")):
        raise ObjectStoreError(
            f"{key!r} is no key of an object: a key is `part/part/name`, without empty parts, `.` and `..`. "
            "Nothing was changed."
        )
    return key
