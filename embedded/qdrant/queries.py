"""Queries from decoded JSON to the engine's classes: nearest, by id, prefetch stages, fusion, order."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import msgspec
import qdrant_edge as edge
from msgspec import Meta

from embedded.qdrant.config import CollectionConfig
from embedded.qdrant.convert import fields, number, text, to_filter, to_payload_selector, to_vector_selector
from embedded.qdrant.errors import bad_request, not_built
from embedded.qdrant.formula import to_formula
from embedded.qdrant.validate import EngineVector, PointId, point_id, shortened, vector, vector_name

Object = dict[str, Any]
Lookup = Callable[[PointId, str], EngineVector]
"""Gives a stored point's vector by id and vector name; raises ApiError where there is none."""

MAX_PREFETCH_DEPTH = 16
DEFAULT_LIMIT = 10
Limit = Annotated[int, Meta(ge=1, lt=2**62)]
Offset = Annotated[int, Meta(ge=0, lt=2**62)]


class Quantization(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a search uses quantized vectors, of which this server has none."""

    ignore: bool | None = None
    rescore: bool | None = None
    oversampling: float | None = None


class Acorn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Search through the graph under a narrow filter."""

    enable: bool | None = None
    max_selectivity: float | None = None


class SearchParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The `params` of a search."""

    hnsw_ef: Annotated[int, Meta(ge=0, lt=2**62)] | None = None
    exact: bool | None = None
    quantization: Quantization | None = None
    indexed_only: bool | None = None
    acorn: Acorn | None = None
    idf: Any = None

    def for_engine(self, config: CollectionConfig) -> edge.SearchParams:
        """The engine's form. `idf.corpus` is a filter: word rarity is then counted among its points only."""
        acorn = self.acorn and edge.AcornSearchParams(bool(self.acorn.enable), self.acorn.max_selectivity)
        idf = None
        if self.idf is not None and self.idf != "global":
            given = fields(self.idf, frozenset({"corpus"}), "`params.idf`")
            idf = edge.IdfParams(to_filter(given.get("corpus"), config))
        return edge.SearchParams(
            hnsw_ef=self.hnsw_ef,
            exact=bool(self.exact),
            indexed_only=bool(self.indexed_only),
            acorn=acorn,
            idf=idf,
        )


class Stage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a query and each of its prefetches have in common."""

    prefetch: "list[Stage] | Stage | None" = None
    query: Any = None
    using: str | None = None
    filter: Any = None
    params: SearchParams | None = None
    score_threshold: float | None = None
    limit: Limit | None = None
    lookup_from: Any = None


class QueryBody(Stage, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The body of `POST .../points/query`."""

    offset: Offset | None = None
    with_payload: Any = None
    with_vector: Any = None
    shard_key: Any = None


class QueryBatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST .../points/query/batch`."""

    searches: list[QueryBody]


def to_query(body: QueryBody, config: CollectionConfig, lookup: Lookup) -> edge.QueryRequest:
    """One request in the engine's form. Raises ApiError for whatever the engine must not see."""
    if body.shard_key is not None:
        raise not_built("shard keys")
    parts = _Parts(body, config, lookup, depth=0)
    return edge.QueryRequest(
        body.limit or DEFAULT_LIMIT,
        offset=body.offset or 0,
        query=parts.query,
        prefetches=parts.prefetches,
        with_vector=to_vector_selector(body.with_vector, config),
        with_payload=to_payload_selector(body.with_payload, default=False),
        filter=parts.filter,
        score_threshold=body.score_threshold,
        params=parts.params,
    )


class _Parts:
    """The converted parts that a query and a prefetch share."""

    def __init__(self, stage: Stage, config: CollectionConfig, lookup: Lookup, depth: int) -> None:
        if depth > MAX_PREFETCH_DEPTH:
            raise bad_request(f"prefetches can be nested {MAX_PREFETCH_DEPTH} levels deep")
        if stage.lookup_from is not None:
            raise not_built("`lookup_from`: look the vector up with a request of its own")
        given = stage.prefetch if isinstance(stage.prefetch, list) else [stage.prefetch] if stage.prefetch else []
        self.prefetches = [_prefetch(inner, config, lookup, depth + 1) for inner in given]
        self.filter = to_filter(stage.filter, config)
        self.params = stage.params.for_engine(config) if stage.params else None
        self.query = None
        if stage.query is not None:
            self.query, used = _scoring(stage, config, lookup)
            if used is not None:
                # A point is not an answer to the question which points are like it.
                self.filter = edge.Filter(
                    must=[self.filter] if self.filter else None, must_not=[edge.HasIdCondition({used})]
                )


def _prefetch(stage: Stage, config: CollectionConfig, lookup: Lookup, depth: int) -> edge.Prefetch:
    parts = _Parts(stage, config, lookup, depth)
    return edge.Prefetch(
        stage.limit or DEFAULT_LIMIT,
        query=parts.query,
        prefetches=parts.prefetches,
        params=parts.params,
        filter=parts.filter,
        score_threshold=stage.score_threshold,
    )


def _scoring(stage: Stage, config: CollectionConfig, lookup: Lookup) -> tuple[Any, PointId | None]:
    """The engine's query, and the id of the stored point that it was taken from."""
    query = stage.query
    if not isinstance(query, Mapping) or "indices" in query:
        return _nearest(query, stage, config, lookup)
    if "nearest" in query:
        given = fields(query, frozenset({"nearest", "mmr"}), "a query")
        if "mmr" in given:
            raise not_built("`mmr` in a query")
        return _nearest(given.get("nearest"), stage, config, lookup)
    if "model" in query:
        raise not_built("inference: send vectors, not texts or images")
    if "fusion" in query:
        return _fusion(fields(query, frozenset({"fusion"}), "a query")), None
    if "rrf" in query:
        return _rrf(query["rrf"]), None
    if "formula" in query:
        return to_formula(fields(query, frozenset({"formula", "defaults"}), "a formula query"), config), None
    if "order_by" in query:
        return to_order_by(query["order_by"]), None
    if query == {"sample": "random"}:
        return edge.Sample.Random, None
    for kind in ("recommend", "discover", "context", "relevance_feedback", "text"):
        if kind in query:
            raise not_built(f"`{kind}` queries")
    raise bad_request(f"there is no query of this shape: {shortened(query)}")


def _nearest(value: Any, stage: Stage, config: CollectionConfig, lookup: Lookup) -> tuple[edge.Query, PointId | None]:
    name = vector_name(config, stage.using)
    if isinstance(value, int | str):
        wanted = point_id(value)
        return edge.Query.Nearest(lookup(wanted, name), name or None), wanted
    return edge.Query.Nearest(vector(config, name, value), name or None), None


def _fusion(given: Object) -> Any:
    if given["fusion"] == "rrf":
        return edge.Fusion.Rrf(k=RRF_K)
    if given["fusion"] == "dbsf":
        return edge.Fusion.Dbsf()
    raise bad_request(f"`fusion` is rrf or dbsf, not {shortened(given['fusion'])}")


def _rrf(value: Any) -> Any:
    given = fields(value, frozenset({"k", "weights"}), "`rrf`")
    k, weights = given.get("k", RRF_K), given.get("weights")
    # The best rank is 0, so a k of 0 would divide by it.
    if type(k) is not int or not 1 <= k < 2**31:
        raise bad_request(f"`rrf.k` is a whole number of at least 1, not {shortened(k)}")
    if weights is not None:
        if not isinstance(weights, list):
            raise bad_request("`rrf.weights` is a list of numbers, one for each prefetch")
        weights = [number(weight, "`rrf.weights`") for weight in weights]
    return edge.Fusion.Rrf(k=k, weights=weights)


def to_order_by(value: Any) -> edge.OrderBy:
    """An order by a payload value: its path, or an object with `key`, `direction` and `start_from`."""
    if isinstance(value, str):
        return edge.OrderBy(value)
    given = fields(value, frozenset({"key", "direction", "start_from"}), "`order_by`")
    direction = given.get("direction", "asc")
    if direction not in _DIRECTIONS:
        raise bad_request(f"`order_by.direction` is asc or desc, not {shortened(direction)}")
    start = given.get("start_from")
    if start is not None and type(start) not in (int, float, str):
        raise bad_request("`order_by.start_from` is a number or a datetime")
    return edge.OrderBy(text(given.get("key"), "`order_by.key`"), _DIRECTIONS[direction], start)


RRF_K = 2
"""Qdrant's default for reciprocal rank fusion."""

_DIRECTIONS = {"asc": edge.Direction.Asc, "desc": edge.Direction.Desc}
