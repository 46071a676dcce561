"""Writes to points: the shapes they come in, and what of them the engine is given.

`prepared` checks every value and touches nothing; only what it gives can change the collection.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import qdrant_edge as edge

from embedded.qdrant.engine import guarded
from embedded.qdrant.errors import ApiError, bad_request, invalid, not_built
from embedded.qdrant.settings.config import CollectionConfig
from embedded.qdrant.settings.convert import to_filter
from embedded.qdrant.settings.validate import (
    InvalidVector,
    PointId,
    WireVector,
    payload,
    point_id,
    point_ids,
    vector_name,
    vectors,
)
from embedded.qdrant.shards.collection import Collection

Object = dict[str, Any]
WireVectors = list[float | list[float]] | dict[str, WireVector]
PIECE = 100
"""How many points are converted in one go."""

_UPDATE = edge.UpdateOperation
_MODES = {
    "upsert": edge.UpdateMode.Upsert,
    "insert_only": edge.UpdateMode.InsertOnly,
    "update_only": edge.UpdateMode.UpdateOnly,
}


@dataclass(frozen=True, slots=True)
class Write:
    """A checked operation, and the points that have to be there for it."""

    operation: edge.UpdateOperation
    needs: list[PointId]
    points: int = 1
    """How many points it carries."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """An operation with what became of it, checked against the vectors that the collection had then."""

    source: "Operation"
    config: CollectionConfig
    write: Write

    async def apply(self, collection: Collection) -> int:
        """Apply it; gives the operation's number. Raises ApiError.

        A vector may have gone while it waited. The engine would refuse such a write, and replay it at its next start.
        """
        await collection.writable()
        write = self.write
        if collection.config is not self.config and collection.config.spaces() != self.config.spaces():
            write = self.source.prepared(collection.config).write
        if write.needs:
            collection.require_points(write.needs)
        return await collection.update(write.operation, write.points)


class Operation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A write of any kind."""

    shard_key: Any = None

    def prepared(self, config: CollectionConfig) -> Prepared:
        """Check everything; raises ApiError."""
        _no_shard_key(self.shard_key)
        return Prepared(self, config, guarded(lambda: self.write(config)))

    def write(self, config: CollectionConfig) -> Write:
        """The operation in the engine's form."""
        raise NotImplementedError


def _no_shard_key(value: Any) -> None:
    if value is not None:
        raise not_built("shard keys")


class PointStruct(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One point as it is written."""

    id: int | str
    vector: WireVectors
    payload: Object | None = None

    def for_engine(self, config: CollectionConfig) -> edge.Point:
        """The engine's point."""
        return edge.Point(point_id(self.id), vectors(config, self.vector), payload(self.payload))


class Columns(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Points as columns: the n-th of each list makes the n-th point."""

    ids: list[int | str]
    vectors: list[list[float | list[float]]] | dict[str, list[WireVector]]
    payloads: list[Object | None] | None = None

    def points(self) -> list[PointStruct]:
        """The same points one by one."""
        count = len(self.ids)
        for column in self.vectors.values() if isinstance(self.vectors, dict) else [self.vectors]:
            if len(column) != count:
                raise invalid(f"batch: number of ids and vectors must be equal ({count} != {len(column)})")
        if self.payloads is not None and len(self.payloads) != count:
            raise invalid(f"batch: number of ids and payloads must be equal ({count} != {len(self.payloads)})")
        return [self._point(row) for row in range(len(self.ids))]

    def _point(self, row: int) -> PointStruct:
        if isinstance(self.vectors, dict):
            vector: WireVectors = {name: column[row] for name, column in self.vectors.items()}
        else:
            vector = self.vectors[row]
        return PointStruct(self.ids[row], vector, self.payloads[row] if self.payloads else None)


class Upsert(Operation, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Insert points, or replace them whole."""

    points: list[PointStruct] | None = None
    batch: Columns | None = None
    update_filter: Any = None
    update_mode: Literal["upsert", "insert_only", "update_only"] | None = None

    def write(self, config: CollectionConfig) -> Write:
        """The operation in the engine's form."""
        return self._write(self._converted(self._given(), config), config)

    async def prepared_in_pieces(self, config: CollectionConfig) -> Prepared:
        """What `prepared` gives. Readers get their turn after every hundred points or so."""
        _no_shard_key(self.shard_key)
        points, converted = self._given(), list[edge.Point]()
        for start in range(0, len(points), PIECE):
            piece = points[start : start + PIECE]
            converted += guarded(lambda piece=piece, start=start: self._converted(piece, config, start))
            await asyncio.sleep(0)
        return Prepared(self, config, guarded(lambda: self._write(converted, config)))

    def _given(self) -> list[PointStruct]:
        if self.points is not None and self.batch is None:
            return self.points
        if self.batch is not None and self.points is None:
            return self.batch.points()
        raise bad_request("an upsert has either `points` or `batch`")

    def _converted(self, points: list[PointStruct], config: CollectionConfig, start: int = 0) -> list[edge.Point]:
        return [self._point(point, place, config) for place, point in enumerate(points, start)]

    def _point(self, point: PointStruct, place: int, config: CollectionConfig) -> edge.Point:
        try:
            return point.for_engine(config)
        except InvalidVector as error:
            raise error.at("batch.vectors" if self.points is None else f"points[{place}].vector") from error

    def _write(self, points: list[edge.Point], config: CollectionConfig) -> Write:
        condition = to_filter(self.update_filter, config)
        operation = _UPDATE.upsert_points(points, condition, _MODES[self.update_mode or "upsert"])
        return Write(operation, [], len(points))


class PointVectors(msgspec.Struct, frozen=True):
    """New vectors of one point. What else a point may have is passed over, as Qdrant does."""

    id: int | str
    vector: WireVectors


class UpdateVectors(Operation, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Replace the named vectors of points that are there."""

    points: list[PointVectors]
    update_filter: Any = None

    def write(self, config: CollectionConfig) -> Write:
        """The operation in the engine's form."""
        ids = point_ids([point.id for point in self.points])
        converted: list[edge.PointVectors] = []
        for place, (wanted, point) in enumerate(zip(ids, self.points, strict=True)):
            if not point.vector:
                raise invalid(f"points[{place}].vector: must specify vectors to update for point")
            try:
                converted.append(edge.PointVectors(wanted, vectors(config, point.vector)))
            except InvalidVector as error:
                raise error.at(f"points[{place}].vector") from error
        return Write(_UPDATE.update_vectors(converted, to_filter(self.update_filter, config)), ids, len(ids))


class Selector(Operation, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which points: by ids or by filter. On its own it is the body that clears their payload."""

    points: list[Any] | None = None
    filter: Any = None

    def selected(
        self,
        config: CollectionConfig,
        by_ids: Callable[[list[Any]], edge.UpdateOperation],
        by_filter: Callable[[edge.Filter], edge.UpdateOperation],
        needed: bool = True,
    ) -> Write:
        """The operation for the one way or the other; `needed` if all of the ids have to be there."""
        if self.points is not None:
            if self.filter is not None:
                raise bad_request("give either `points` or `filter`, not both")
            ids = point_ids(self.points)
            return Write(by_ids(list(ids)), ids if needed else [])
        condition = to_filter(self.filter, config)
        if condition is None:
            raise bad_request("give the points' ids in `points`, or a `filter`")
        return Write(by_filter(condition), [])

    def write(self, config: CollectionConfig) -> Write:
        """The operation in the engine's form."""
        return self.selected(config, _UPDATE.clear_payload, _UPDATE.clear_payload_by_filter)


class Delete(Selector, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Delete points. Deleting what is not there is no error."""

    def write(self, config: CollectionConfig) -> Write:
        """The operation in the engine's form."""
        return self.selected(config, _UPDATE.delete_points, _UPDATE.delete_points_by_filter, needed=False)


class PayloadUpdate(Selector, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Set payload values, at the top or below `key`; with `overwrite` in place of the whole payload."""

    payload: Object
    key: str | None = None
    overwrite: bool = False

    def write(self, config: CollectionConfig) -> Write:
        """The operation in the engine's form."""
        content, key = payload(self.payload, under=self.key), self.key
        if self.overwrite:
            return self.selected(
                config,
                lambda ids: _UPDATE.overwrite_payload(ids, content, key),
                lambda condition: _UPDATE.overwrite_payload_by_filter(condition, content, key),
            )
        return self.selected(
            config,
            lambda ids: _UPDATE.set_payload(ids, content, key),
            lambda condition: _UPDATE.set_payload_by_filter(condition, content, key),
        )


class PayloadKeys(Selector, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Remove keys from payloads."""

    keys: list[str]

    def write(self, config: CollectionConfig) -> Write:
        """The operation in the engine's form."""
        return self.selected(
            config,
            lambda ids: _UPDATE.delete_payload(ids, self.keys),
            lambda condition: _UPDATE.delete_payload_by_filter(condition, self.keys),
        )


class VectorNames(Selector, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Remove vectors from points."""

    vector: list[str]

    def write(self, config: CollectionConfig) -> Write:
        """The operation in the engine's form."""
        names = [vector_name(config, name) for name in self.vector]
        return self.selected(
            config,
            lambda ids: _UPDATE.delete_vectors(ids, names),
            lambda condition: _UPDATE.delete_vectors_by_filter(condition, names),
        )


_KINDS: dict[str, msgspec.json.Decoder[Operation]] = {
    "upsert": msgspec.json.Decoder(Upsert),
    "delete": msgspec.json.Decoder(Delete),
    "set_payload": msgspec.json.Decoder(PayloadUpdate),
    "overwrite_payload": msgspec.json.Decoder(PayloadUpdate),
    "delete_payload": msgspec.json.Decoder(PayloadKeys),
    "clear_payload": msgspec.json.Decoder(Selector),
    "update_vectors": msgspec.json.Decoder(UpdateVectors),
    "delete_vectors": msgspec.json.Decoder(VectorNames),
}


def from_batch(given: dict[str, msgspec.Raw]) -> Operation:
    """One operation of a batch: an object whose only key says which kind it is."""
    if len(given) != 1:
        raise bad_request("each operation of a batch has exactly one key, its kind")
    kind, content = next(iter(given.items()))
    if kind not in _KINDS:
        raise bad_request(f"there is no operation `{kind}`; there are {', '.join(_KINDS)}")
    try:
        operation = _KINDS[kind].decode(content)
    except msgspec.MsgspecError as error:
        raise ApiError(400, f"Format error in JSON body: `{kind}`: {error}") from error
    if kind == "overwrite_payload":
        return msgspec.structs.replace(operation, overwrite=True)
    return operation
