"""What the engine must never be handed: every value of a request is checked here before it goes further.

A bad value that reaches the engine is worse than an error. A sparse vector whose indices and values differ in
length, or a payload nested deeper than its log can read back, leaves a collection that cannot be loaded
again; an unknown vector name is refused, yet replaying the log creates the point. So nothing below trusts the
engine to refuse.
"""

import struct
import uuid
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import msgspec
import qdrant_edge as edge

from embedded.qdrant.errors import ApiError, bad_request
from embedded.qdrant.settings.config import DEFAULT_VECTOR, CollectionConfig, VectorParams
from embedded.qdrant.settings.inference import embedded

PointId = int | str
"""A point's id as it comes from the wire: an unsigned 64-bit integer or a UUID in any spelling."""

EngineVector = list[float] | list[list[float]] | edge.SparseVector

MAX_PAYLOAD_DEPTH = 64
"""The engine's log cannot be read back from 122 levels of nesting; Qdrant's own limit is close to that."""

MAX_FILTER_DEPTH = 32
"""A filter is logged too (delete by filter) and cannot be read back from 62 levels."""

MAX_MULTIVECTOR = 1024 * 1024
"""How many numbers all rows of a multivector stay below; Qdrant's own limit."""

MAX_NAME_LENGTH = 255
_MAX_ID = 2**64 - 1
MAX_ID_DIGITS = len(str(_MAX_ID))
_FORBIDDEN_IN_NAMES = frozenset('<>:"/\\|?*\0\x1f')


class InvalidVector(ApiError):
    """A vector that is wrong in itself, whatever the collection (422)."""

    def __init__(self, reason: str, place: str = "vector") -> None:
        super().__init__(422, f"Validation error in JSON body: [{place}.{reason}]")
        self._reason = reason

    def at(self, place: str) -> "InvalidVector":
        """The same, told with the place in the request's body."""
        return InvalidVector(self._reason, place)


class SparseObject(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A vector that is an object: sparse, or one that a model would have to be asked for."""

    indices: list[int] | None = None
    values: list[float] | None = None
    text: Any = None
    image: Any = None
    object: Any = None
    model: Any = None
    options: Any = None


WireVector = list[float | list[float]] | SparseObject


def collection_name(name: str) -> str:
    """Give `name` back if a collection or an alias may have it (Qdrant's own rules)."""
    if not 0 < len(name) <= MAX_NAME_LENGTH:
        raise bad_request(f"a collection name has 1 to {MAX_NAME_LENGTH} characters, this one has {len(name)}")
    if found := _FORBIDDEN_IN_NAMES.intersection(name):
        raise bad_request(f"a collection name cannot contain {sorted(found)[0]!r}")
    return name


def checked_path(name: str) -> None:
    """Raise ApiError (422) if no collection can have this name of a request's path for its length."""
    if not 0 < len(name) <= MAX_NAME_LENGTH:
        told = f"value {shortened(name)} invalid, must be from 1 to {MAX_NAME_LENGTH} characters"
        raise ApiError(422, f"Validation error in path parameters: [collection_name: {told}]")


def point_id(value: Any) -> PointId:
    """The id in the engine's form: an int, or a UUID in its canonical spelling."""
    if type(value) is int:
        if 0 <= value <= _MAX_ID:
            return value
    elif type(value) is str:
        try:
            return str(uuid.UUID(value))
        except ValueError:
            pass
    raise bad_request(f"a point id is an unsigned 64-bit integer or a UUID, not {shortened(value)}")


def point_ids(values: list[Any]) -> list[PointId]:
    """All of a request's ids in the engine's form."""
    return [point_id(value) for value in values]


def payload(value: dict[str, Any] | None, *, under: str | None = None) -> dict[str, Any]:
    """Give the payload back if the engine can read it again; `under` is the path that it will be set at."""
    levels = MAX_PAYLOAD_DEPTH - (under.count(".") + under.count("[") + 1 if under else 0)
    # An empty payload too: setting it makes all the levels of its path.
    if levels < 1 or not _within(value or {}, levels):
        raise bad_request(f"a payload can be nested {MAX_PAYLOAD_DEPTH} levels deep, this one is deeper")
    return value or {}


def metadata(value: dict[str, Any]) -> dict[str, Any]:
    """Give a collection's metadata back if it is not nested too deep."""
    if not _within(value, MAX_PAYLOAD_DEPTH):
        raise bad_request(f"metadata can be nested {MAX_PAYLOAD_DEPTH} levels deep, this is deeper")
    return value


def vector_name(config: CollectionConfig, name: str | None) -> str:
    """Give the name back if the collection has such a vector; None means the default vector."""
    name = name or DEFAULT_VECTOR
    if name in config.vectors or name in config.sparse:
        return name
    raise bad_request(f"Not existing vector name error: {name}")


def vector(config: CollectionConfig, name: str, value: Any) -> EngineVector:
    """One vector of a point or of a query, checked against the collection, in the engine's form."""
    if isinstance(value, SparseObject | Mapping):
        given = sparse(name, _sparse_object(value))
        if vector_name(config, name) in config.sparse:
            return given
        raise bad_request(f"vector `{name or '(default)'}` is dense: give a list of numbers")
    if not isinstance(value, list):
        raise bad_request(f"vector `{name or '(default)'}` is a list or an object, not {shortened(value)}")
    _check_dense(name, value)
    if vector_name(config, name) in config.sparse:
        raise bad_request(f"vector `{name}` is sparse: give `indices` and `values`")
    return _dense(name, config.vectors[name], value)


def vectors(config: CollectionConfig, value: Any) -> dict[str, EngineVector]:
    """All vectors of a point by name; a bare list is the default vector."""
    named = value if isinstance(value, dict) else {DEFAULT_VECTOR: value}
    return {name: vector(config, name, item) for name, item in named.items()}


def sparse(name: str, value: SparseObject) -> edge.SparseVector:
    """A sparse vector with as many values as indices, each index once, in rising order."""
    indices, values = value.indices, value.values
    if indices is None or values is None:
        raise bad_request(f"sparse vector `{name}` needs `indices` and `values`")
    if len(indices) != len(values):
        raise InvalidVector(_at(name, "values: Validation error: must be the same length as indices [{}]"))
    if len(set(indices)) != len(indices):
        raise InvalidVector(_at(name, "indices: Validation error: must be unique [{}]"))
    _as_float32(name, values)
    if indices:
        if min(indices) < 0 or max(indices) > 2**32 - 1:
            raise bad_request(f"the indices of sparse vector `{name}` are unsigned 32-bit integers")
        if any(left > right for left, right in pairwise(indices)):
            order = sorted(range(len(indices)), key=indices.__getitem__)
            indices, values = [indices[i] for i in order], [values[i] for i in order]
    return edge.SparseVector(indices, values)


def shortened(value: Any) -> str:
    """The value as it may stand in a message."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _sparse_object(value: SparseObject | Mapping[str, Any]) -> SparseObject:
    if not isinstance(value, SparseObject):
        try:
            value = msgspec.convert(value, SparseObject)
        except msgspec.ValidationError as error:
            raise bad_request(f"a vector object: {error}") from error
    if value.model is not None:
        document = embedded(value.text, value.model, value.options, query=False)
        return SparseObject(document.indices, document.values)
    return value


def _check_dense(name: str, value: list[Any]) -> None:
    """Refuse what Qdrant refuses before it looks at the collection: empty vectors, rows of several lengths."""
    if not value:
        raise InvalidVector(_at(name, "vector: dense vector must not be empty"))
    if not isinstance(value[0], list):
        return
    lengths: dict[int, None] = {}
    for row in value:
        if not isinstance(row, list):
            raise bad_request(f"multivector `{name or '(default)'}` mixes numbers and lists")
        lengths[len(row)] = None
    if 0 in lengths:
        raise InvalidVector(_at(name, "data: all vectors must be non-empty"))
    if (total := sum(map(len, value))) >= MAX_MULTIVECTOR:
        reason = f"data: Total size of all vectors ({total}) must be less than {MAX_MULTIVECTOR}"
        raise InvalidVector(_at(name, reason))
    if len(lengths) > 1:
        odd = list(lengths)[1]
        reason = f"data: all vectors must have the same dimension, found vector with dimension {odd}"
        raise InvalidVector(_at(name, reason))


def _at(name: str, reason: str) -> str:
    # Qdrant stands a question mark for the vector's name.
    return f"?.{reason}" if name else reason


def _dense(name: str, params: VectorParams, value: list[Any]) -> list[float] | list[list[float]]:
    nested = bool(value) and isinstance(value[0], list)
    if params.multivector_config is None:
        if nested:
            raise bad_request(f"vector `{name or '(default)'}` takes one list of numbers, not a list of lists")
        _row(name, params.size, value)
        return value
    rows = value if nested else [value]
    for row in rows:
        _row(name, params.size, row)
    return rows


def _row(name: str, size: int, values: list[Any]) -> None:
    if len(values) != size:
        raise _wrong_size(size, len(values))
    _as_float32(name, values)


def _wrong_size(expected: int, got: int) -> ApiError:
    return bad_request(f"Vector dimension error: expected dim: {expected}, got {got}")


def _as_float32(name: str, values: list[Any]) -> None:
    """Refuse what is no number, or infinite as a 32-bit float, which is how the engine keeps it."""
    try:
        # The standard format ("<") refuses what overflows; the native one would silently write infinity.
        struct.pack(f"<{len(values)}f", *values)
    except (struct.error, OverflowError) as error:
        message = f"vector `{name or '(default)'}` has a value that is not a finite 32-bit number"
        raise bad_request(message) from error


def _within(value: Any, levels: int) -> bool:
    if levels == 0:
        return False
    items = value.values() if type(value) is dict else value
    return all(_within(item, levels - 1) for item in items if type(item) is dict or type(item) is list)
