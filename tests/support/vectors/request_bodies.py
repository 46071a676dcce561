"""A collection with everything that the vector store can keep, its points, and what requests to it are made of."""

from __future__ import annotations

import uuid
from typing import Any

COLLECTION: dict[str, Any] = {
    "vectors": {
        "dense": {"size": 4, "distance": "Cosine"},
        "many": {"size": 2, "distance": "Dot", "multivector_config": {"comparator": "max_sim"}},
    },
    "sparse_vectors": {"lexical": {"modifier": "idf"}},
    "metadata": {"live_release": 1},
}
INDEXES = {
    "number": "integer",
    "word": "keyword",
    "text": "text",
    "at": "datetime",
    "place": "geo",
    "share": "float",
    "yes": "bool",
    "key": "uuid",
}


def point(number: int) -> dict[str, Any]:
    """A point with every kind of vector and of payload."""
    return {
        "id": number if number % 2 else str(uuid.UUID(int=number)),
        "vector": {
            "dense": [number / 50, 0.5, -1.0, 1.0],
            "many": [[1.0, number / 10], [0.5, 0.25]],
            "lexical": {"indices": [1, 5, 1000 + number], "values": [1.0, 0.5, 2.0]},
        },
        "payload": {
            "number": number,
            "word": f"w{number % 5}",
            "text": "open the door",
            "at": "2026-01-02T03:04:05Z",
            "place": {"lon": 8.5, "lat": 47.0},
            "share": number / 50,
            "yes": number % 2 == 0,
            "key": str(uuid.UUID(int=number)),
            "list": [{"a": 1, "b": [2, 3]}, {"a": 4}],
        },
    }


DENSE = [0.1, 0.2, 0.3, 0.4]
SPARSE = {"indices": [1, 1003], "values": [1.0, 2.0]}
FILTER: dict[str, Any] = {
    "must": [
        {"key": "number", "range": {"gte": 3, "lt": 40}},
        {"key": "word", "match": {"any": ["w1", "w2"]}},
        {"has_id": [1, 3, str(uuid.UUID(int=2))]},
    ],
    "should": [
        {"key": "text", "match": {"text": "door"}},
        {"key": "at", "range": {"gt": "2026-01-01T00:00:00Z"}},
        {"key": "place", "geo_radius": {"center": {"lon": 8.5, "lat": 47.0}, "radius": 1000.0}},
        {
            "key": "place",
            "geo_bounding_box": {"top_left": {"lon": 8.0, "lat": 48.0}, "bottom_right": {"lon": 9.0, "lat": 46.0}},
        },
        {
            "key": "place",
            "geo_polygon": {
                "exterior": {
                    "points": [
                        {"lon": 8, "lat": 46},
                        {"lon": 9, "lat": 46},
                        {"lon": 9, "lat": 48},
                        {"lon": 8, "lat": 46},
                    ]
                },
                "interiors": [],
            },
        },
    ],
    "must_not": [{"is_empty": {"key": "nothing"}}, {"is_null": {"key": "word"}}, {"has_vector": "dense"}],
    "min_should": {
        "conditions": [
            {"key": "list", "values_count": {"gte": 1}},
            {"nested": {"key": "list", "filter": {"must": [{"key": "a", "match": {"value": 1}}]}}},
            {"key": "word", "match": {"except": ["w9"]}},
        ],
        "min_count": 1,
    },
}
IDS = [1, 3, str(uuid.UUID(int=2))]
PREFETCH = [
    {"query": DENSE, "using": "dense", "limit": 20, "filter": FILTER, "score_threshold": 0.1},
    {
        "query": SPARSE,
        "using": "lexical",
        "limit": 20,
        "prefetch": {"query": [[1.0, 0.0]], "using": "many", "limit": 9},
    },
]
_FORMULA = {
    "sum": [
        "$score",
        {"mult": [2.0, "number", {"key": "word", "match": {"value": "w1"}}]},
        {"div": {"left": 1.0, "right": "share", "by_zero_default": 0.0}},
        {"pow": {"base": 2.0, "exponent": "share"}},
        {"exp": "share"},
        {"log10": {"abs": {"neg": "number"}}},
        {"geo_distance": {"origin": {"lon": 8.0, "lat": 47.0}, "to": "place"}},
        {"exp_decay": {"x": {"datetime_key": "at"}, "target": {"datetime": "2026-01-01"}, "scale": 86400.0}},
    ]
}
QUERIES: list[Any] = [
    DENSE,
    3,
    {"nearest": DENSE, "mmr": {"diversity": 0.5, "candidates_limit": 20}},
    {"recommend": {"positive": [1, DENSE], "negative": [3], "strategy": "best_score"}},
    {"discover": {"target": 1, "context": [{"positive": 3, "negative": 5}]}},
    {"context": [{"positive": 1, "negative": DENSE}]},
    {"order_by": {"key": "number", "direction": "desc", "start_from": 20}},
    {"sample": "random"},
    {
        "relevance_feedback": {
            "target": DENSE,
            "feedback": [{"example": 1, "score": 0.5}, {"example": 3, "score": 0.1}],
            "strategy": {"naive": {"a": 0.1, "b": 0.2, "c": 0.3}},
        }
    },
]
FUSED: list[Any] = [
    {"fusion": "rrf"},
    {"fusion": "dbsf"},
    {"rrf": {"k": 60, "weights": [2.0, 1.0]}},
    {"formula": _FORMULA, "defaults": {"share": 1.0, "number": 2, "at": "2026-01-01", "place": {"lon": 8, "lat": 47}}},
]
READ = {"with_payload": {"include": ["number", "list[].a"]}, "with_vector": ["dense"], "limit": 5}
_PARAMS = {"hnsw_ef": 32, "exact": False, "quantization": {"ignore": True}}
QUERY = {"query": DENSE, "using": "dense", "filter": FILTER, "params": _PARAMS, "offset": 1, **READ}
GROUPED = {"group_by": "word", "group_size": 2, "with_lookup": {"collection": "known", "with_payload": True}}
SET = {"payload": {"number": 7, "new": {"deep": [1]}}, "points": IDS, "key": "list"}
OPERATIONS: dict[str, Any] = {
    "upsert": {"points": [point(1), point(60)], "update_filter": FILTER},
    "delete": {"points": [40]},
    "set_payload": SET,
    "overwrite_payload": {"payload": {"number": 1}, "filter": FILTER},
    "delete_payload": {"keys": ["new", "list[0].a"], "points": IDS},
    "clear_payload": {"filter": FILTER},
    "update_vectors": {"points": [{"id": 1, "vector": {"dense": DENSE, "lexical": SPARSE}}]},
    "delete_vectors": {"points": IDS, "vector": ["many"]},
}
TEXT_INDEX = {
    "type": "text",
    "tokenizer": "word",
    "min_token_len": 2,
    "max_token_len": 9,
    "lowercase": True,
    "stopwords": {"languages": ["english"], "custom": ["x"]},
    "stemmer": {"type": "snowball", "language": "english"},
    "phrase_matching": True,
    "on_disk": True,
}
SETTINGS: dict[str, Any] = {
    "optimizers_config": {"indexing_threshold": 10_000, "default_segment_number": 2, "deleted_threshold": 0.2},
    "hnsw_config": {"m": 16, "ef_construct": 100, "full_scan_threshold": 10_000},
}
