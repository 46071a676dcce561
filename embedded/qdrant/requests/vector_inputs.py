"""What may stand for a vector in a query: numbers, a stored point's id, a text for a built-in model."""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import msgspec
import qdrant_edge as edge

from embedded.qdrant.errors import bad_request, not_built
from embedded.qdrant.settings.inference import embedded
from embedded.qdrant.settings.validate import EngineVector, PointId, SparseObject, point_id, vector, vector_name
from embedded.qdrant.shards.collection import Collection

Find = Callable[[str], Collection]
"""Gives a collection by its name or alias; raises ApiError where there is none."""


class LookupLocation(msgspec.Struct, frozen=True):
    """Where the points are whose ids stand in a query, if it is not the collection that is searched."""

    collection: str
    vector: str | None = None
    shard_key: Any = None


class VectorInputs:
    """Turns the vector inputs of one query stage into the engine's vectors."""

    def __init__(self, searched: Collection, using: str | None, lookup_from: LookupLocation | None, find: Find) -> None:
        self.config = searched.config
        self.used: set[PointId] = set()
        """Points of the searched collection that vectors were taken from."""
        self._searched, self._using = searched, using
        self._source, self._source_name = searched, None if lookup_from is None else lookup_from.vector
        if lookup_from is not None:
            if lookup_from.shard_key is not None:
                raise not_built("shard keys")
            self._source = find(lookup_from.collection)

    @cached_property
    def name(self) -> str:
        """The vector that is searched. Raises ApiError where there is none of that name."""
        return vector_name(self.config, self._using)

    def vector(self, value: Any) -> EngineVector:
        """One vector input in the engine's form. Raises ApiError."""
        if isinstance(value, int | str):
            return self._stored(point_id(value))
        if isinstance(value, Mapping) and "model" in value:
            value = self._document(value)
        return self.checked(value)

    def vectors(self, value: Any, what: str) -> list[EngineVector]:
        """A list of vector inputs; null is an empty one."""
        if value is None:
            return []
        if not isinstance(value, list):
            raise bad_request(f"{what} is a list of vectors and point ids")
        return [self.vector(item) for item in value]

    def checked(self, value: Any) -> EngineVector:
        """A vector that is given in numbers, checked against the vector that is searched."""
        if isinstance(value, edge.SparseVector):
            value = SparseObject(value.indices, value.values)
        if value == []:
            # On a server a wrong example, not a body that cannot be read.
            raise bad_request("Vector dimension error: an example has at least one number, got none")
        return vector(self.config, self.name, value)

    def _stored(self, wanted: PointId) -> EngineVector:
        source, name = self._source, self.name if self._source_name is None else self._source_name
        if name not in source.config.names():
            source.require_points([wanted])
        found = source.stored_vector(wanted, vector_name(source.config, name))
        if source is not self._searched:
            return self.checked(found)
        self.used.add(wanted)
        return found if name == self.name else self.checked(found)

    def _document(self, value: Mapping[str, Any]) -> edge.SparseVector:
        given = {key: item for key, item in value.items() if key in ("text", "model", "options")}
        return embedded(given.get("text"), given["model"], given.get("options"), query=True)
