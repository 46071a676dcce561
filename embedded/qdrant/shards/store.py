"""All collections of one data folder: the registry, the aliases, creation and deletion.

DATA/.lock                                  held by the one process that serves the folder
DATA/registry.json                          which collections and aliases there are; replaced as a whole
DATA/collections/<folder>/generation-000001 a collection's shard
DATA/snapshots/<collection>/<name>.snapshot what was asked to be kept, each with its .checksum
DATA/scratch                                copies that are being made; emptied at the start
"""

import contextlib
import logging
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from embedded.qdrant.engine import guarded
from embedded.qdrant.errors import StartError, bad_request, conflict, from_os, not_found
from embedded.qdrant.settings.config import CollectionConfig
from embedded.qdrant.settings.schema import CreateCollection, UpdateCollection
from embedded.qdrant.settings.validate import checked_path, collection_name
from embedded.qdrant.settings.validate import metadata as checked_metadata
from embedded.qdrant.shards.collection import Collection, CollectionRecord, create_shard, generation_folder
from embedded.qdrant.shards.files import lock_folder, remove_tree, replace_file, require_room, sync_folder, sync_tree

FORMAT = 1
SCRATCH = "scratch"
log = logging.getLogger(__name__)


class Registry(msgspec.Struct, frozen=True):
    """The content of registry.json."""

    format: int = FORMAT
    collections: dict[str, CollectionRecord] = {}
    aliases: dict[str, str] = {}
    deleted: list[str] = []
    """Folders of deleted collections that may still be there."""


class Store:
    """The open data folder. A change is in registry.json before it is in memory: in both or in neither."""

    def __init__(self, data: Path, reserve: int) -> None:
        """`reserve` is how many bytes stay free on the disk."""
        self.data = data
        self.reserve = reserve
        self._lock: BinaryIO | None = None
        self._registry = Registry()
        self._open: dict[str, Collection] = {}

    def open(self) -> None:
        """Take the folder, open what is in it. Raises StartError where nothing can be served."""
        try:
            (self.data / "collections").mkdir(parents=True, exist_ok=True)
            self._lock = lock_folder(self.data)
        except OSError as error:
            raise StartError(f"the data folder {self.data} cannot be used: {error}") from error
        self._registry = self._read_registry()
        remove_tree(self.data / SCRATCH)
        self._sweep()
        for name, record in self._registry.collections.items():
            collection = self._collection(name, record)
            collection.open()
            self._open[name] = collection

    def close(self) -> None:
        """Flush everything and let the folder go."""
        for collection in self._open.values():
            collection.close()
        self._open.clear()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    @property
    def collections(self) -> dict[str, Collection]:
        """All collections by name."""
        return self._open

    @property
    def aliases(self) -> dict[str, str]:
        """The collection's name for each alias."""
        return self._registry.aliases

    def get(self, name: str) -> Collection:
        """The collection of this name, or that the alias of this name stands for."""
        found = self._open.get(name) or self._open.get(self._registry.aliases.get(name, ""))
        if found is None:
            checked_path(name)
            raise not_found(f"Collection `{name}` doesn't exist!")
        return found

    def exists(self, name: str) -> bool:
        """Whether there is a collection or an alias of this name."""
        return name in self._open or name in self._registry.aliases

    def create(self, name: str, body: CreateCollection) -> None:
        """Create an empty collection, whole or not at all: built aside, renamed, then registered."""
        config = body.config()
        self._require_new(name)
        record = self._record(name, config, _kept_metadata(body.metadata))
        aside = self.data / "collections" / f"{record.folder}.new"
        require_room(self.data, self.reserve)
        with _whole_or_gone(aside):
            create_shard(aside, record.config)
            self._install(name, record, aside)

    def changed(self, collection: Collection, body: UpdateCollection) -> CollectionRecord:
        """A collection's record with the body's changes. Metadata is merged key by key; a key set to null goes."""
        metadata = collection.record.metadata
        if body.metadata is not None:
            metadata = _kept_metadata({**(metadata or {}), **checked_metadata(body.metadata)})
        config = body.applied_to(collection.config)
        # What the engine would refuse must not wait in the registry until the shard is loaded with it.
        guarded(config.for_engine)
        return msgspec.structs.replace(collection.record, config=config, metadata=metadata)

    def configure(self, collection: Collection, config: CollectionConfig) -> None:
        """Keep another configuration of a collection."""
        self.replace_record(collection, msgspec.structs.replace(collection.record, config=config))

    def replace_record(self, collection: Collection, record: CollectionRecord) -> None:
        """Put a changed record of a collection into the registry, then into force. Raises ApiError (404)."""
        if self._open.get(collection.name) is not collection:
            raise not_found(f"Collection `{collection.name}` doesn't exist!")
        self._register({**self._registry.collections, collection.name: record})
        collection.record = record

    def add(self, name: str, config: CollectionConfig, metadata: dict[str, Any] | None, shard: Path) -> None:
        """Create a collection from a shard that was made and tried beside, in the folder `shard`."""
        self._require_new(name)
        record = self._record(name, config, metadata)
        place = self.data / "collections" / record.folder
        aside = place.with_name(f"{record.folder}.new")
        with _whole_or_gone(aside):
            sync_tree(shard)
            aside.mkdir()
            shard.rename(generation_folder(aside, record.generation))
            self._install(name, record, aside)

    def delete(self, name: str) -> bool:
        """Delete a collection with its aliases; False if there is none of that name."""
        if name not in self._open:
            return False
        left = {key: value for key, value in self._registry.collections.items() if key != name}
        aliases = {alias: target for alias, target in self._registry.aliases.items() if target != name}
        folder = self._registry.collections[name].folder
        still_there = [path.name for path in (self.data / "collections").iterdir()]
        deleted = [old for old in self._registry.deleted if old in still_there]
        self._register(left, aliases, deleted=[*deleted, folder])
        self._open.pop(name).close()
        self._sweep()
        return True

    def change_aliases(self, actions: list[dict[str, Any]]) -> None:
        """Apply all alias actions in order, as one step: readers see none of them or all."""
        aliases = dict(self._registry.aliases)
        for action in actions:
            self._change_alias(aliases, action)
        self._register(self._registry.collections, aliases)

    def _require_new(self, name: str) -> None:
        if collection_name(name) in self._open:
            raise conflict(f"Collection `{name}` already exists!")
        if name in self._registry.aliases:
            raise bad_request(f"Can't create collection with name {name}. Alias with the same name already exists")

    def _record(self, name: str, config: CollectionConfig, metadata: dict[str, Any] | None) -> CollectionRecord:
        # The name may hold anything, so the folder only resembles it.
        folder = f"{re.sub(r'[^A-Za-z0-9_-]', '_', name)[:40]}-{secrets.token_hex(4)}"
        return CollectionRecord(folder, config, metadata=metadata)

    def _install(self, name: str, record: CollectionRecord, aside: Path) -> None:
        """Put a finished folder in its place, register it and open it; leave nothing if that fails."""
        place = self.data / "collections" / record.folder
        try:
            aside.rename(place)
            sync_folder(place.parent)
            self._register({**self._registry.collections, name: record})
        except BaseException:
            remove_tree(place)
            raise
        self._open[name] = self._collection(name, record)
        self._open[name].open()

    def _change_alias(self, aliases: dict[str, str], action: dict[str, Any]) -> None:
        if len(action) != 1:
            raise bad_request("an alias action is one of create_alias, delete_alias, rename_alias")
        kind, content = next(iter(action.items()))
        if kind == "create_alias":
            alias, target = _names(content, "alias_name", "collection_name")
            self._require_free(alias)
            if target not in self._open:
                raise not_found(f"Collection `{target}` doesn't exist!")
            aliases[alias] = target
        elif kind == "delete_alias":
            (alias,) = _names(content, "alias_name")
            if aliases.pop(alias, None) is None:
                raise not_found(f"Alias {alias} does not exists!")
        elif kind == "rename_alias":
            old, new = _names(content, "old_alias_name", "new_alias_name")
            self._require_free(new)
            if old not in aliases:
                raise not_found(f"Alias {old} does not exists!")
            aliases[new] = aliases.pop(old)
        else:
            raise bad_request(f"there is no alias action `{kind}`")

    def _require_free(self, alias: str) -> None:
        if collection_name(alias) in self._open:
            raise conflict(f"Collection `{alias}` already exists!")

    def _collection(self, name: str, record: CollectionRecord) -> Collection:
        return Collection(name, self.data / "collections" / record.folder, record, self.reserve)

    def _register(
        self,
        collections: dict[str, CollectionRecord],
        aliases: dict[str, str] | None = None,
        deleted: list[str] | None = None,
    ) -> None:
        registry = Registry(
            collections=collections,
            aliases=self._registry.aliases if aliases is None else aliases,
            deleted=self._registry.deleted if deleted is None else deleted,
        )
        try:
            replace_file(self._registry_path, msgspec.json.format(msgspec.json.encode(registry)))
        except OSError as error:
            raise from_os(error) from error
        self._registry = registry

    def _read_registry(self) -> Registry:
        if not self._registry_path.exists():
            left = sorted(path.name for path in (self.data / "collections").iterdir() if path.suffix != ".new")
            if left:
                raise StartError(
                    f"{self._registry_path} is missing but there are collections beside it ({left[0]}, ...); "
                    "put it back from a backup, or give an empty --data folder; nothing was touched"
                )
            return Registry()
        try:
            registry = msgspec.json.decode(self._registry_path.read_bytes(), type=Registry)
        except (OSError, msgspec.MsgspecError) as error:
            raise StartError(f"{self._registry_path} cannot be read: {error}; nothing was touched") from error
        if registry.format != FORMAT:
            raise StartError(f"{self._registry_path} has format {registry.format}, this server reads {FORMAT}")
        return registry

    def _sweep(self) -> None:
        """Remove what interrupted creations and deletions left behind; leave alone what is unknown."""
        known = {record.folder for record in self._registry.collections.values()}
        for path in (self.data / "collections").iterdir():
            if path.name in self._registry.deleted or path.suffix == ".new":
                remove_tree(path)
            elif path.name not in known:
                log.warning("%s is in no registry; it was left as it is", path)
        for record in self._registry.collections.values():
            folder = self.data / "collections" / record.folder
            for path in folder.glob("generation-*"):
                if path != generation_folder(folder, record.generation):
                    remove_tree(path)

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """A path in the data folder for files or folders of the moment. What is left there goes at the next start."""
        folder = self.data / SCRATCH
        folder.mkdir(exist_ok=True)
        path = folder / secrets.token_hex(8)
        try:
            yield path
        finally:
            if path.is_dir():
                remove_tree(path)
            else:
                path.unlink(missing_ok=True)

    @property
    def _registry_path(self) -> Path:
        return self.data / "registry.json"


@contextlib.contextmanager
def _whole_or_gone(aside: Path) -> Iterator[None]:
    """A block that builds a collection's folder: nothing of it stays if it fails. Raises ApiError (507, 500) for the disk."""
    try:
        yield
    except BaseException as error:
        remove_tree(aside)
        if isinstance(error, OSError):
            raise from_os(error) from error
        raise


def _kept_metadata(metadata: dict[str, Any] | None) -> dict[str, Any] | None:
    """Metadata without its null keys; None if nothing is left."""
    if metadata is None:
        return None
    return {key: value for key, value in checked_metadata(metadata).items() if value is not None} or None


def _names(content: Any, *wanted: str) -> list[str]:
    if not isinstance(content, dict) or set(content) != set(wanted):
        raise bad_request(f"this alias action takes {' and '.join(wanted)}")
    if not all(isinstance(content[name], str) for name in wanted):
        raise bad_request(f"{' and '.join(wanted)} are strings")
    return [content[name] for name in wanted]
