"""What `/collections` and `/aliases` do: create, describe, change, delete, index."""

from typing import Any

import msgspec
import qdrant_edge as edge

from embedded.qdrant import indexes
from embedded.qdrant.config import CreateCollection, UpdateCollection
from embedded.qdrant.convert import text
from embedded.qdrant.engine import guarded
from embedded.qdrant.errors import bad_request
from embedded.qdrant.http import Request
from embedded.qdrant.optimizing import Optimizer
from embedded.qdrant.store import Store

Object = dict[str, Any]


class Aliases(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Changes of aliases, all of them or none."""

    actions: list[dict[str, Any]]


class CreateIndex(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An index of a payload field."""

    field_name: str
    field_schema: Any = None


_create = msgspec.json.Decoder(CreateCollection)
_update = msgspec.json.Decoder(UpdateCollection)
_aliases = msgspec.json.Decoder(Aliases)
_index = msgspec.json.Decoder(CreateIndex)


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
        info = collection.info()
        status, optimizer_status = self._optimizer.status(collection)
        return {
            "status": status,
            "optimizer_status": optimizer_status,
            "indexed_vectors_count": info.indexed_vectors_count,
            "points_count": info.points_count,
            "segments_count": info.segments_count,
            "config": collection.config.printed(collection.record.metadata),
            "payload_schema": indexes.printed(info.payload_schema),
            "update_queue": {"length": 0},
        }

    def create(self, request: Request) -> bool:
        """PUT /collections/{name}."""
        self._store.create(request.path["name"], request.json(_create))
        return True

    def update(self, request: Request) -> bool:
        """PATCH /collections/{name}."""
        self._store.update(request.path["name"], request.json(_update))
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
        schema = indexes.to_schema(body.field_schema)
        operation = guarded(lambda: edge.UpdateOperation.create_field_index(body.field_name, schema))
        return {"operation_id": await collection.update(operation), "status": "completed"}

    async def delete_index(self, request: Request) -> Object:
        """DELETE /collections/{name}/index/{field}."""
        field = text(request.path["field"], "the field's name")
        operation = guarded(lambda: edge.UpdateOperation.delete_field_index(field))
        return {
            "operation_id": await self._store.get(request.path["name"]).update(operation),
            "status": "completed",
        }

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


def _listed(aliases: dict[str, str]) -> Object:
    return {"aliases": [{"alias_name": alias, "collection_name": target} for alias, target in aliases.items()]}
