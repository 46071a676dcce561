"""What `/collections` and `/aliases` do: create, describe, change, delete, index."""

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import qdrant_edge as edge

from embedded.qdrant.api.http import Request
from embedded.qdrant.engine import guarded
from embedded.qdrant.errors import bad_request
from embedded.qdrant.settings import indexes
from embedded.qdrant.settings.config import creation
from embedded.qdrant.settings.schema import (
    CreateCollection,
    CreateVector,
    UpdateCollection,
    with_vector,
    without_vector,
)
from embedded.qdrant.shards.collection import Collection, CollectionRecord
from embedded.qdrant.shards.modifiers import modifiers, set_modifiers
from embedded.qdrant.shards.optimizer import Optimizer
from embedded.qdrant.shards.store import Store

Object = dict[str, Any]
_NOTHING_TO_DO: Object = {"operation_id": None, "status": "completed"}


class Aliases(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Changes of aliases, all of them or none."""

    actions: list[dict[str, Any]]


class CreateIndex(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An index of a payload field."""

    field_name: str
    field_schema: Any = None
    field_type: Any = None


_create = msgspec.json.Decoder(CreateCollection)
_update = msgspec.json.Decoder(UpdateCollection)
_aliases = msgspec.json.Decoder(Aliases)
_index = msgspec.json.Decoder(CreateIndex)
_vector = msgspec.json.Decoder(CreateVector)


class Collections:
    """The handlers, over one store."""

    def __init__(self, store: Store, optimizer: Optimizer) -> None:
        self._store = store
        self._optimizer = optimizer

    def names(self, _request: Request) -> Object:
        """GET /collections."""
        return {"collections": [{"name": name} for name in self._store.collections]}

    def exists(self, request: Request) -> Object:
        """GET /collections/{name}/exists."""
        return {"exists": self._store.exists(request.path["name"])}

    def get(self, request: Request) -> Object:
        """GET /collections/{name}."""
        collection = self._store.get(request.path["name"])
        info, warnings = collection.info(), collection.config.warnings()
        status, optimizer_status = self._optimizer.status(collection)
        shown: Object = {
            "status": status,
            "optimizer_status": optimizer_status,
            "indexed_vectors_count": info.indexed_vectors_count,
            "points_count": info.points_count,
            "segments_count": info.segments_count,
            "config": collection.config.printed(collection.record.metadata),
            "payload_schema": indexes.printed(info.payload_schema, collection.config.indexes),
            "update_queue": {"length": 0},
        }
        return {**shown, "warnings": warnings} if warnings else shown

    def create(self, request: Request) -> bool:
        """PUT /collections/{name}."""
        self._store.create(request.path["name"], request.json(_create))
        return True

    async def update(self, request: Request) -> bool:
        """PATCH /collections/{name}. What says how segments are built is followed when they are built again."""
        collection, body = self._store.get(request.path["name"]), request.json(_update)
        changed = self._store.changed(collection, body)
        if modifiers(changed.config) == modifiers(collection.config):
            self._store.replace_record(collection, changed)
            return True
        # That is how queries are answered, so it is in force at once; the segments say it, so they are written anew.
        await self._optimizer.cancel(collection)

        def commit(record: CollectionRecord) -> None:
            now = self._store.changed(collection, body)
            self._store.replace_record(collection, msgspec.structs.replace(now, generation=record.generation))

        async with collection.upkeep:
            with self._store.scratch() as copy:
                try:
                    await collection.copy(copy, journal=True)
                    set_modifiers(copy, modifiers(changed.config))
                    await collection.adopt(copy, commit)
                finally:
                    collection.drop_journal()
        return True

    def delete(self, request: Request) -> bool:
        """DELETE /collections/{name}: false if there was none."""
        return self._store.delete(request.path["name"])

    def optimizations(self, request: Request) -> Object:
        """GET /collections/{name}/optimizations, `with` a comma-separated list of further parts."""
        wanted = {part.strip() for part in request.query.get("with", "").split(",") if part.strip()}
        if unknown := wanted - {"queued", "completed", "idle_segments"}:
            raise bad_request(f"`with` takes queued, completed and idle_segments, not {unknown.pop()!r}")
        return self._optimizer.report(self._store.get(request.path["name"]), wanted)

    async def create_index(self, request: Request) -> Object:
        """PUT /collections/{name}/index: made at once, whatever `wait` says."""
        collection, body = self._store.get(request.path["name"]), request.json(_index)
        given = body.field_type if body.field_schema is None else body.field_schema
        schema = indexes.to_schema(given, body.field_name)
        done = await _applied(collection, lambda: edge.UpdateOperation.create_field_index(body.field_name, schema))
        self._keep_options(collection, body.field_name, indexes.kept(given))
        return done

    async def delete_index(self, request: Request) -> Object:
        """DELETE /collections/{name}/index/{field}."""
        collection = self._store.get(request.path["name"])
        field = request.path["field"]
        done = await _applied(collection, lambda: edge.UpdateOperation.delete_field_index(field))
        self._keep_options(collection, field, None)
        return done

    def _keep_options(self, collection: Collection, field: str, options: Object | None) -> None:
        """Keep what an index was given, which Qdrant prints and the engine does not tell apart from defaults."""
        config = collection.config
        if config.indexes.get(field) != options:
            kept = {key: value for key, value in {**config.indexes, field: options}.items() if value is not None}
            self._store.configure(collection, msgspec.structs.replace(config, indexes=kept))

    async def create_vector(self, request: Request) -> Object:
        """PUT /collections/{name}/vectors/{vector}: another vector for points to come and those that are there."""
        collection, name = self._store.get(request.path["name"]), request.path["vector"]
        params = request.json(_vector).params()
        if with_vector(collection.config, name, params) is collection.config:
            return _NOTHING_TO_DO
        async with self._space_of(collection):
            # Somebody else may have made it while this waited, and points may have it by now.
            if (config := with_vector(collection.config, name, params)) is collection.config:
                return _NOTHING_TO_DO
            guarded(config.for_engine)
            # The registry comes last, since points are checked by it: it never names a vector that the engine
            # lacks. What was interrupted before may have left one in the engine that the registry does not name.
            await collection.update(guarded(lambda: edge.UpdateOperation.delete_vector_name(name)))
            number = await collection.update(guarded(lambda: creation(name, params)))
            collection.read(lambda shard: shard.flush())
            self._store.configure(collection, with_vector(collection.config, name, params))
        return {"operation_id": number, "status": "completed"}

    async def delete_vector(self, request: Request) -> Object:
        """DELETE /collections/{name}/vectors/{vector}: of all points. One that is not there is no error."""
        collection, name = self._store.get(request.path["name"]), request.path["vector"]
        if name not in collection.config.names():
            return _NOTHING_TO_DO
        async with self._space_of(collection):
            if name not in collection.config.names():
                return _NOTHING_TO_DO
            # The registry comes first, for the same reason.
            self._store.configure(collection, without_vector(collection.config, name))
            number = await collection.update(guarded(lambda: edge.UpdateOperation.delete_vector_name(name)))
            collection.read(lambda shard: shard.flush())
        return {"operation_id": number, "status": "completed"}

    @contextlib.asynccontextmanager
    async def _space_of(self, collection: Collection) -> AsyncIterator[None]:
        """The time for a change of which vectors there are: one change after another, and all before it on the disk.

        The engine opens a shard with the vectors that it has now and replays its log against those: points that
        were logged before the change, and not flushed, would be lost. So flush after it as well. A copy that is
        being optimised has the old vectors, so it is thrown away.
        """
        await self._optimizer.cancel(collection)
        async with collection.upkeep:
            # No write comes between this flush and the change.
            await collection.writable()
            collection.read(lambda shard: shard.flush())
            yield

    def change_aliases(self, request: Request) -> bool:
        """POST /collections/aliases."""
        self._store.change_aliases(request.json(_aliases).actions)
        return True

    def aliases(self, _request: Request) -> Object:
        """GET /aliases."""
        return _listed(self._store.aliases)

    def aliases_of(self, request: Request) -> Object:
        """GET /collections/{name}/aliases."""
        name = self._store.get(request.path["name"]).name
        return _listed({alias: target for alias, target in self._store.aliases.items() if target == name})


async def _applied(collection: Collection, operation: Callable[[], edge.UpdateOperation]) -> Object:
    return {"operation_id": await collection.update(guarded(operation)), "status": "completed"}


def _listed(aliases: dict[str, str]) -> Object:
    return {"aliases": [{"alias_name": alias, "collection_name": target} for alias, target in aliases.items()]}
