"""What takes the room: databases, tables, collections, buckets and folders by size."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from knowledge.database import Connection
from objects.places import open_store, parse_places
from objects.store import ObjectStore, ObjectStoreError
from orchestration.capacity.disk import Volume
from zhiyun.settings import BackupSettings, QdrantSettings, S3Settings

_TABLES = 40  # of each database, the largest
_SECONDS = 30.0  # for looking through one folder; what is not reached by then is left out, and said


@dataclass(frozen=True)
class Size:
    """A thing and its bytes. `note` says where the figure is an estimate or incomplete."""

    what: str  # database, table, collection, bucket, folder
    name: str
    bytes: int
    note: str = ""

    @property
    def full_name(self) -> str:
        return f"{self.what} {self.name}"


def of_databases(connection: Connection) -> list[Size]:
    """Every database that the role may connect to, and the WAL and all, by PostgreSQL's own count."""
    rows = connection.execute(
        "SELECT datname, pg_database_size(oid) FROM pg_database "
        "WHERE has_database_privilege(oid, 'CONNECT') AND datallowconn ORDER BY 2 DESC"
    ).fetchall()
    return [Size("database", str(name), int(size)) for name, size in rows]


def of_tables(connection: Connection) -> list[Size]:
    """The largest tables of this database, with their indexes and what is stored out of line."""
    rows = connection.execute(
        """
        SELECT format('%%I.%%I', nspname, relname), pg_total_relation_size(pg_class.oid)
        FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
        WHERE relkind IN ('r', 'm', 'p') AND nspname NOT IN ('pg_catalog', 'information_schema')
          AND nspname NOT LIKE 'pg_temp%%' AND nspname NOT LIKE 'pg_toast%%'
        ORDER BY 2 DESC, 1 LIMIT %s
        """,
        (_TABLES,),
    ).fetchall()
    # A table that is dropped meanwhile has no size.
    return [Size("table", str(name), int(size)) for name, size in rows if size is not None]


def of_collections(settings: QdrantSettings, watched: Sequence[Volume]) -> tuple[list[Size], list[str]]:
    """Every collection: its folder where the store's disk can be seen, else what its vectors take as 32-bit numbers."""
    headers = {"api-key": settings.api_key} if settings.api_key else {}
    try:
        answer = httpx.get(
            f"{settings.url.rstrip('/')}/telemetry",
            params={"details_level": 4, "anonymize": "false"},
            headers=headers,
            timeout=settings.timeout,
        )
        answer.raise_for_status()
        collections: list[dict[str, Any]] = answer.json()["result"]["collections"].get("collections") or []
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        return [], [f"QDRANT_URL: the sizes of collections are not known: {str(error) or type(error).__name__}"]
    folders = {name: folder for volume in watched for name, folder in _collection_folders(volume.path).items()}
    found: list[Size] = []
    for collection in collections:
        name = str(collection["id"])
        folder = folders.get(name)
        if folder is not None and os.access(folder, os.R_OK | os.X_OK):
            found.append(of_folder(folder, "collection", name))
        else:
            found.append(Size("collection", name, _estimate(collection), "estimate: vectors and payloads only"))
    return sorted(found, key=lambda one: -one.bytes), []


def of_folder(folder: Path, what: str = "folder", name: str = "") -> Size:
    """The bytes on disk below a folder, without other filesystems; what may not be read is left out, and said."""
    total, unread = 0, 0
    deadline = time.monotonic() + _SECONDS
    seen: set[int] = set()
    waiting = [str(folder)]
    try:
        device = folder.stat().st_dev
    except OSError as error:
        return Size(what, name or str(folder), 0, f"cannot be read: {error.strerror}")
    while waiting and time.monotonic() < deadline:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    found = entry.stat(follow_symlinks=False)
                    if found.st_dev != device:
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    elif found.st_nlink == 1 or found.st_ino not in seen:
                        seen.add(found.st_ino)
                        total += found.st_blocks * 512
        except OSError:
            unread += 1  # gone meanwhile, or not ours to read
    note = f"incomplete: stopped after {_SECONDS:g} s" if waiting else ""
    return Size(what, name or str(folder), total, note or (f"without {unread} unreadable folders" if unread else ""))


def of_folders(watched: Iterable[Volume]) -> list[Size]:
    """Each watched folder, and what lies directly in it; a single large file too."""
    found: list[Size] = []
    for volume in watched:
        found.append(of_folder(volume.path, "folder", volume.name))
        try:
            entries = sorted(os.scandir(volume.path), key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in entries:
            name = f"{volume.name}/{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                found.append(of_folder(Path(entry.path), "folder", name))
            elif entry.is_file(follow_symlinks=False):
                found.append(Size("file", name, entry.stat(follow_symlinks=False).st_blocks * 512))
    return found


def of_buckets(backup: BackupSettings, s3: S3Settings) -> list[Size]:
    """The buckets of BACKUP_FILES and BACKUP_STORES; folders among them are measured as folders. Raises SettingsError."""
    found: list[Size] = []
    for text, setting in ((backup.files, "BACKUP_FILES"), (backup.stores, "BACKUP_STORES")):
        places = parse_places(text, setting, "") if text.strip() else []
        found += [of_store(open_store(place, s3, setting)) for place in places if place.folder is None]
    return found


def of_store(store: ObjectStore) -> Size:
    """All objects of a bucket or folder of an object store, by their own sizes."""
    try:
        return Size("bucket", store.url, sum(one.size for one in store.list()))
    except ObjectStoreError as error:
        return Size("bucket", store.url, 0, str(error))


def _collection_folders(data: Path) -> dict[str, Path]:
    """Where each collection lies in a store's data folder: Qdrant's have its name, the embedded store's are registered."""
    try:
        records: dict[str, Any] = json.loads((data / "registry.json").read_text())["collections"]
        return {name: data / "collections" / record["folder"] for name, record in records.items()}
    except (OSError, ValueError, KeyError, TypeError):
        pass
    found: dict[str, Path] = {}
    for place in (data / "collections", data / "storage" / "collections"):
        try:
            found |= {entry.name: Path(entry.path) for entry in os.scandir(place) if entry.is_dir()}
        except OSError:
            continue
    return found


def _estimate(collection: dict[str, Any]) -> int:
    shards = [shard.get("local") or {} for shard in collection.get("shards") or []]
    return sum(int(s.get("vectors_size_bytes") or 0) + int(s.get("payloads_size_bytes") or 0) for s in shards)
