"""Queries from decoded JSON to the engine's requests: their stages, filters, limits and parameters."""

from typing import Annotated, Any

import msgspec
import qdrant_edge as edge
from msgspec import Meta

from embedded.qdrant.errors import ApiError, bad_request, invalid, not_built
from embedded.qdrant.requests import results
from embedded.qdrant.requests.diversity import Diversify
from embedded.qdrant.requests.scoring import Order, kind_of, to_scoring
from embedded.qdrant.requests.vector_inputs import Find, LookupLocation, VectorInputs
from embedded.qdrant.settings.config import DEFAULT_VECTOR, CollectionConfig
from embedded.qdrant.settings.convert import fields, to_filter, to_payload_selector, to_vector_selector
from embedded.qdrant.shards.collection import Collection

Object = dict[str, Any]

MAX_PREFETCH_DEPTH = 16
DEFAULT_LIMIT = 10
MAX_LIMIT = 2**32
"""No collection has more points; the engine adds to limits and multiplies them."""

Limit = Annotated[int, Meta(ge=1, lt=2**62)]
WireLimit = Annotated[int, Meta(ge=0)]
"""A limit whose lower bound is checked later, so that the refusal is Qdrant's."""


class Quantization(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a search uses quantized vectors."""

    ignore: bool | None = None
    rescore: bool | None = None
    oversampling: Annotated[float, Meta(ge=1)] | None = None


class Acorn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Search through the graph under a narrow filter."""

    enable: bool | None = None
    max_selectivity: float | None = None


class SearchParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The `params` of a search."""

    hnsw_ef: WireLimit | None = None
    exact: bool | None = None
    quantization: Quantization | None = None
    indexed_only: bool | None = None
    acorn: Acorn | None = None
    idf: Any = None

    def for_engine(self, config: CollectionConfig) -> edge.SearchParams:
        """The engine's form. `idf.corpus` is a filter: word rarity is then counted among its points only."""
        if self.hnsw_ef == 0:
            raise invalid("params.hnsw_ef: value 0 invalid, must be 1 or larger")
        given_quantization = self.quantization
        quantization = given_quantization and edge.QuantizationSearchParams(
            ignore=bool(given_quantization.ignore),
            rescore=given_quantization.rescore,
            oversampling=given_quantization.oversampling,
        )
        acorn = self.acorn and edge.AcornSearchParams(bool(self.acorn.enable), self.acorn.max_selectivity)
        idf = None
        if self.idf is not None and self.idf != "global":
            given = fields(self.idf, frozenset({"corpus"}), "`params.idf`")
            idf = edge.IdfParams(to_filter(given.get("corpus"), config))
        return edge.SearchParams(
            hnsw_ef=self.hnsw_ef and min(self.hnsw_ef, MAX_LIMIT),
            exact=bool(self.exact),
            quantization=quantization,
            indexed_only=bool(self.indexed_only),
            acorn=acorn,
            idf=idf,
        )


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """What a query and each of its prefetches have in common. As in Qdrant, other fields are passed over."""

    prefetch: "list[Stage] | Stage | None" = None
    query: Any = None
    using: str | None = None
    filter: Any = None
    params: SearchParams | None = None
    score_threshold: float | None = None
    limit: WireLimit | None = None
    lookup_from: LookupLocation | None = None


class Request(Stage, frozen=True, kw_only=True):
    """What a query and a query in groups have in common."""

    with_payload: Any = None
    with_vector: Any = None
    with_vectors: Any = None
    shard_key: Any = None

    def wanted_vectors(self) -> Any:
        """The selector of vectors, under either of its names."""
        return self.with_vectors if self.with_vector is None else self.with_vector


class QueryBody(Request, frozen=True, kw_only=True):
    """The body of `POST .../points/query`."""

    offset: WireLimit | None = None


class QueryBatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of `POST .../points/query/batch`."""

    searches: list[QueryBody]


class Query:
    """One query: what the engine is asked, and how its answer is shown."""

    def __init__(self, body: QueryBody, collection: Collection, find: Find) -> None:
        """Raises ApiError for whatever the engine must not see."""
        plan = Plan(body, collection, find)
        # What is sampled comes in no order, so there is nothing to skip.
        sampled = body.query is not None and kind_of(body.query) == "sample" and not body.prefetch
        limit, offset = checked_limit(body.limit), 0 if sampled else min(body.offset or 0, MAX_LIMIT)
        vectors = to_vector_selector(body.wanted_vectors(), collection.config)
        payload = to_payload_selector(body.with_payload, default=False)
        self._vectors, self._diversify = vectors, plan.diversify
        self._page = slice(offset, offset + limit)
        if plan.diversify is not None:
            limit, offset = max(plan.diversify.candidates, 1), 0
            vectors = vectors if vectors is True else [*(vectors or []), plan.diversify.name]
        self.request = plan.request(limit, offset=offset, with_payload=payload, with_vector=vectors)

    def shown(self, points: list[edge.ScoredPoint]) -> list[Object]:
        """The points that the engine found, as plain values for JSON."""
        if self._diversify is not None:
            points = self._diversify.picked(points[: self._diversify.candidates], self._page.stop)[self._page]
        found = results.scored(points)
        if self._vectors is not True:
            # Where results were made to differ, they carry the vectors that they were compared by.
            for point in found:
                if "vector" in point:
                    _keep_vectors(point, self._vectors)
        return found


def _keep_vectors(point: Object, wanted: bool | list[str]) -> None:
    if wanted is False:
        del point["vector"]
    elif isinstance(wanted, list) and isinstance(point["vector"], dict) and DEFAULT_VECTOR not in wanted:
        point["vector"] = {name: value for name, value in point["vector"].items() if name in wanted}


class Plan:
    """A query whose every part has been checked and is in the engine's form, for one request or for several."""

    def __init__(self, body: Request, collection: Collection, find: Find, widen: int = 1) -> None:
        """`widen` multiplies the limits of all prefetches. Raises ApiError."""
        if body.shard_key is not None:
            raise not_built("shard keys")
        used: set[Any] = set()
        self._parts = _Parts(body, _Context(collection, find, used, widen), depth=0)
        self._threshold = body.score_threshold
        # A point is not an answer to the question which points are like it.
        self._excluded: list[Any] = [edge.HasIdCondition(used)] if used else []

    @property
    def order(self) -> Order | None:
        """Which scores are the better ones, or None where scores say nothing about the order."""
        return self._parts.order

    @property
    def diversify(self) -> Diversify | None:
        """What remains to be done with the points that the engine finds."""
        return self._parts.diversify

    def request(
        self,
        limit: int,
        *,
        offset: int = 0,
        with_payload: Any = False,
        with_vector: Any = False,
        must: list[Any] | None = None,
        must_not: list[Any] | None = None,
    ) -> edge.QueryRequest:
        """The engine's request; `must` and `must_not` are conditions beside those of the query."""
        given = self._parts.filter
        wanted, unwanted = must or [], [*self._excluded, *(must_not or [])]
        if wanted or unwanted:
            given = edge.Filter(must=[*([given] if given else []), *wanted] or None, must_not=unwanted or None)
        return edge.QueryRequest(
            min(limit, MAX_LIMIT),
            offset=offset,
            query=self._parts.query,
            prefetches=self._parts.prefetches,
            with_vector=with_vector,
            with_payload=with_payload,
            filter=given,
            score_threshold=self._threshold,
            params=self._parts.params,
        )


def checked_limit(value: int | None, where: str = "internal.limit", default: int = DEFAULT_LIMIT) -> int:
    """A limit of at least 1, or the default where none is given."""
    if value == 0:
        raise invalid(f"{where}: value 0 invalid, must be 1 or larger")
    return default if value is None else min(value, MAX_LIMIT)


class _Context(msgspec.Struct, frozen=True):
    """What all stages of a query share; `used` collects the points whose vectors are searched with."""

    collection: Collection
    find: Find
    used: set[Any]
    widen: int


class _Parts:
    """The converted parts that a query and a prefetch share."""

    def __init__(self, stage: Stage, context: _Context, depth: int) -> None:
        if depth > MAX_PREFETCH_DEPTH:
            raise bad_request(f"prefetches can be nested {MAX_PREFETCH_DEPTH} levels deep")
        limit, config = checked_limit(stage.limit), context.collection.config
        inner = stage.prefetch if isinstance(stage.prefetch, list) else [stage.prefetch] if stage.prefetch else []
        self.limit = min(limit * context.widen, MAX_LIMIT)
        self.prefetches = [_prefetch(each, context, depth + 1) for each in inner]
        self.filter = to_filter(stage.filter, config)
        self.params = stage.params.for_engine(config) if stage.params else None
        self.query: Any = None
        self.order: Order | None = None
        self.diversify: Diversify | None = None
        if stage.query is not None:
            inputs = VectorInputs(context.collection, stage.using, stage.lookup_from, context.find)
            scoring = to_scoring(stage.query, inputs, limit)
            self.query, self.order, self.diversify = scoring.query, scoring.order, scoring.diversify
            context.used.update(inputs.used)
        # Last, as in Qdrant: a point that is not there is told first.
        _check_combination(stage, bool(inner))


def _prefetch(stage: Stage, context: _Context, depth: int) -> edge.Prefetch:
    parts = _Parts(stage, context, depth)
    if parts.diversify is not None:
        raise not_built("`mmr` over sparse vectors in a prefetch")
    return edge.Prefetch(
        parts.limit,
        query=parts.query,
        prefetches=parts.prefetches,
        params=parts.params,
        filter=parts.filter,
        score_threshold=stage.score_threshold,
    )


def _check_combination(stage: Stage, has_prefetches: bool) -> None:
    """Refuse parts that make no sense together, in Qdrant's words."""
    if stage.query is None:
        if has_prefetches:
            raise _refused("A query is needed to merge the prefetches. Can't have prefetches without defining a query.")
        if stage.score_threshold is not None:
            raise _refused(
                "A query is needed to use the score_threshold. Can't have score_threshold without defining a query."
            )
        return
    kind = kind_of(stage.query)
    if kind == "order_by" and stage.score_threshold is not None:
        raise _refused("Can't use score_threshold with an order_by query.")
    if kind in ("fusion", "rrf") and stage.using:
        raise _refused("Fusion queries cannot be combined with the 'using' field.")


def _refused(message: str) -> ApiError:
    return ApiError(400, f"Bad request: {message}")
