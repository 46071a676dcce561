"""Objects in a folder of this machine, or of a disk that is mounted on it."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Generator, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from objects import unfinished
from objects.store import ObjectMissing, ObjectStoreError, StoredObject, checked_key

_PIECE = 1 << 20  # bytes that a reader gets at once
_NOT_OURS = "lost+found"  # where a disk is mounted, file systems keep it for root
_TRIES = 5

_REASONS = {
    errno.ENOSPC: "is full",
    errno.EDQUOT: "is full (its quota is used up)",
    errno.EROFS: "is mounted read-only",
    errno.EACCES: "may not be used by this user",
    errno.EPERM: "may not be used by this user",
}


class FolderObjects:
    """An ObjectStore in `folder`, which is made by the first write if the folder above it is there.

    A folder above it that is missing is an error: most likely a disk is not mounted. `setting` is the variable that the
    operator wrote the folder into. A key cannot be the folder of another key. What is written is private to the user.
    """

    def __init__(self, name: str, folder: Path, setting: str = "BACKUP_STORES") -> None:
        self._name = name
        self._root = folder.expanduser().absolute()
        self._setting = setting

    @property
    def name(self) -> str:
        return self._name

    @property
    def url(self) -> str:
        return f"file://{self._root}"

    def put(self, key: str, chunks: Iterable[bytes]) -> int:
        """See ObjectStore. The bytes are on the disk (fsync) before the object shows its new content."""
        target = self._path(key)
        untouched = f"{key} was not written, and what was there before is untouched"
        temporary, descriptor = self._begin(target, untouched)
        size = 0
        try:
            for chunk in chunks:  # what this raises is the caller's
                with self._told(untouched):
                    unfinished.write(descriptor, chunk)
                size += len(chunk)
            with self._told(untouched):
                unfinished.finish(temporary, descriptor, target)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            self._remove_empty(target.parent)
            raise
        finally:
            os.close(descriptor)
        return size

    def read(self, key: str) -> Iterator[bytes]:
        """See ObjectStore."""
        path, failed = self._path(key), f"{key} cannot be read"
        try:
            with self._told(failed):
                # O_NONBLOCK: a pipe in the file's place must not hang the reader.
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except _Absent:
            self._check_mounted(failed)
            raise ObjectMissing(f"{self} has no object {key}.") from None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise ObjectMissing(f"{self} has no object {key}: what is there is not a file.")
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            while True:
                with self._told(failed):
                    piece = file.read(_PIECE)
                if not piece:
                    return
                yield piece

    def stat(self, key: str) -> StoredObject | None:
        """See ObjectStore."""
        path, failed = self._path(key), f"{key} cannot be looked at"
        try:
            with self._told(failed):
                status = path.stat()
                return _stored(key, status) if stat.S_ISREG(status.st_mode) else None
        except _Absent:
            self._check_mounted(failed)
            return None

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """See ObjectStore. Keeps the names of one folder at each depth in memory, not those of all."""
        if prefix and ".." in prefix.split("/"):
            checked_key(prefix)
        if not self._check_mounted("nothing is known about its objects"):
            return
        for key, entry in self._walk(self._root, "", prefix, ()):
            if key.startswith(prefix) and not entry.name.startswith(unfinished.PREFIX):
                try:
                    with self._told(f"nothing is known about {key}"):
                        status = entry.stat()
                except _Absent:  # deleted since the folder was listed, or a link that leads nowhere
                    continue
                if stat.S_ISREG(status.st_mode):
                    yield _stored(key, status)

    def delete(self, keys: Iterable[str]) -> int:
        """See ObjectStore. A folder goes with its last object."""
        count = 0
        for key in keys:
            path, failed = self._path(key), f"{key} was not deleted"
            try:
                with self._told(failed):
                    path.unlink()
                self._remove_empty(path.parent)
            except _Absent:
                self._check_mounted(failed)
            count += 1
        return count

    def sweep(self, older_than: timedelta) -> int:
        """See ObjectStore. What a process that lives is writing stays, however old it is."""
        count, before = 0, time.time() - older_than.total_seconds()
        if not self._check_mounted("nothing was swept"):
            return 0
        for key, entry in self._walk(self._root, "", "", ()):
            if entry.name.startswith(unfinished.PREFIX):
                with contextlib.suppress(_Absent), self._told(f"{key} was not swept"):
                    if entry.stat().st_mtime <= before and not unfinished.has_writer(entry.path):
                        Path(entry.path).unlink()
                        count += 1
                        self._remove_empty(Path(entry.path).parent)
        return count

    def free_bytes(self) -> int | None:
        """See ObjectStore: what this user may still write."""
        there = self._check_mounted("its room is not known")
        with self._told("its room is not known"):
            status = os.statvfs(self._root if there else self._root.parent)
        return status.f_bavail * status.f_frsize

    def __str__(self) -> str:
        return f"The store {self._name} ({self.url}, {self._setting})"

    def _path(self, key: str) -> Path:
        if any(part.startswith(unfinished.PREFIX) for part in checked_key(key).split("/")):
            raise ObjectStoreError(
                f"{key!r} is no key of an object: names with {unfinished.PREFIX} are for unfinished files."
            )
        return self._root / key

    def _begin(self, target: Path, untouched: str) -> tuple[Path, int]:
        """A new locked file beside the target: (path, descriptor)."""
        for _ in range(_TRIES):
            self._check_mounted(untouched)
            # A deletion may just have removed the empty folder.
            with contextlib.suppress(_Absent), self._told(untouched, absent=(errno.ENOENT,)):
                self._make_folders(target.parent)
                return unfinished.create(target.parent)
        raise ObjectStoreError(f"{self} loses its folders while they are written to: {untouched}.")

    def _make_folders(self, folder: Path) -> None:
        missing: list[Path] = []
        while folder != self._root.parent and not folder.is_dir():
            missing.append(folder)
            folder = folder.parent
        for folder in reversed(missing):
            with contextlib.suppress(FileExistsError):
                folder.mkdir(mode=0o700)
            unfinished.sync_folder(folder.parent)

    def _remove_empty(self, folder: Path) -> None:
        while folder != self._root and self._root in folder.parents:
            try:
                folder.rmdir()
            except OSError:
                return
            folder = folder.parent

    def _walk(
        self, folder: Path, above: str, wanted: str, ancestors: tuple[tuple[int, int], ...]
    ) -> Iterator[tuple[str, os.DirEntry[str]]]:
        """Files below a folder that may have the prefix, in the order of their keys."""
        try:
            with self._told(f"nothing is known about its objects in {above or 'it'}"), os.scandir(folder) as entries:
                status = folder.stat()
                # A folder sorts as its keys do, with the slash.
                found = sorted(((_name(entry), entry) for entry in entries), key=lambda item: item[0])
        except _Absent:
            return  # removed since the folder above was listed
        identity = (status.st_dev, status.st_ino)
        if identity in ancestors:
            return  # a link to a folder above
        for name, entry in found:
            key = above + name
            if not name.endswith("/"):
                yield key, entry
            elif (key.startswith(wanted) or wanted.startswith(key)) and (above or entry.name != _NOT_OURS):
                yield from self._walk(Path(entry.path), key, wanted, (*ancestors, identity))

    def _check_mounted(self, failed: str) -> bool:
        """Whether the folder is there; False before the first write. Raises ObjectStoreError if the one above is not."""
        try:
            with self._told(failed):
                if self._root.is_dir():
                    return True
                self._root.parent.stat()
        except _Absent:
            raise ObjectStoreError(
                f"{self} cannot be used, because {self._root.parent} does not exist (is a disk not mounted?): {failed}."
            ) from None
        if os.path.lexists(self._root) and not self._root.is_dir():  # by now another writer may have made it
            raise ObjectStoreError(f"{self} is not a folder (is a disk not mounted?): {failed}.")
        return self._root.is_dir()

    @contextlib.contextmanager
    def _told(self, failed: str, absent: tuple[int, ...] = (errno.ENOENT, errno.ENOTDIR)) -> Generator[None]:
        """Tell an OSError in one sentence; as _Absent what is simply not there."""
        try:
            yield
        except OSError as error:
            reason = _REASONS.get(error.errno or 0, f"failed ({error.strerror or type(error).__name__})")
            kind = _Absent if error.errno in absent else ObjectStoreError
            raise kind(f"{self} {reason}: {failed}.") from error


class _Absent(ObjectStoreError):
    """There is nothing at this path; often that is no error."""


def _name(entry: os.DirEntry[str]) -> str:
    with contextlib.suppress(OSError):
        return entry.name + ("/" if entry.is_dir() else "")
    return entry.name


def _stored(key: str, status: os.stat_result) -> StoredObject:
    return StoredObject(key, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))
