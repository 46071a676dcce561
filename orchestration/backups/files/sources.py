"""The file store of this installation: folders, and prefixes of S3-compatible stores, as the settings name them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

from knowledge.documents.sources import as_on_disk, parse_sources, storable
from objects.places import open_store, parse_places
from objects.store import ObjectMissing, ObjectStore
from orchestration.backups.files.folder import FolderFiles
from orchestration.backups.files.place import FileChanged, Files, Found, checked_path
from orchestration.backups.recovery_point import PointDamaged
from zhiyun.settings import BackupSettings, KnowledgeSettings, S3Settings


class StoredFiles:
    """A prefix of an S3-compatible store, or any other ObjectStore."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store

    @property
    def name(self) -> str:
        return self.store.name

    @property
    def url(self) -> str:
        return self.store.url

    def scan(self, problems: list[str]) -> Iterator[Found]:
        """See Files. Keys that no folder could hold become sentences. Raises ObjectStoreError."""
        for item in self.store.list():
            if item.key.endswith("/") and not item.size:
                continue  # what browsers of buckets leave for a folder
            try:
                path = checked_path(storable(item.key))
            except PointDamaged:
                problems.append(f"{self.name}/{storable(item.key)} is not in the backup: no file can have this name.")
                continue
            yield Found(path, item.size, _ns(item.modified.timestamp()))

    def look(self, path: str) -> Found | None:
        """See Files."""
        item = self.store.stat(self._key(path))
        return item and Found(path, item.size, _ns(item.modified.timestamp()))

    def read(self, found: Found) -> Iterator[bytes]:
        """See Files."""
        count = 0
        try:
            for chunk in self.store.read(self._key(found.path)):
                count += len(chunk)
                yield chunk
        except ObjectMissing:
            raise FileChanged(f"{self.name}/{found.path} was removed while it was read.") from None
        if count != found.size:
            raise FileChanged(f"{self.name}/{found.path} changed while it was read.")

    def write(self, path: str, chunks: Iterable[bytes], mtime_ns: int) -> None:
        """See Files. An object's time is when it was written; it cannot be set."""
        self.store.put(self._key(path), chunks)

    def _key(self, path: str) -> str:
        key = as_on_disk(checked_path(path))
        try:
            key.encode()
        except UnicodeEncodeError:
            return path  # bytes that are no text come from a folder; a bucket gets them escaped
        return key


Target: TypeAlias = Files | ObjectStore | Path


def as_files(name: str, target: Target) -> Files:
    """A folder or store as a place of files."""
    if isinstance(target, Path):
        return FolderFiles(name, target)
    return target if isinstance(target, FolderFiles | StoredFiles) else StoredFiles(target)  # type: ignore[arg-type]


def file_sources(backup: BackupSettings, knowledge: KnowledgeSettings, s3: S3Settings) -> list[Files]:
    """The places that BACKUP_FILES names, or the folders of KNOWLEDGE_SOURCES. Raises SettingsError."""
    if not backup.files.strip():
        return [FolderFiles(source.name, source.folder) for source in parse_sources(knowledge.sources)]
    return [
        FolderFiles(place.name, place.folder) if place.folder else StoredFiles(open_store(place, s3, "BACKUP_FILES"))
        for place in parse_places(backup.files, "BACKUP_FILES", "", first="")
    ]


def _ns(seconds: float) -> int:
    return round(seconds * 1_000_000) * 1000
