"""What the engine found, as plain values for JSON."""

import uuid
from array import array
from typing import Any

import qdrant_edge as edge

from embedded.qdrant.settings.config import DEFAULT_VECTOR

Object = dict[str, Any]


def scored(points: list[edge.ScoredPoint]) -> list[Object]:
    """The points that a query found. A score is the engine's 32-bit number, printed as short as it goes."""
    found = [record(point) for point in points]
    for shown, point, score in zip(found, points, short_floats([point.score for point in points]), strict=True):
        shown["version"] = point.version
        shown["score"] = score
    return found


def record(point: edge.Record | edge.ScoredPoint) -> Object:
    """A point without a score; payload and vector are there only if they were asked for."""
    found: Object = {"id": wire_id(point.id)}
    if point.payload is not None:
        found["payload"] = point.payload
    if point.vector is not None:
        found["vector"] = _vectors(point.vector)
    if point.order_value is not None:
        found["order_value"] = point.order_value
    return found


def wire_id(value: Any) -> int | str:
    """A point id as JSON has it."""
    return str(value) if isinstance(value, uuid.UUID) else value


def short_floats(values: list[float]) -> list[float]:
    """The same 32-bit numbers as the shortest decimals that still name them: 0.9, not 0.8999999761581421."""
    # One format for all of them, and the way back through an array: faster than one by one.
    seven = [float(word) for word in ("%.7g " * len(values) % tuple(values)).split()]
    eight = [float(word) for word in ("%.8g " * len(values) % tuple(values)).split()]
    rows = zip(values, seven, array("f", seven), eight, array("f", eight), strict=True)
    # Nine digits name every 32-bit number.
    return [
        a if near_a == value else b if near_b == value else float(f"{value:.9g}")
        for value, a, near_a, b, near_b in rows
    ]


def _vectors(vectors: Any) -> Any:
    if not isinstance(vectors, dict):
        return _vector(vectors)
    if set(vectors) == {DEFAULT_VECTOR}:
        return _vector(vectors[DEFAULT_VECTOR])
    return {name: _vector(value) for name, value in vectors.items()}


def _vector(value: Any) -> Any:
    if isinstance(value, edge.SparseVector):
        return {"indices": value.indices, "values": short_floats(value.values)}
    if value and isinstance(value[0], list):
        return [short_floats(row) for row in value]
    return short_floats(value)
