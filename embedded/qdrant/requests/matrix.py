"""Distance matrices: how near the points of a sample are to each other."""

from typing import Annotated, Any

import msgspec
import qdrant_edge as edge
from msgspec import Meta

from embedded.qdrant.errors import not_built
from embedded.qdrant.requests import results
from embedded.qdrant.requests.queries import MAX_LIMIT
from embedded.qdrant.settings.convert import to_filter
from embedded.qdrant.settings.validate import vector_name
from embedded.qdrant.shards.collection import Collection

DEFAULT_SAMPLE = 10
DEFAULT_LIMIT = 3


class MatrixBody(msgspec.Struct, frozen=True):
    """The body of `POST .../points/search/matrix/...`."""

    sample: Annotated[int, Meta(ge=2)] | None = None
    limit: Annotated[int, Meta(ge=1)] | None = None
    using: str | None = None
    filter: Any = None
    shard_key: Any = None


Row = tuple[int | str, list[edge.ScoredPoint]]
"""A point's id, and the points of the sample that are nearest to it."""


def matrix_rows(body: MatrixBody, collection: Collection) -> list[Row]:
    """The nearest points within a random sample, for each of its points in the order of their ids."""
    if body.shard_key is not None:
        raise not_built("shard keys")
    sample = min(body.sample or DEFAULT_SAMPLE, MAX_LIMIT)
    limit = min(body.limit or DEFAULT_LIMIT, MAX_LIMIT)
    name = vector_name(collection.config, body.using)
    return collection.read(lambda shard: _rows(shard, collection, body.filter, name, sample, limit))


def pairs(rows: list[Row]) -> dict[str, Any]:
    """The matrix as a list of pairs."""
    scores = results.short_floats([point.score for _, points in rows for point in points])
    flat = [(row, results.wire_id(point.id)) for row, points in rows for point in points]
    return {"pairs": [{"a": a, "b": b, "score": score} for (a, b), score in zip(flat, scores, strict=True)]}


def offsets(rows: list[Row]) -> dict[str, Any]:
    """The matrix as columns of offsets into its list of ids."""
    place = {row: number for number, (row, _) in enumerate(rows)}
    return {
        "offsets_row": [place[row] for row, points in rows for _ in points],
        "offsets_col": [place[results.wire_id(point.id)] for _, points in rows for point in points],
        "scores": results.short_floats([point.score for _, points in rows for point in points]),
        "ids": list(place),
    }


def _rows(
    shard: edge.EdgeShard, collection: Collection, condition: Any, name: str, sample: int, limit: int
) -> list[Row]:
    given = to_filter(condition, collection.config)
    found = shard.query(
        edge.QueryRequest(
            sample,
            query=edge.Sample.Random,
            filter=edge.Filter(must=[*([given] if given else []), edge.HasVectorCondition(name)]),
            with_vector=[name],
        )
    )
    if len(found) < 2:
        return []
    # As in Qdrant: numbers before UUIDs, so that the order is the same each time.
    found.sort(key=lambda point: (isinstance(wire := results.wire_id(point.id), str), wire))
    within = edge.Filter(must=[edge.HasIdCondition({results.wire_id(point.id) for point in found})])
    queries = [
        # One more than is wanted, since the point itself is among them.
        edge.QueryRequest(limit + 1, query=edge.Query.Nearest(_named(point.vector, name), name or None), filter=within)
        for point in found
    ]
    rows: list[Row] = []
    for point, nearest in zip(found, shard.query_batch(edge.QueryBatchRequest(queries)), strict=True):
        others = [other for other in nearest if other.id != point.id]
        rows.append((results.wire_id(point.id), others[:limit]))
    return rows


def _named(vector: Any, name: str) -> Any:
    return vector[name] if isinstance(vector, dict) else vector
