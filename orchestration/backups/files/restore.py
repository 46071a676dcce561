"""Reading the files of a recovery point: to verify them, to copy them to another store, to bring them back."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from objects.store import ObjectMissing, ObjectStore
from orchestration.backups.files.inventory import Entry, Listing, content, counted, distinct, entries
from orchestration.backups.files.place import FileProblem, Files
from orchestration.backups.files.sources import Target, as_files
from orchestration.backups.recovery_point import BackupError, FilesPart, PointDamaged
from orchestration.backups.streams.blobs import Progress
from orchestration.backups.streams.encryption import Keys
from orchestration.backups.streams.parallel import ordered

_Outcome = Literal["written", "unchanged", "kept_newer", "problem"]


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did, in files; `bytes` were written. `problems` are sentences, one for each file that is not back."""

    written: int
    unchanged: int
    kept_newer: int
    bytes: int
    problems: tuple[str, ...] = ()


def verify(store: ObjectStore, part: FilesPart, keys: Keys | None = None, progress: Progress | None = None) -> int:
    """Read every object of a point and compare its content; gives their number. Raises PointDamaged when all are read."""
    lock, count = threading.Lock(), 0
    damaged: list[str] = []

    def check(entry: Entry) -> str:
        try:
            for chunk in content(store, entry, keys):
                if progress:
                    with lock:
                        progress(len(chunk))
        except PointDamaged as error:
            return str(error)
        return ""

    for problem in ordered((lambda entry=entry: check(entry)) for entry in distinct(entries(store, part, keys))):
        count += 1
        if problem:
            damaged.append(problem)
    if damaged:
        more = f" So are {len(damaged) - 1} more files." if len(damaged) > 1 else ""
        raise PointDamaged(damaged[0] + more)
    return count


def copy(
    source: ObjectStore,
    target: ObjectStore,
    part: FilesPart,
    keys: Keys | None = None,
    progress: Progress | None = None,
) -> int:
    """Bring the objects of a point to another store that does not have them; gives their number. Not the inventory."""
    there, lock = Listing(target), threading.Lock()

    def bring(entry: Entry) -> int:
        if there.size(entry.object) == entry.stored_size:
            return 0
        counts = [0]

        def checked() -> Iterator[bytes]:
            yield from counted(source.read(entry.object), counts)
            if counts[0] != entry.stored_size:
                raise PointDamaged(f"{entry.object} in {source.url} has {counts[0]} bytes, not {entry.stored_size}.")

        try:
            target.put(entry.object, checked())
        except ObjectMissing:
            raise PointDamaged(f"{entry.object} in {source.url} is missing.") from None
        if progress:
            with lock:
                progress(entry.stored_size)
        return 1

    return sum(ordered((lambda entry=entry: bring(entry)) for entry in distinct(entries(source, part, keys))))


def restore(
    store: ObjectStore,
    part: FilesPart,
    targets: Mapping[str, Target],
    overwrite: bool = False,
    progress: Progress | None = None,
    *,
    keys: Keys | None = None,
) -> Restored:
    """Write the files of a point to `targets`, which has a folder or store for each source's name.

    A file that is newer than its backup stays, unless `overwrite`; files that the point does not have stay in any case.
    Each is written whole or not at all, with its time. A file that cannot be brought back is a problem, and the others
    are brought back all the same. Raises BackupError before anything is written when a source has no target, and when
    a target is full; ObjectStoreError when a store cannot be reached.
    """
    places: dict[str, Files] = {}
    for source in part.sources:
        if source.files and source.name not in targets:
            raise BackupError(
                f"There is no place for the files of {source.name!r}: BACKUP_FILES (or KNOWLEDGE_SOURCES) does not name it. "
                "Nothing was written."
            )
        if source.name in targets:
            places[source.name] = as_files(source.name, targets[source.name])
    lock, done, count = threading.Lock(), Counter[_Outcome](), 0
    problems: list[str] = []

    def tell(size: int) -> None:
        if progress:
            with lock:
                progress(size)

    def bring(entry: Entry) -> tuple[_Outcome, int, str]:
        try:
            files = places[entry.source]
            there = files.look(entry.path)
            if there and there.size == entry.size and _hash(files.read(there)) == entry.sha256:
                tell(entry.size)
                return "unchanged", 0, ""
            if there and there.mtime_ns > entry.mtime_ns and not overwrite:
                tell(entry.size)
                return "kept_newer", 0, ""
            files.write(entry.path, _told(content(store, entry, keys), tell), entry.mtime_ns)
        except (FileProblem, PointDamaged) as error:
            return "problem", 0, str(error)
        return "written", entry.size, ""

    for outcome, size, problem in ordered((lambda entry=entry: bring(entry)) for entry in entries(store, part, keys)):
        done[outcome] += 1
        count += size
        if problem:
            problems.append(problem)
    return Restored(done["written"], done["unchanged"], done["kept_newer"], count, tuple(problems))


def _hash(chunks: Iterator[bytes]) -> str:
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def _told(chunks: Iterator[bytes], tell: Progress) -> Iterator[bytes]:
    for chunk in chunks:
        tell(len(chunk))
        yield chunk
