"""What `/snapshots` and `/collections/{name}/snapshots` do: take, list, send, delete, take back."""

import asyncio
import hashlib
import logging
import tarfile
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from urllib.parse import quote

import msgspec
import multipart

from embedded.qdrant.api.http import Accepted, Download, Request
from embedded.qdrant.errors import ApiError, bad_request, from_os
from embedded.qdrant.settings.validate import collection_name
from embedded.qdrant.shards import archives, worker
from embedded.qdrant.shards.collection import Collection, CollectionRecord
from embedded.qdrant.shards.files import require_room
from embedded.qdrant.shards.optimizer import Optimizer
from embedded.qdrant.shards.snapshots import SUFFIX, SnapshotFolder, fetch, local_path, recorded_checksum, sha256_of
from embedded.qdrant.shards.store import Store

Object = dict[str, Any]
log = logging.getLogger(__name__)

Priority = Literal["no_sync", "snapshot", "replica"]
"""Which side wins among replicas. There are none here, so each of them means the same."""


class Recover(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `PUT /collections/{name}/snapshots/recover`."""

    location: str
    priority: Priority | None = None
    checksum: str | None = None
    api_key: str | None = None
    wait: Any = None
    """Some clients send the query's parameter here; it says nothing."""


class Full(msgspec.Struct, frozen=True):
    """What a full snapshot's `config.json` says, as in Qdrant's."""

    collections_mapping: dict[str, str]
    collections_aliases: dict[str, str]


_recover = msgspec.json.Decoder(Recover)


class Snapshots:
    """The handlers, over one store."""

    def __init__(self, store: Store, optimizer: Optimizer) -> None:
        self._store = store
        self._optimizer = optimizer
        self._folder = store.data / "snapshots"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._tasks: set[asyncio.Task[Any]] = set()

    async def of_collection(self, request: Request) -> list[Object]:
        """GET /collections/{name}/snapshots."""
        return _listed(self._of(self._store.get(request.path["name"])))

    async def create(self, request: Request) -> Any:
        """POST /collections/{name}/snapshots."""
        collection = self._store.get(request.path["name"])
        return await self._or_accepted(request, lambda: self._create(collection))

    async def download(self, request: Request) -> Download:
        """GET /collections/{name}/snapshots/{snapshot}."""
        return Download(self._of(self._store.get(request.path["name"])).find(request.path["snapshot"]))

    async def delete(self, request: Request) -> Any:
        """DELETE /collections/{name}/snapshots/{snapshot}."""
        folder = self._of(self._store.get(request.path["name"]))
        return await self._or_accepted(request, lambda: _delete(folder, request.path["snapshot"]))

    async def all(self, _request: Request) -> list[Object]:
        """GET /snapshots."""
        return _listed(SnapshotFolder(self._folder))

    async def create_full(self, request: Request) -> Any:
        """POST /snapshots: every collection's snapshot and the aliases in one tar."""
        return await self._or_accepted(request, self._create_full)

    async def download_full(self, request: Request) -> Download:
        """GET /snapshots/{snapshot}."""
        return Download(SnapshotFolder(self._folder).find(request.path["snapshot"]))

    async def delete_full(self, request: Request) -> Any:
        """DELETE /snapshots/{snapshot}."""
        folder = SnapshotFolder(self._folder)
        return await self._or_accepted(request, lambda: _delete(folder, request.path["snapshot"]))

    async def recover(self, request: Request) -> Any:
        """PUT /collections/{name}/snapshots/recover: from a file in the snapshots folder, or from a URL."""
        name, body = collection_name(request.path["name"]), request.json(_recover)
        checksum = _checked(body.checksum)
        if body.location.startswith(("file:", "/")):
            path = self._local(name, body.location)
            return await self._or_accepted(request, lambda: self._recover(name, path, checksum))

        async def fetched() -> bool:
            with self._store.scratch() as archive:
                await asyncio.to_thread(fetch, body.location, body.api_key, archive, self._store.reserve)
                return await self._recover(name, archive, checksum)

        return await self._or_accepted(request, fetched)

    async def upload(self, request: Request) -> Any:
        """POST /collections/{name}/snapshots/upload: a form with the file in `snapshot`. It is kept if it is good."""
        name, checksum = collection_name(request.path["name"]), _checked(request.query.get("checksum"))
        if (priority := request.query.get("priority")) not in (None, "no_sync", "snapshot", "replica"):
            raise bad_request(f"`priority` is no_sync, snapshot or replica, not {priority!r}")
        with self._store.scratch() as archive:
            given = await _received(request, archive, self._store.reserve)
            await self._recover(name, archive, checksum)
            folder = self._of(self._store.get(name))
            kept = given if given.endswith(SUFFIX) and given not in folder.names() else folder.new_name(name)
            await asyncio.to_thread(lambda: folder.keep(archive, kept, sha256_of(archive)))
        return True

    def _local(self, name: str, location: str) -> Path:
        """The file of a `file://` URL, or of a path as the operators' manual has it: `/snapshots/NAME`.

        A Qdrant server wants a URL; here the bare path means the snapshots folder, or the collection's part of it.
        """
        if location.startswith("/snapshots/"):
            rest = location.removeprefix("/snapshots/")
            if self._store.exists(name) and rest in (folder := self._of(self._store.get(name))).names():
                return folder.find(rest)
            location = f"{self._folder.resolve()}/{rest}"
        return local_path(location if location.startswith("file:") else f"file://{quote(location)}", self._folder)

    def _of(self, collection: Collection) -> SnapshotFolder:
        name = collection.name
        # A file's name has 255 bytes at most, a collection's 255 characters; and `..` would be another folder.
        if len(name.encode()) > 200 or not name.strip("."):
            name = f"{name[:40]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
        return SnapshotFolder(self._folder / name)

    async def _create(self, collection: Collection) -> Object:
        folder = self._of(collection)
        with self._store.scratch() as made:
            checksum = await self._pack(collection, made)
            # Named when it is finished, so that of two the later has the later name.
            name = folder.new_name(collection.name[:60])
            folder.keep(made, name, checksum)
        return folder.describe(name)

    async def _pack(self, collection: Collection, target: Path) -> str:
        with self._store.scratch() as copy:
            await collection.copy(copy)
            record = collection.record
            description = archives.Description(
                archives.FORMAT, version("qdrant-edge-py"), collection.name, record.config, record.metadata
            )
            try:
                return await asyncio.to_thread(archives.pack, description, copy, target)
            except OSError as error:
                raise from_os(error) from error

    async def _create_full(self) -> Object:
        folder, parts = SnapshotFolder(self._folder), dict[str, str]()
        with self._store.scratch() as made, self._store.scratch() as aside:
            aside.mkdir()
            for number, collection in enumerate(list(self._store.collections.values())):
                parts[collection.name] = f"{number}{SUFFIX}"
                await self._pack(collection, aside / parts[collection.name])
            full = Full(parts, {alias: name for alias, name in self._store.aliases.items() if name in parts})
            (aside / "config.json").write_bytes(msgspec.json.encode(full))
            await asyncio.to_thread(_tar, aside, made)
            name = folder.new_name("full-snapshot")
            await asyncio.to_thread(lambda: folder.keep(made, name, sha256_of(made)))
        return folder.describe(name)

    async def _recover(self, name: str, archive: Path, checksum: str | None) -> bool:
        """Check, unpack and try the snapshot beside everything else; only then let it take the collection's place."""
        expected = checksum or recorded_checksum(archive)
        if expected and (found := await asyncio.to_thread(sha256_of, archive)) != expected.lower():
            raise bad_request(f"Snapshot checksum mismatch: expected {expected}, got {found}; nothing was changed")
        with self._store.scratch() as shard:
            try:
                described = await asyncio.to_thread(archives.unpack, archive, shard, self._store.reserve)
            except OSError as error:
                raise from_os(error) from error
            self._require_same_vectors(name, described)
            tried = await worker.run("check", shard, described.config)
            if tried.error is not None:
                raise bad_request(f"the snapshot's shard cannot be loaded: {tried.error}; nothing was changed")
            if self._store.exists(name):
                await self._replace(self._store.get(name), described, shard)
            else:
                self._store.add(name, described.config, described.metadata, shard)
        log.info("collection %s: recovered %d points from a snapshot", name, tried.points)
        return True

    def _require_same_vectors(self, name: str, described: archives.Description) -> None:
        if not self._store.exists(name):
            return
        here, there = self._store.get(name).config, described.config
        if _shape(here) != _shape(there):
            raise bad_request(
                f"Snapshot is not compatible with existing collection `{name}`: it has the vectors {_shape(there)}, "
                f"the collection has {_shape(here)}; nothing was changed"
            )

    async def _replace(self, collection: Collection, described: archives.Description, shard: Path) -> None:
        await self._optimizer.cancel(collection)

        def commit(record: CollectionRecord) -> None:
            # The vectors may differ in how they are kept, and that is the shard's; the rest is the collection's.
            kept = described.config
            config = msgspec.structs.replace(record.config, vectors=kept.vectors, sparse=kept.sparse)
            self._store.replace_record(collection, msgspec.structs.replace(record, config=config))

        async with collection.upkeep:
            # Checked again: one that had to wait may have come after a new vector.
            self._require_same_vectors(collection.name, described)
            await collection.adopt(shard, commit)
        self._optimizer.forget(collection)

    async def _or_accepted(self, request: Request, work: Callable[[], Awaitable[Any]]) -> Any:
        """The work's result, or with `wait=false` 202 while the work goes on."""
        if request.query.get("wait") is None or request.flag("wait"):
            return await work()

        async def in_background() -> None:
            try:
                await work()
            except ApiError as error:
                log.error("%s: %s", request.path, error.message)

        task = asyncio.create_task(in_background())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return Accepted()


def _shape(config: Any) -> Object:
    """What has to be the same for a snapshot to fit a collection."""
    dense = {name: (params.size, params.distance, params.multivector_config) for name, params in config.vectors.items()}
    return {**dense, **dict.fromkeys(config.sparse, "sparse")}


def _listed(folder: SnapshotFolder) -> list[Object]:
    return [folder.describe(name) for name in folder.names()]


async def _delete(folder: SnapshotFolder, name: str) -> bool:
    folder.delete(name)
    return True


def _checked(checksum: str | None) -> str | None:
    if checksum and not (len(checksum) == 64 and all(digit in "0123456789abcdefABCDEF" for digit in checksum)):
        raise ApiError(422, "Validation error: [checksum: invalid_sha256_hash, 64 hexadecimal digits are wanted]")
    return checksum


def _tar(folder: Path, target: Path) -> None:
    # Not compressed: its parts are.
    with tarfile.open(target, "w") as full:
        for path in sorted(folder.iterdir()):
            full.add(path, path.name)


async def _received(request: Request, target: Path, reserve: int) -> str:
    """Write the form's file to `target`; gives the name that the client gave it."""
    kind, options = multipart.parse_options_header(request.content_type)
    if kind != "multipart/form-data" or not options.get("boundary") or request.stream is None:
        raise bad_request("a snapshot is uploaded as multipart/form-data with the file in the field `snapshot`")
    name: str | None = None
    writing = False
    try:
        with (
            multipart.PushMultipartParser(options["boundary"]) as parser,
            target.open("wb") as file,
        ):
            async for piece in request.stream:
                for part in parser.parse(piece):
                    if isinstance(part, multipart.MultipartSegment):
                        writing = part.name == "snapshot"
                        if writing:
                            name = PurePosixPath(part.filename or "").name
                    elif part and writing:
                        require_room(target.parent, reserve)
                        file.write(part)
    except multipart.MultipartError as error:
        raise bad_request(f"the upload is no whole multipart form: {error}") from error
    if name is None:
        raise bad_request("the uploaded form has no field `snapshot`")
    return name
