"""What `/collections/{name}/points...` does: writes and reads."""

from typing import Annotated, Any

import msgspec
import qdrant_edge as edge
from msgspec import Meta

from embedded.qdrant.api.http import Request
from embedded.qdrant.errors import bad_request, not_built, not_found
from embedded.qdrant.requests import results
from embedded.qdrant.requests.operations import (
    Delete,
    Operation,
    PayloadKeys,
    PayloadUpdate,
    Selector,
    UpdateVectors,
    Upsert,
    VectorNames,
    from_batch,
)
from embedded.qdrant.requests.queries import Limit
from embedded.qdrant.requests.scoring import to_order_by
from embedded.qdrant.settings.convert import to_filter, to_payload_selector, to_vector_selector
from embedded.qdrant.settings.validate import MAX_ID_DIGITS, point_id, point_ids
from embedded.qdrant.shards.collection import Collection
from embedded.qdrant.shards.store import Store

Object = dict[str, Any]


class Retrieve(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Points by id."""

    ids: list[Any]
    with_payload: Any = None
    with_vector: Any = None
    with_vectors: Any = None
    shard_key: Any = None


class Scroll(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A page of points, in the order of their ids or of a payload value."""

    offset: Any = None
    limit: Limit | None = None
    filter: Any = None
    with_payload: Any = None
    with_vector: Any = None
    with_vectors: Any = None
    order_by: Any = None
    shard_key: Any = None


class Count(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many points there are."""

    filter: Any = None
    exact: bool | None = None
    shard_key: Any = None


class Facet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How often each value of a payload field occurs."""

    key: str
    limit: Annotated[int, Meta(ge=1, lt=2**31)] | None = None
    filter: Any = None
    exact: bool | None = None
    shard_key: Any = None


class Batch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Several writes in order."""

    operations: list[dict[str, msgspec.Raw]]


_upsert = msgspec.json.Decoder(Upsert)
_delete = msgspec.json.Decoder(Delete)
_payload_update = msgspec.json.Decoder(PayloadUpdate)
_payload_keys = msgspec.json.Decoder(PayloadKeys)
_selector = msgspec.json.Decoder(Selector)
_update_vectors = msgspec.json.Decoder(UpdateVectors)
_vector_names = msgspec.json.Decoder(VectorNames)
_batch = msgspec.json.Decoder(Batch)
_retrieve = msgspec.json.Decoder(Retrieve)
_scroll = msgspec.json.Decoder(Scroll)
_count = msgspec.json.Decoder(Count)
_facet = msgspec.json.Decoder(Facet)


class Points:
    """The handlers, over one store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def upsert(self, request: Request) -> Object:
        """PUT /points."""
        collection, status = self._collection(request), _status(request)
        write = await request.json(_upsert).prepared_in_pieces(collection.config)
        return {"operation_id": await write.apply(collection), "status": status}

    async def delete(self, request: Request) -> Object:
        """POST /points/delete: by ids or by filter."""
        return await self._write(request, request.json(_delete))

    async def set_payload(self, request: Request) -> Object:
        """POST /points/payload: what is not named stays."""
        return await self._write(request, request.json(_payload_update))

    async def overwrite_payload(self, request: Request) -> Object:
        """PUT /points/payload: what is not named goes."""
        return await self._write(request, msgspec.structs.replace(request.json(_payload_update), overwrite=True))

    async def delete_payload(self, request: Request) -> Object:
        """POST /points/payload/delete: the named keys go."""
        return await self._write(request, request.json(_payload_keys))

    async def clear_payload(self, request: Request) -> Object:
        """POST /points/payload/clear."""
        return await self._write(request, request.json(_selector))

    async def update_vectors(self, request: Request) -> Object:
        """PUT /points/vectors: vectors that are not named stay."""
        return await self._write(request, request.json(_update_vectors))

    async def delete_vectors(self, request: Request) -> Object:
        """POST /points/vectors/delete."""
        return await self._write(request, request.json(_vector_names))

    async def batch(self, request: Request) -> list[Object]:
        """POST /points/batch: every operation is checked before the first is applied."""
        collection, status = self._collection(request), _status(request)
        operations = [from_batch(operation) for operation in request.json(_batch).operations]
        ready = [operation.prepared(collection.config) for operation in operations]
        return [{"operation_id": await write.apply(collection), "status": status} for write in ready]

    def retrieve(self, request: Request) -> list[Object]:
        """POST /points: those of the wanted points that are there."""
        collection, body = self._collection(request), request.json(_retrieve)
        _no_shard_key(body.shard_key)
        ids: list[Any] = list(point_ids(body.ids))
        payload = to_payload_selector(body.with_payload, default=True)
        vectors = to_vector_selector(_wanted_vectors(body), collection.config)
        found = collection.read(lambda shard: shard.retrieve(ids, payload, vectors))
        return [results.record(point) for point in found]

    def get(self, request: Request) -> Object:
        """GET /points/{id}."""
        given = request.path["id"]
        number = given.isascii() and given.isdecimal() and len(given) <= MAX_ID_DIGITS
        wanted = point_id(int(given) if number else given)
        found = self._collection(request).read(lambda shard: shard.retrieve([wanted], True, True))
        if not found:
            raise not_found(f"Point with id {wanted} does not exists!")
        return results.record(found[0])

    def scroll(self, request: Request) -> Object:
        """POST /points/scroll."""
        collection, body = self._collection(request), request.json(_scroll)
        _no_shard_key(body.shard_key)
        if body.order_by is not None and body.offset is not None:
            raise bad_request("Cannot use an `offset` when using `order_by`. Use `order_by.start_from` instead")
        found, following = collection.read(
            lambda shard: shard.scroll(
                edge.ScrollRequest(
                    offset=None if body.offset is None else point_id(body.offset),
                    limit=body.limit or 10,
                    filter=to_filter(body.filter, collection.config),
                    with_payload=to_payload_selector(body.with_payload, default=True),
                    with_vector=to_vector_selector(_wanted_vectors(body), collection.config),
                    order_by=None if body.order_by is None else to_order_by(body.order_by),
                )
            )
        )
        points = [results.record(point) for point in found]
        return {
            "points": points,
            "next_page_offset": None if following is None else results.wire_id(following),
        }

    def count(self, request: Request) -> Object:
        """POST /points/count. Exact unless the caller says otherwise."""
        collection, body = self._collection(request), request.json(_count)
        _no_shard_key(body.shard_key)
        exact = body.exact is not False
        count = collection.read(
            lambda shard: shard.count(edge.CountRequest(exact, to_filter(body.filter, collection.config)))
        )
        return {"count": count}

    def facet(self, request: Request) -> Object:
        """POST /facet: needs an index that knows the field's values."""
        collection, body = self._collection(request), request.json(_facet)
        _no_shard_key(body.shard_key)
        limit, exact = body.limit or 10, bool(body.exact)
        found = collection.read(
            lambda shard: shard.facet(
                edge.FacetRequest(body.key, limit, exact, to_filter(body.filter, collection.config))
            )
        )
        return {"hits": [{"value": hit.value, "count": hit.count} for hit in found.hits]}

    async def _write(self, request: Request, operation: Operation) -> Object:
        collection, status = self._collection(request), _status(request)
        number = await operation.prepared(collection.config).apply(collection)
        return {"operation_id": number, "status": status}

    def _collection(self, request: Request) -> Collection:
        return self._store.get(request.path["name"])


def _status(request: Request) -> str:
    # Every write is applied before it is answered; the word is what a client that did not wait expects.
    return "completed" if request.flag("wait") else "acknowledged"


def _wanted_vectors(body: Retrieve | Scroll) -> Any:
    # Qdrant knows the selector under two names.
    return body.with_vectors if body.with_vector is None else body.with_vector


def _no_shard_key(value: Any) -> None:
    if value is not None:
        raise not_built("shard keys")
