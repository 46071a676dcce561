"""Folders of files for tests of backups: written, captured into a store, and looked at."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from objects.store import ObjectStore
from orchestration.backups.files import capture as files_capture
from orchestration.backups.files.folder import FolderFiles
from orchestration.backups.files.inventory import Entry
from orchestration.backups.files.place import Files, Found
from orchestration.backups.recovery_point import FilesPart
from orchestration.backups.streams.encryption import Keys, generate
from zhiyun.settings import BackupSettings

OLD = 1_700_000_000 * 10**9 + 123_456_789  # a time with nanoseconds


def write(path: Path, content: str | bytes, mtime_ns: int = OLD) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    os.utime(path, ns=(mtime_ns, mtime_ns))
    return path


def tree(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Path -> (content, time) of all files below a folder."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def new_keys() -> Keys:
    keys = Keys.load(BackupSettings(key=generate()))
    assert keys
    return keys


def capture(
    docs: Path | list[Files], store: ObjectStore, earlier: Iterable[Entry] = (), keys: Keys | None = None, **more: bool
) -> FilesPart:
    """A point of the file store, made now."""
    sources = docs if isinstance(docs, list) else [FolderFiles("docs", docs)]
    return files_capture.capture(sources, store, f"points/2026-11-24/{os.urandom(4).hex()}/", earlier, keys, **more)


def objects(store: ObjectStore) -> dict[str, int]:
    return {item.key: item.size for item in store.list("files/")}


class Counting(FolderFiles):
    """A folder that knows what was read of it."""

    def __init__(self, folder: Path) -> None:
        super().__init__("docs", folder)
        self.reads: list[str] = []

    def read(self, found: Found) -> Iterator[bytes]:
        self.reads.append(found.path)
        return super().read(found)
