"""Valid requests to every route of the vector store."""

from __future__ import annotations

import uuid
from typing import Any

from tests.support.vectors.request_bodies import (
    COLLECTION,
    DENSE,
    FILTER,
    FUSED,
    GROUPED,
    IDS,
    INDEXES,
    OPERATIONS,
    PREFETCH,
    QUERIES,
    QUERY,
    READ,
    SET,
    SETTINGS,
    SPARSE,
    TEXT_INDEX,
    point,
)

_C = "/collections/{c}"
_P = f"{_C}/points"
SHAPES: list[tuple[str, str, Any]] = [
    *[
        ("GET", path, None)
        for path in ("/", "/collections", "/aliases", "/metrics", "/telemetry", "/issues", "/readyz")
    ],
    *[("GET", _C + path, None) for path in ("", "/exists", "/aliases", "/optimizations", "/cluster", "/snapshots")],
    *[("GET", f"{_P}/{given}", None) for given in (1, 999, uuid.UUID(int=2))],
    (
        "PUT",
        "/collections/{made}",
        {**COLLECTION, **SETTINGS, "on_disk_payload": True, "wal_config": {"wal_capacity_mb": 1}},
    ),
    ("PUT", "/collections/{made}", {"vectors": {"size": 4, "distance": "Dot", "datatype": "uint8", "on_disk": True}}),
    (
        "PUT",
        "/collections/{made}",
        {
            "vectors": {"size": 4, "distance": "Dot"},
            "quantization_config": {"scalar": {"type": "int8", "quantile": 0.9}},
        },
    ),
    ("DELETE", "/collections/{made}", None),
    ("PATCH", _C, {**SETTINGS, "metadata": {"live_release": 2}, "vectors": {"dense": {"on_disk": True}}}),
    ("PATCH", _C, {"sparse_vectors": {"lexical": {"index": {"on_disk": True}}}, "params": {"on_disk_payload": True}}),
    (
        "POST",
        "/collections/aliases",
        {
            "actions": [
                {"create_alias": {"collection_name": "known", "alias_name": "other"}},
                {"rename_alias": {"old_alias_name": "other", "new_alias_name": "another"}},
                {"delete_alias": {"alias_name": "another"}},
            ]
        },
    ),
    *[("PUT", f"{_C}/index", {"field_name": name, "field_schema": kind}) for name, kind in INDEXES.items()],
    ("PUT", f"{_C}/index", {"field_name": "text", "field_schema": TEXT_INDEX}),
    (
        "PUT",
        f"{_C}/index",
        {"field_name": "list[].a", "field_schema": {"type": "integer", "lookup": True, "range": False}},
    ),
    ("DELETE", f"{_C}/index/yes", None),
    ("PUT", f"{_C}/vectors/more", {"dense": {"size": 3, "distance": "Euclid"}}),
    ("DELETE", f"{_C}/vectors/more", None),
    ("PUT", _P, {"points": [point(1), point(2)]}),
    ("PUT", _P, {"points": [{"id": 70, "vector": {"lexical": {"text": "open doors", "model": "qdrant/bm25"}}}]}),
    (
        "PUT",
        _P,
        {
            "batch": {
                "ids": [1, 61],
                "vectors": {"dense": [DENSE, DENSE], "lexical": [SPARSE, SPARSE], "many": [[[1, 2]], [[3, 4]]]},
                "payloads": [{"a": 1}, None],
            }
        },
    ),
    ("POST", f"{_P}/delete", OPERATIONS["delete"]),
    ("POST", f"{_P}/delete", {"filter": FILTER}),
    ("POST", f"{_P}/payload", SET),
    ("PUT", f"{_P}/payload", OPERATIONS["overwrite_payload"]),
    ("POST", f"{_P}/payload/delete", OPERATIONS["delete_payload"]),
    ("POST", f"{_P}/payload/clear", OPERATIONS["clear_payload"]),
    ("PUT", f"{_P}/vectors", OPERATIONS["update_vectors"]),
    ("POST", f"{_P}/vectors/delete", OPERATIONS["delete_vectors"]),
    ("POST", f"{_P}/batch", {"operations": [{kind: body} for kind, body in OPERATIONS.items()]}),
    ("POST", _P, {"ids": IDS, "with_payload": ["number"], "with_vector": True}),
    ("POST", f"{_P}/scroll", {"filter": FILTER, "offset": 1, **READ}),
    ("POST", f"{_P}/scroll", {"order_by": {"key": "number", "direction": "desc", "start_from": 9}, **READ}),
    ("POST", f"{_P}/count", {"filter": FILTER, "exact": True}),
    ("POST", f"{_C}/facet", {"key": "word", "limit": 3, "filter": FILTER, "exact": True}),
    *[("POST", f"{_P}/query", {**QUERY, "query": query}) for query in QUERIES],
    *[("POST", f"{_P}/query", {"prefetch": PREFETCH, "query": query, **READ}) for query in FUSED],
    ("POST", f"{_P}/query", {**QUERY, "lookup_from": {"collection": "known", "vector": "dense"}, "query": 1}),
    ("POST", f"{_P}/query", {"query": SPARSE, "using": "lexical", "params": {"idf": {"corpus": FILTER}}}),
    ("POST", f"{_P}/query", {"query": [[1.0, 0.5], [0.0, 1.0]], "using": "many", "score_threshold": 0.2}),
    ("POST", f"{_P}/query", {"query": {"text": "open", "model": "qdrant/bm25"}, "using": "lexical"}),
    ("POST", f"{_P}/query/batch", {"searches": [QUERY, {"prefetch": PREFETCH, "query": FUSED[0]}]}),
    ("POST", f"{_P}/query/groups", {"query": DENSE, "using": "dense", **GROUPED}),
    ("POST", f"{_P}/search", {"vector": {"name": "dense", "vector": DENSE}, "filter": FILTER, **READ}),
    ("POST", f"{_P}/search/batch", {"searches": [{"vector": {"name": "lexical", "vector": SPARSE}, "limit": 3}]}),
    ("POST", f"{_P}/search/groups", {"vector": {"name": "dense", "vector": DENSE}, "limit": 3, **GROUPED}),
    ("POST", f"{_P}/search/matrix/pairs", {"sample": 5, "limit": 2, "using": "dense", "filter": FILTER}),
    ("POST", f"{_P}/search/matrix/offsets", {"sample": 5, "limit": 2, "using": "dense"}),
    ("POST", f"{_P}/recommend", {"positive": [1], "negative": [3], "using": "dense", "limit": 3}),
    ("POST", f"{_P}/recommend/batch", {"searches": [{"positive": [1], "using": "dense", "limit": 3}]}),
    ("POST", f"{_P}/recommend/groups", {"positive": [1], "using": "dense", "limit": 3, **GROUPED}),
    (
        "POST",
        f"{_P}/discover",
        {"target": 1, "context": [{"positive": 3, "negative": 5}], "using": "dense", "limit": 3},
    ),
    ("POST", f"{_P}/discover/batch", {"searches": [{"target": 1, "using": "dense", "limit": 3}]}),
    ("PUT", f"{_C}/snapshots/recover", {"location": "file:///nowhere/x.snapshot", "priority": "snapshot"}),
    ("POST", f"{_C}/snapshots", None),
    ("GET", f"{_C}/snapshots/nothing.snapshot", None),
    ("DELETE", f"{_C}/snapshots/nothing.snapshot", None),
]
"""Method, path and body of valid requests, at least one for each route. `{made}` is a collection of the request's own."""
