"""What `/collections/{name}/points/query...` and `.../search/matrix...` do."""

from typing import Any

import msgspec
import qdrant_edge as edge

from embedded.qdrant.api.http import Request
from embedded.qdrant.errors import not_found
from embedded.qdrant.requests import matrix
from embedded.qdrant.requests.groups import QueryGroupsBody, query_groups
from embedded.qdrant.requests.queries import Query, QueryBatch, QueryBody
from embedded.qdrant.shards.collection import Collection
from embedded.qdrant.shards.store import Store

Object = dict[str, Any]

_query = msgspec.json.Decoder(QueryBody)
_query_batch = msgspec.json.Decoder(QueryBatch)
_query_groups = msgspec.json.Decoder(QueryGroupsBody)
_matrix = msgspec.json.Decoder(matrix.MatrixBody)


class Searches:
    """The handlers, over one store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def query(self, request: Request) -> Object:
        """POST /points/query."""
        collection, body = self._collection(request), request.json(_query)

        def answer(shard: edge.EdgeShard) -> list[Object]:
            query = Query(body, collection, self._other)
            return query.shown(shard.query(query.request))

        return {"points": collection.read(answer)}

    def query_batch(self, request: Request) -> list[Object]:
        """POST /points/query/batch: the engine plans them as one."""
        collection, bodies = self._collection(request), request.json(_query_batch).searches

        def answer(shard: edge.EdgeShard) -> list[Object]:
            queries = [Query(body, collection, self._other) for body in bodies]
            found = shard.query_batch(edge.QueryBatchRequest([query.request for query in queries]))
            return [{"points": query.shown(points)} for query, points in zip(queries, found, strict=True)]

        return collection.read(answer) if bodies else []

    def query_groups(self, request: Request) -> Object:
        """POST /points/query/groups."""
        collection, body = self._collection(request), request.json(_query_groups)
        return {"groups": query_groups(body, collection, self._other)}

    def matrix_pairs(self, request: Request) -> Object:
        """POST /points/search/matrix/pairs."""
        return matrix.pairs(matrix.matrix_rows(request.json(_matrix), self._collection(request)))

    def matrix_offsets(self, request: Request) -> Object:
        """POST /points/search/matrix/offsets."""
        return matrix.offsets(matrix.matrix_rows(request.json(_matrix), self._collection(request)))

    def _collection(self, request: Request) -> Collection:
        return self._store.get(request.path["name"])

    def _other(self, name: str) -> Collection:
        if not self._store.exists(name):
            raise not_found(f"Collection {name} not found")
        return self._store.get(name)
