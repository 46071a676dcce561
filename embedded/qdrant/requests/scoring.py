"""The `query` of a stage, from decoded JSON to the engine's classes: what points are scored by."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import qdrant_edge as edge

from embedded.qdrant.errors import ApiError, bad_request, invalid
from embedded.qdrant.requests.averages import recommended
from embedded.qdrant.requests.diversity import Diversify
from embedded.qdrant.requests.formula import to_formula
from embedded.qdrant.requests.vector_inputs import VectorInputs
from embedded.qdrant.settings.convert import fields, integer, number, text
from embedded.qdrant.settings.validate import shortened

Object = dict[str, Any]
Order = Literal["asc", "desc"]

RRF_K = 2
"""Qdrant's default for reciprocal rank fusion."""

MMR_DIVERSITY = 0.5
MAX_MMR_CANDIDATES = 16384
"""Qdrant's default and limit; every candidate is compared with every other."""

_DIRECTIONS = {"asc": edge.Direction.Asc, "desc": edge.Direction.Desc}


@dataclass(frozen=True, slots=True)
class Scoring:
    """The engine's query, and which scores are the better ones (None where the order means something else)."""

    query: Any
    order: Order | None = "desc"
    diversify: Diversify | None = None
    """What remains to be done with the points that the engine finds."""


def kind_of(query: Any) -> str:
    """Which kind of query this is: the key that says so, or `nearest` for what is a vector or an id."""
    if not isinstance(query, Mapping) or "indices" in query or "model" in query:
        return "nearest"
    for kind in _KINDS:
        if kind in query:
            return kind
    raise ApiError(400, f"Format error in JSON body: there is no query of this shape: {shortened(query)}")


def to_scoring(query: Any, inputs: VectorInputs, limit: int) -> Scoring:
    """The engine's form of a query. Raises ApiError; `limit` is how many points its stage gives."""
    kind = kind_of(query)
    if kind == "nearest" and not (isinstance(query, Mapping) and "nearest" in query):
        return _nearest(inputs, inputs.vector(query))
    return _KINDS[kind](query, inputs, limit)


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


def _nearest(inputs: VectorInputs, vector: Any) -> Scoring:
    params = inputs.config.vectors.get(inputs.name)
    order: Order = "asc" if params is not None and params.distance in ("Euclid", "Manhattan") else "desc"
    return Scoring(edge.Query.Nearest(vector, inputs.name or None), order)


def _nearest_or_mmr(query: Any, inputs: VectorInputs, limit: int) -> Scoring:
    given = fields(query, frozenset({"nearest", "mmr"}), "a query")
    vector = inputs.vector(given.get("nearest"))
    if "mmr" not in given:
        return _nearest(inputs, vector)
    mmr = fields(given["mmr"], frozenset({"diversity", "candidates_limit"}), "`mmr`")
    diversity = number(mmr.get("diversity", MMR_DIVERSITY), "`mmr.diversity`")
    candidates = integer(mmr.get("candidates_limit", min(limit, MAX_MMR_CANDIDATES)), "`mmr.candidates_limit`")
    if not 0 <= diversity <= 1:
        raise _invalid("internal.query.mmr.diversity", diversity, "must be from 0.0 to 1.0")
    if candidates > MAX_MMR_CANDIDATES:
        raise _invalid("internal.query.mmr.candidates_limit", candidates, f"must be from 0 to {MAX_MMR_CANDIDATES}")
    if inputs.name in inputs.config.sparse:
        # The engine knows this for dense vectors only.
        nearest = edge.Query.Nearest(vector, inputs.name)
        return Scoring(nearest, None, Diversify(inputs.name, 1 - diversity, candidates))
    return Scoring(edge.Mmr(vector, 1 - diversity, candidates, inputs.name or None), None)


def _recommend(query: Any, inputs: VectorInputs, _limit: int) -> Scoring:
    content = fields(query, frozenset({"recommend"}), "a query").get("recommend")
    given = fields(content, frozenset({"positive", "negative", "strategy"}), "`recommend`")
    strategy = given.get("strategy", "average_vector")
    if strategy not in ("average_vector", "best_score", "sum_scores"):
        raise bad_request("`recommend.strategy` is average_vector, best_score or sum_scores")
    positives = inputs.vectors(given.get("positive"), "`recommend.positive`")
    negatives = inputs.vectors(given.get("negative"), "`recommend.negative`")
    if not positives and not negatives:
        raise ApiError(
            422,
            "Validation error in JSON body: [internal.query.recommend: "
            "at least one positive or negative example is required]",
        )
    if strategy == "average_vector":
        return _nearest(inputs, inputs.checked(recommended(positives, negatives)))
    build = edge.Query.RecommendBestScore if strategy == "best_score" else edge.Query.RecommendSumScores
    return Scoring(build(edge.RecommendQuery(positives, negatives), inputs.name or None))


def _discover(query: Any, inputs: VectorInputs, _limit: int) -> Scoring:
    content = fields(query, frozenset({"discover"}), "a query").get("discover")
    given = fields(content, frozenset({"target", "context"}), "`discover`")
    target = inputs.vector(given.get("target"))
    pairs = _pairs(given.get("context"), inputs)
    return Scoring(edge.Query.Discover(edge.DiscoverQuery(target, pairs), inputs.name or None))


def _context(query: Any, inputs: VectorInputs, _limit: int) -> Scoring:
    given = fields(query, frozenset({"context"}), "a query")
    pairs = _pairs(given.get("context"), inputs)
    return Scoring(edge.Query.Context(edge.ContextQuery(pairs), inputs.name or None))


def _pairs(value: Any, inputs: VectorInputs) -> list[edge.ContextPair]:
    pairs: list[edge.ContextPair] = []
    for pair in value if isinstance(value, list) else [] if value is None else [value]:
        given = fields(pair, frozenset({"positive", "negative"}), "a context pair")
        pairs.append(edge.ContextPair(inputs.vector(given.get("positive")), inputs.vector(given.get("negative"))))
    return pairs


def _feedback(query: Any, inputs: VectorInputs, _limit: int) -> Scoring:
    content = fields(query, frozenset({"relevance_feedback"}), "a query").get("relevance_feedback")
    given = fields(content, frozenset({"target", "feedback", "strategy"}), "`relevance_feedback`")
    target, items = inputs.vector(given.get("target")), given.get("feedback")
    if not isinstance(items, list):
        raise bad_request("`relevance_feedback.feedback` is a list of examples with scores")
    if not items:
        raise ApiError(
            422,
            "Validation error in JSON body: [internal.query.relevance_feedback.feedback: "
            "feedback elements must be non-empty]",
        )
    feedback: list[edge.FeedbackItem] = []
    for item in items:
        example = fields(item, frozenset({"example", "score"}), "an item of feedback")
        score = number(example.get("score"), "`score`")
        feedback.append(edge.FeedbackItem(inputs.vector(example.get("example")), score))
    strategy = fields(given.get("strategy"), frozenset({"naive"}), "`relevance_feedback.strategy`")
    naive = fields(strategy.get("naive"), frozenset({"a", "b", "c"}), "`naive`")
    a, b, c = (number(naive.get(name), f"`naive.{name}`") for name in "abc")
    if b < 0:
        raise _invalid("internal.query.relevance_feedback.strategy.naive.b", b, "must be 0.0 or larger")
    built = edge.FeedbackNaiveQuery(target, feedback, edge.NaiveFeedbackStrategy(a, b, c))
    return Scoring(edge.Query.FeedbackNaive(built, inputs.name or None))


def _fusion(query: Any, _inputs: VectorInputs, _limit: int) -> Scoring:
    kind = fields(query, frozenset({"fusion"}), "a query").get("fusion")
    if kind == "rrf":
        return Scoring(edge.Fusion.Rrf(k=RRF_K))
    if kind == "dbsf":
        return Scoring(edge.Fusion.Dbsf())
    raise bad_request(f"`fusion` is rrf or dbsf, not {shortened(kind)}")


def _rrf(query: Any, _inputs: VectorInputs, _limit: int) -> Scoring:
    content = fields(query, frozenset({"rrf"}), "a query").get("rrf")
    given = fields(content, frozenset({"k", "weights"}), "`rrf`")
    k, weights = given.get("k", RRF_K), given.get("weights")
    # The best rank is 0, so a k of 0 would divide by it.
    if type(k) is not int or not 1 <= k < 2**31:
        raise bad_request(f"`rrf.k` is a whole number of at least 1, not {shortened(k)}")
    if weights is not None:
        if not isinstance(weights, list):
            raise bad_request("`rrf.weights` is a list of numbers, one for each prefetch")
        weights = [number(weight, "`rrf.weights`") for weight in weights]
    return Scoring(edge.Fusion.Rrf(k=k, weights=weights))


def _formula(query: Any, inputs: VectorInputs, _limit: int) -> Scoring:
    given = fields(query, frozenset({"formula", "defaults"}), "a formula query")
    return Scoring(to_formula(given, inputs.config))


def _order_by(query: Any, _inputs: VectorInputs, _limit: int) -> Scoring:
    value = fields(query, frozenset({"order_by"}), "a query").get("order_by")
    descending = isinstance(value, Mapping) and value.get("direction") == "desc"
    return Scoring(to_order_by(value), "desc" if descending else "asc")


def _sample(query: Any, _inputs: VectorInputs, _limit: int) -> Scoring:
    if query != {"sample": "random"}:
        raise bad_request(f"`sample` is random, not {shortened(query.get('sample'))}")
    return Scoring(edge.Sample.Random, None)


def _invalid(where: str, value: Any, rule: str) -> ApiError:
    return invalid(f"{where}: value {value} invalid, {rule}")


_KINDS: dict[str, Callable[[Any, VectorInputs, int], Scoring]] = {
    "nearest": _nearest_or_mmr,
    "recommend": _recommend,
    "discover": _discover,
    "context": _context,
    "order_by": _order_by,
    "fusion": _fusion,
    "rrf": _rrf,
    "formula": _formula,
    "sample": _sample,
    "relevance_feedback": _feedback,
}
