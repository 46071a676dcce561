"""The file store's part of a recovery point: an inventory of all files, and each content once, under its hash.

A night costs what has changed: a file that looks as in the point before is not read, and content that the store has
is not written.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec
import zstandard

from objects.store import ObjectStore
from orchestration.backups.files.folder import FolderFiles
from orchestration.backups.files.inventory import FILES, Earlier, Entry, Listing, content, object_key
from orchestration.backups.files.place import FileChanged, FileProblem, Files, Found, PlaceMissing
from orchestration.backups.recovery_point import BackupError, FileSource, FilesPart, PointDamaged
from orchestration.backups.streams.blobs import Progress, compressed, write_blob
from orchestration.backups.streams.encryption import Keys
from orchestration.backups.streams.parallel import ordered

SMALL = 4 << 20  # bytes; up to here a file is held in memory, so that it is read once
_TRIES = 3
_PAUSE = 0.05  # seconds between two tries at a file that is being written
_UNSETTLED = 5 * 10**9  # ns; a file that was written just now may be written again without its time changing
_TOLD = 100  # problems that a manifest lists
_LINES = 1 << 16  # bytes of the inventory that are handed on at once


def capture(
    sources: Sequence[Files],
    store: ObjectStore,
    attempt_prefix: str,
    earlier: Iterable[Entry] = (),
    keys: Keys | None = None,
    progress: Progress | None = None,
    *,
    check_existing: bool = False,
) -> FilesPart:
    """Bring all files of the sources into a store, and write their inventory below `attempt_prefix`.

    `earlier` is the inventory of the point before, in its order. With `check_existing` nothing that the store has is
    trusted: every file is read, its object too, and an object that is damaged is written again; for the night after a
    verification that failed. Raises BackupError when a source that had files has none now; ObjectStoreError.
    """
    work = _Capture(sources, store, earlier, keys, progress, check_existing)
    key = f"{attempt_prefix.rstrip('/')}/files.jsonl.zst{'.age' if keys else ''}"
    inventory = write_blob(store, key, work.inventory(), keys=keys)
    told = sorted(work.problems)
    if len(told) > _TOLD:
        told[_TOLD:] = [f"And {len(told) - _TOLD} files more."]
    return FilesPart(inventory, tuple(work.sources), work.added, work.added_bytes, tuple(told))


class _Capture:
    def __init__(
        self,
        sources: Sequence[Files],
        store: ObjectStore,
        earlier: Iterable[Entry],
        keys: Keys | None,
        progress: Progress | None,
        check_existing: bool,
    ) -> None:
        self.problems: list[str] = []
        self.sources: list[FileSource] = []
        self.added = self.added_bytes = 0
        self._files = sorted(sources, key=lambda source: source.name)
        self._store, self._keys, self._check_existing = store, keys, check_existing
        self._progress, self._earlier = progress, Earlier(earlier, self.problems)
        _check_apart(self._files, store)
        self._there = Listing(store)
        self._lock = threading.Lock()
        # Files of one content wait for each other, so that it is written once.
        self._writing = [threading.Lock() for _ in range(256)]
        self._large = threading.Lock()  # one large file at a time: its compression and upload use all cores themselves

    def inventory(self) -> Iterator[bytes]:
        """JSON lines, made while the sources are walked through."""
        encoder, lines = msgspec.json.Encoder(), bytearray()
        for files in self._files:
            count = total = 0
            for entry in ordered(self._jobs(files)):
                if entry is None:
                    continue
                count, total = count + 1, total + entry.size
                lines += encoder.encode(entry) + b"\n"
                if len(lines) >= _LINES:
                    yield bytes(lines)
                    lines.clear()
            self.sources.append(FileSource(files.name, files.url, count, total))
        yield bytes(lines)

    def _jobs(self, files: Files) -> Iterator[Callable[[], Entry | None] | Entry]:
        seen, missing = False, ""
        try:
            for found in files.scan(self.problems):
                seen = True
                known = self._earlier.at(files.name, found.path)
                if known and self._unchanged(known, found):
                    self._tell(known.size)
                    yield known
                else:
                    yield lambda found=found: self._take(files, found)
        except PlaceMissing as error:
            missing = str(error)
        if seen:
            return
        if self._earlier.had(files.name):
            raise BackupError(
                f"The files of {files.name} are gone: {missing or files.url + ' is empty'}, and the recovery point before "
                "has files of it. If that is meant, take it out of BACKUP_FILES (or KNOWLEDGE_SOURCES); if not, see whether "
                "it is mounted. No recovery point was made."
            )
        if missing:
            self.problems.append(f"{missing}; nothing of {files.name} is in the backup.")

    def _unchanged(self, known: Entry, found: Found) -> bool:
        """Whether an entry of the earlier point holds: the file looks the same, and its object lies here under this key."""
        return (
            not self._check_existing
            and known.settled
            and (known.size, known.mtime_ns) == (found.size, found.mtime_ns)
            and object_key(known.sha256, self._keys) == known.object
            and self._there.size(known.object) == known.stored_size
        )

    def _take(self, files: Files, found: Found) -> Entry | None:
        """Read a file and see that the store has its content. None: it is gone, or has become a problem."""
        path = found.path
        for attempt in range(_TRIES):
            try:
                if attempt:
                    time.sleep(_PAUSE * attempt)
                    again = files.look(path)
                    if again is None:
                        return None
                    found = again
                return self._take_once(files, found)
            except FileChanged:
                continue
            except FileProblem as error:
                self.problems.append(f"{str(error).rstrip('.')}; it is not in the backup.")
                return None
        self.problems.append(f"{files.name}/{path} changed each time it was read ({_TRIES}); it is not in the backup.")
        return None

    def _take_once(self, files: Files, found: Found) -> Entry:
        settled = abs(time.time_ns() - found.mtime_ns) > _UNSETTLED
        data = b"".join(files.read(found)) if found.size <= SMALL else None
        digest = hashlib.sha256(data or b"")
        if data is None:
            for chunk in files.read(found):
                digest.update(chunk)
        sha256 = digest.hexdigest()
        key = object_key(sha256, self._keys)
        entry = Entry(files.name, found.path, found.size, found.mtime_ns, sha256, key, 0, settled)
        with self._writing[int(key[len(FILES) :][:2], 16)]:
            stored_size = self._size(entry)
            if stored_size is not None:
                self._tell(found.size)
            elif data is not None:
                stored_size = self._write(key, [zstandard.ZstdCompressor(3, write_checksum=True).compress(data)])
                self._tell(found.size)
            else:
                with self._large:
                    stored_size = self._write(key, compressed(self._read_again(files, found, sha256)))
        return msgspec.structs.replace(entry, stored_size=stored_size)

    def _size(self, entry: Entry) -> int | None:
        """The size of the object that holds this content; None where there is none, or none that can be trusted."""
        size = self._there.size(entry.object)
        if size is None:
            item = self._store.stat(entry.object)  # another file of this run may have brought it
            return item and item.size
        if self._check_existing:
            try:
                for _ in content(self._store, entry, self._keys):
                    pass
            except PointDamaged:
                return None
            item = self._store.stat(entry.object)  # it may have been written again since the listing
            return item and item.size
        return size

    def _write(self, key: str, chunks: Iterable[bytes]) -> int:
        size = self._store.put(key, self._keys.encrypted(chunks) if self._keys else chunks)
        with self._lock:
            self.added += 1
            self.added_bytes += size
        return size

    def _read_again(self, files: Files, found: Found, sha256: str) -> Iterator[bytes]:
        """A large file for the second time. What differs from the first ends the write."""
        digest = hashlib.sha256()
        for chunk in files.read(found):
            digest.update(chunk)
            self._tell(len(chunk))
            yield chunk
        if digest.hexdigest() != sha256:
            raise FileChanged(f"{files.name}/{found.path} changed while it was read.")

    def _tell(self, count: int) -> None:
        if self._progress:
            with self._lock:
                self._progress(count)


def _check_apart(sources: Sequence[Files], store: ObjectStore) -> None:
    """A store inside a source would be backed up into itself, more each night. Raises BackupError."""
    names = [source.name for source in sources]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise BackupError(f"BACKUP_FILES has two places named {twice!r}; name them apart. No recovery point was made.")
    if not store.url.startswith("file://"):
        return
    place = os.path.realpath(store.url.removeprefix("file://"))
    for source in sources:
        if isinstance(source, FolderFiles):
            folder = os.path.realpath(source.folder)
            if os.path.commonpath([place, folder]) in (place, folder):
                raise BackupError(
                    f"The store {store.name} ({store.url}) and the files of {source.name} ({source.url}) lie inside each "
                    "other: set BACKUP_STORES or BACKUP_FILES to places apart. No recovery point was made."
                )
