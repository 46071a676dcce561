"""Requests to the vector store that no client would send: valid ones of every route, with something broken in them."""

from __future__ import annotations

import copy
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

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


_DENSE = [0.1, 0.2, 0.3, 0.4]
_SPARSE = {"indices": [1, 1003], "values": [1.0, 2.0]}
_FILTER: dict[str, Any] = {
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
_IDS = [1, 3, str(uuid.UUID(int=2))]
_PREFETCH = [
    {"query": _DENSE, "using": "dense", "limit": 20, "filter": _FILTER, "score_threshold": 0.1},
    {
        "query": _SPARSE,
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
_QUERIES: list[Any] = [
    _DENSE,
    3,
    {"nearest": _DENSE, "mmr": {"diversity": 0.5, "candidates_limit": 20}},
    {"recommend": {"positive": [1, _DENSE], "negative": [3], "strategy": "best_score"}},
    {"discover": {"target": 1, "context": [{"positive": 3, "negative": 5}]}},
    {"context": [{"positive": 1, "negative": _DENSE}]},
    {"order_by": {"key": "number", "direction": "desc", "start_from": 20}},
    {"sample": "random"},
    {
        "relevance_feedback": {
            "target": _DENSE,
            "feedback": [{"example": 1, "score": 0.5}, {"example": 3, "score": 0.1}],
            "strategy": {"naive": {"a": 0.1, "b": 0.2, "c": 0.3}},
        }
    },
]
_FUSED: list[Any] = [
    {"fusion": "rrf"},
    {"fusion": "dbsf"},
    {"rrf": {"k": 60, "weights": [2.0, 1.0]}},
    {"formula": _FORMULA, "defaults": {"share": 1.0, "number": 2, "at": "2026-01-01", "place": {"lon": 8, "lat": 47}}},
]
_READ = {"with_payload": {"include": ["number", "list[].a"]}, "with_vector": ["dense"], "limit": 5}
_PARAMS = {"hnsw_ef": 32, "exact": False, "quantization": {"ignore": True}}
_QUERY = {"query": _DENSE, "using": "dense", "filter": _FILTER, "params": _PARAMS, "offset": 1, **_READ}
_GROUPED = {"group_by": "word", "group_size": 2, "with_lookup": {"collection": "known", "with_payload": True}}
_SET = {"payload": {"number": 7, "new": {"deep": [1]}}, "points": _IDS, "key": "list"}
_OPERATIONS: dict[str, Any] = {
    "upsert": {"points": [point(1), point(60)], "update_filter": _FILTER},
    "delete": {"points": [40]},
    "set_payload": _SET,
    "overwrite_payload": {"payload": {"number": 1}, "filter": _FILTER},
    "delete_payload": {"keys": ["new", "list[0].a"], "points": _IDS},
    "clear_payload": {"filter": _FILTER},
    "update_vectors": {"points": [{"id": 1, "vector": {"dense": _DENSE, "lexical": _SPARSE}}]},
    "delete_vectors": {"points": _IDS, "vector": ["many"]},
}
_TEXT_INDEX = {
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
_SETTINGS: dict[str, Any] = {
    "optimizers_config": {"indexing_threshold": 10_000, "default_segment_number": 2, "deleted_threshold": 0.2},
    "hnsw_config": {"m": 16, "ef_construct": 100, "full_scan_threshold": 10_000},
}
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
        {**COLLECTION, **_SETTINGS, "on_disk_payload": True, "wal_config": {"wal_capacity_mb": 1}},
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
    ("PATCH", _C, {**_SETTINGS, "metadata": {"live_release": 2}, "vectors": {"dense": {"on_disk": True}}}),
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
    ("PUT", f"{_C}/index", {"field_name": "text", "field_schema": _TEXT_INDEX}),
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
                "vectors": {"dense": [_DENSE, _DENSE], "lexical": [_SPARSE, _SPARSE], "many": [[[1, 2]], [[3, 4]]]},
                "payloads": [{"a": 1}, None],
            }
        },
    ),
    ("POST", f"{_P}/delete", _OPERATIONS["delete"]),
    ("POST", f"{_P}/delete", {"filter": _FILTER}),
    ("POST", f"{_P}/payload", _SET),
    ("PUT", f"{_P}/payload", _OPERATIONS["overwrite_payload"]),
    ("POST", f"{_P}/payload/delete", _OPERATIONS["delete_payload"]),
    ("POST", f"{_P}/payload/clear", _OPERATIONS["clear_payload"]),
    ("PUT", f"{_P}/vectors", _OPERATIONS["update_vectors"]),
    ("POST", f"{_P}/vectors/delete", _OPERATIONS["delete_vectors"]),
    ("POST", f"{_P}/batch", {"operations": [{kind: body} for kind, body in _OPERATIONS.items()]}),
    ("POST", _P, {"ids": _IDS, "with_payload": ["number"], "with_vector": True}),
    ("POST", f"{_P}/scroll", {"filter": _FILTER, "offset": 1, **_READ}),
    ("POST", f"{_P}/scroll", {"order_by": {"key": "number", "direction": "desc", "start_from": 9}, **_READ}),
    ("POST", f"{_P}/count", {"filter": _FILTER, "exact": True}),
    ("POST", f"{_C}/facet", {"key": "word", "limit": 3, "filter": _FILTER, "exact": True}),
    *[("POST", f"{_P}/query", {**_QUERY, "query": query}) for query in _QUERIES],
    *[("POST", f"{_P}/query", {"prefetch": _PREFETCH, "query": query, **_READ}) for query in _FUSED],
    ("POST", f"{_P}/query", {**_QUERY, "lookup_from": {"collection": "known", "vector": "dense"}, "query": 1}),
    ("POST", f"{_P}/query", {"query": _SPARSE, "using": "lexical", "params": {"idf": {"corpus": _FILTER}}}),
    ("POST", f"{_P}/query", {"query": [[1.0, 0.5], [0.0, 1.0]], "using": "many", "score_threshold": 0.2}),
    ("POST", f"{_P}/query", {"query": {"text": "open", "model": "qdrant/bm25"}, "using": "lexical"}),
    ("POST", f"{_P}/query/batch", {"searches": [_QUERY, {"prefetch": _PREFETCH, "query": _FUSED[0]}]}),
    ("POST", f"{_P}/query/groups", {"query": _DENSE, "using": "dense", **_GROUPED}),
    ("POST", f"{_P}/search", {"vector": {"name": "dense", "vector": _DENSE}, "filter": _FILTER, **_READ}),
    ("POST", f"{_P}/search/batch", {"searches": [{"vector": {"name": "lexical", "vector": _SPARSE}, "limit": 3}]}),
    ("POST", f"{_P}/search/groups", {"vector": {"name": "dense", "vector": _DENSE}, "limit": 3, **_GROUPED}),
    ("POST", f"{_P}/search/matrix/pairs", {"sample": 5, "limit": 2, "using": "dense", "filter": _FILTER}),
    ("POST", f"{_P}/search/matrix/offsets", {"sample": 5, "limit": 2, "using": "dense"}),
    ("POST", f"{_P}/recommend", {"positive": [1], "negative": [3], "using": "dense", "limit": 3}),
    ("POST", f"{_P}/recommend/batch", {"searches": [{"positive": [1], "using": "dense", "limit": 3}]}),
    ("POST", f"{_P}/recommend/groups", {"positive": [1], "using": "dense", "limit": 3, **_GROUPED}),
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


@dataclass(frozen=True)
class Rubbish:
    """A request; `path` has `{c}` where the collection's name goes."""

    method: str
    path: str
    query: str
    body: bytes

    def __repr__(self) -> str:
        return f"{self.method} {self.path}?{self.query} {self.body[:3000]!r}"


_VALUES: list[Any] = [
    None,
    True,
    0,
    -1,
    1,
    2**31,
    2**32,
    2**53,
    2**63,
    2**64 - 1,
    2**64,
    10**30,
    -(2**63) - 1,
    1.5,
    -0.0,
    1e39,
    1e308,
    5e-324,
    float("nan"),
    float("inf"),
    "",
    "a",
    "dense",
    "lexical",
    "many",
    "\x00",
    "\ud800",
    "a\udfffb",
    "../..",
    "x" * 5000,
    "a[",
    "a[].b.",
    "$score",
    "9999-99-99",
    "-1",
    [],
    [[]],
    [[[]]],
    [None],
    {},
    {"": {}},
    {"a": None},
    {"indices": [1, 1], "values": [1, 2]},
    {"indices": [2**32], "values": [1]},
    {"indices": [1], "values": []},
    {"must": []},
    [0.0, 0.0, 0.0, 0.0],
    [1.0, 2.0],
    [float("nan")] * 4,
    [3e38, 3e38, 3e38, 3e38],
    list(range(2000)),
]
_PATHS = [
    "%00",
    "%ff",
    "%2f",
    "..",
    "%2e%2e",
    "%25",
    "x" * 300,
    "%F0%9F%98%80",
    "0",
    "-1",
    "18446744073709551616",
    "%0a",
]
_PARAMETERS = ["wait=true", "wait=1", "wait", "ordering=strong", "ordering=x", "timeout=-1", "timeout=1", "timeout=x", "%ff=%00", "a=b&a=c", "wait=true&wait=false", "consistency=0", "priority=snapshot", "details_level=99999999999", "anonymize=x"]  # fmt: skip


def _places(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value of a document, the document itself first."""
    found = [way]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += _places(item, (*way, key))
    return found


def _nested(depth: int, inner: Any) -> Any:
    for turn in range(depth):
        inner = [inner] if turn % 2 else {"must": inner}
    return inner


@st.composite
def _broken(draw: st.DrawFn, body: Any) -> Any:
    """The document with one thing wrong with it."""
    place = draw(st.sampled_from(_places(body)))
    if not place:
        return draw(st.sampled_from(_VALUES))
    body = copy.deepcopy(body)
    holder = body
    for key in place[:-1]:
        holder = holder[key]
    key = place[-1]
    kind = draw(
        st.sampled_from(["value", "value", "value", "gone", "extra", "twice", "empty", "wrapped", "deep", "any"])
    )
    if kind == "gone":
        del holder[key]
    elif kind == "extra" and isinstance(holder, dict):
        holder[draw(st.sampled_from(["extra", "", "key", "filter", "limit", "\ud800", "vector"]))] = holder[key]
    elif kind == "twice" and isinstance(holder, list):
        holder += [holder[key]] * draw(st.sampled_from([1, 2, 1000]))
    elif kind == "empty":
        holder[key] = type(holder[key])()
    elif kind == "wrapped":
        holder[key] = [holder[key]]
    elif kind == "deep":
        holder[key] = _nested(draw(st.sampled_from([10, 33, 65, 130, 400])), holder[key])
    elif kind == "any":
        holder[key] = draw(st.one_of(st.integers(), st.floats(), st.text(max_size=20)))
    else:
        holder[key] = draw(st.sampled_from(_VALUES))
    return body


@st.composite
def _bytes(draw: st.DrawFn, body: bytes) -> bytes:
    """What is not even JSON, or hardly."""
    kind = draw(st.sampled_from(["cut", "rubbish", "nothing", "deep", "twice", "invalid"]))
    if kind == "cut":
        return body[: draw(st.integers(0, len(body)))]
    if kind == "twice":
        return body + body
    if kind == "invalid":
        return body.replace(b'"', b'"\xff\xfe', draw(st.integers(1, 3)))
    given = {"rubbish": draw(st.binary(max_size=50)), "nothing": b"", "deep": b'{"must":[' * 20_000}
    return given[kind]


def wrong_types() -> Iterator[Rubbish]:
    """Every value of every route's body once, replaced by values of other types; what routes share is broken once."""
    done: set[str] = set()
    for method, path, body in SHAPES:
        route = path.replace("{made}", "made-1")
        for place in _places(body) if body is not None else []:
            value = _at(body, place)
            same = f"{method} {place[-2:]} {value!r}" if len(place) > 2 else f"{method} {path} {place}"
            if same in done:
                continue
            done.add(same)
            for wrong in ([], {}, [[1]], {"a": []}, "\ud800", -1, 1.5, True, None, float("nan"), 2**70):
                content = json.dumps(_replaced(body, place, wrong)).encode()
                yield Rubbish(method, route, "", content)


def _at(body: Any, place: tuple[Any, ...]) -> Any:
    for key in place:
        body = body[key]
    return body


def _replaced(body: Any, place: tuple[Any, ...], value: Any) -> Any:
    if not place:
        return value
    body = copy.deepcopy(body)
    _at(body, place[:-1])[place[-1]] = value
    return body


@st.composite
def requests(draw: st.DrawFn) -> Rubbish:
    """A request to some route, with up to three things wrong with its body, and sometimes with its address."""
    method, path, body = draw(st.sampled_from(SHAPES))
    for _ in range(draw(st.sampled_from([0, 1, 1, 1, 2, 3]))):
        body = draw(_broken(body)) if body is not None else draw(st.sampled_from([None, None, {}, []]))
    content = b"" if body is None else json.dumps(body).encode()
    if draw(st.integers(0, 9)) == 0:
        content = draw(_bytes(content))
    query = draw(st.sampled_from(["", "wait=true", "wait=true", draw(st.sampled_from(_PARAMETERS))]))
    if draw(st.integers(0, 9)) == 0 and "{made}" not in path:
        path = f"{path}/{draw(st.sampled_from(_PATHS))}".replace("//", "/")
        if draw(st.booleans()):
            path = path.replace(path.rsplit("/", 2)[1], draw(st.sampled_from(_PATHS)))
    name = draw(st.sampled_from(["made-1", "made-2", "made%2f3", "made-%F0%9F%98%80", "%00", "%20", "..", "x" * 300]))
    return Rubbish(method, path.replace("{made}", name), query, content)
