"""Queries in groups: the best points for each value of a payload field, as the server gathers them."""

import re
from collections.abc import Mapping
from typing import Any

import msgspec
import qdrant_edge as edge

from embedded.qdrant.errors import ApiError, bad_request, not_built
from embedded.qdrant.requests import results
from embedded.qdrant.requests.queries import MAX_LIMIT, Plan, Request, WireLimit, checked_limit
from embedded.qdrant.requests.scoring import Order
from embedded.qdrant.requests.vector_inputs import Find
from embedded.qdrant.settings.convert import to_payload_selector, to_vector_selector
from embedded.qdrant.settings.validate import point_id
from embedded.qdrant.shards.collection import Collection

Object = dict[str, Any]
GroupId = str | int

DEFAULT_GROUPS = 10
DEFAULT_GROUP_SIZE = 3
ROUNDS = 5
"""How often the engine is asked for more groups, and then again to fill those there are; Qdrant's own numbers."""

_STEP = re.compile(r'"(?P<quoted>[^"]*)"|(?P<key>[^.\[\]"]+)|\[(?P<index>\d*)\]')


class WithLookup(msgspec.Struct, frozen=True):
    """A collection whose point of the same id is shown with each group."""

    collection: str
    with_payload: Any = True
    with_vectors: Any = None
    with_vector: Any = None


class QueryGroupsBody(Request, frozen=True, kw_only=True):
    """The body of `POST .../points/query/groups`."""

    group_by: str
    group_size: WireLimit | None = None
    with_lookup: str | WithLookup | None = None


def query_groups(body: QueryGroupsBody, collection: Collection, find: Find) -> list[Object]:
    """The best groups with their best points. Raises ApiError."""
    if not body.group_by:
        raise bad_request("`group_by` is the path of a payload field")
    count = checked_limit(body.limit, "internal.limit", DEFAULT_GROUPS)
    size = checked_limit(body.group_size, "internal.group_size", DEFAULT_GROUP_SIZE)
    payload = to_payload_selector(body.with_payload, default=False)
    vectors = to_vector_selector(body.wanted_vectors(), collection.config)
    found = collection.read(
        lambda shard: _gather(shard, Plan(body, collection, find, size), body.group_by, count, size)
    )
    ids: list[Any] = list({point.id for _, hits in found for point in hits})
    records = collection.read(lambda shard: shard.retrieve(ids, payload, vectors))
    shown = {results.wire_id(record.id): results.record(record) for record in records}
    groups: list[Object] = [
        {"id": key, "hits": [{**hit, **shown.get(hit["id"], {})} for hit in results.scored(hits)]}
        for key, hits in found
    ]
    if body.with_lookup is not None:
        _add_lookup(groups, body.with_lookup, find)
    return groups


def _gather(shard: edge.EdgeShard, plan: Plan, path: str, count: int, size: int) -> list["Group"]:
    """Ask until the best groups are full: first leaving out groups that are, then within those that are not."""
    if plan.diversify is not None:
        raise not_built("`mmr` over sparse vectors in groups")
    limit = min(count * size, MAX_LIMIT)
    gathered = _Gathered(path, count, size, plan.order)
    selector = edge.PayloadSelector.Include([path.removesuffix("[]")])
    for filling in (False, True):
        for _ in range(ROUNDS):
            must = gathered.within_unfilled() if filling else gathered.outside_filled()
            unwanted = [edge.IsEmptyCondition(path), *gathered.seen()]
            points = shard.query(plan.request(limit, must=must, must_not=unwanted, with_payload=selector))
            gathered.add(points)
            if gathered.complete():
                return gathered.best()
            if not points:
                break
    return gathered.best()


Group = tuple[GroupId, list[edge.ScoredPoint]]


class _Gathered:
    """Points by group, as they come in."""

    def __init__(self, path: str, count: int, size: int, order: Order | None) -> None:
        self._path, self._count, self._size, self._order = path, count, size, order
        self._groups: dict[GroupId, dict[Any, edge.ScoredPoint]] = {}
        self._ids: set[Any] = set()

    def add(self, points: list[edge.ScoredPoint]) -> None:
        """Put points where they belong; a point with several values is in several groups."""
        for point in points:
            keys = _values(point.payload, self._path)
            if not all(type(key) in (str, int) for key in keys):
                continue
            for key in dict.fromkeys(keys):
                self._groups.setdefault(key, {}).setdefault(point.id, point)
                self._ids.add(point.id)

    def complete(self) -> bool:
        """Whether there are as many full groups among the best as are wanted."""
        return sum(self._full(key) for key in self._best_keys()) >= self._count

    def seen(self) -> list[Any]:
        """The condition that a point was found before."""
        return [edge.HasIdCondition(set(self._ids))] if self._ids else []

    def outside_filled(self) -> list[Any]:
        """Conditions that leave full groups out."""
        filled = [key for key in self._groups if self._full(key)]
        return [edge.FieldCondition(self._path, match=edge.MatchExcept(part)) for part in _by_type(filled)]

    def within_unfilled(self) -> list[Any]:
        """Conditions that only the best groups which are not full fulfil."""
        unfilled = [key for key in self._best_keys() if not self._full(key)]
        return [edge.FieldCondition(self._path, match=edge.MatchAny(part)) for part in _by_type(unfilled)]

    def best(self) -> list[Group]:
        """The best groups, and of each the best points, both in order."""
        return [(key, self._sorted(list(self._groups[key].values()))[: self._size]) for key in self._best_keys()]

    def _best_keys(self) -> list[GroupId]:
        bests = {key: self._sorted(list(points.values()))[0] for key, points in self._groups.items()}
        if self._order is None:
            return list(bests)[: self._count]
        ranked = sorted(bests, key=lambda key: _rank(bests[key]), reverse=self._order == "desc")
        return ranked[: self._count]

    def _sorted(self, points: list[edge.ScoredPoint]) -> list[edge.ScoredPoint]:
        if self._order is None:
            return points
        return sorted(points, key=_rank, reverse=self._order == "desc")

    def _full(self, key: GroupId) -> bool:
        return len(self._groups[key]) >= self._size


def _rank(point: edge.ScoredPoint) -> Any:
    return point.score if point.order_value is None else point.order_value


def _by_type(keys: list[GroupId]) -> list[list[Any]]:
    # The engine's lists of values are all of one type, and its integers have 64 bits with a sign.
    integers = [key for key in keys if isinstance(key, int) and -(2**63) <= key < 2**63]
    strings = [key for key in keys if isinstance(key, str)]
    return [part for part in (integers, strings) if part]


def _values(payload: Any, path: str) -> list[Any]:
    """What a payload has at a path such as `a.b[].c`; the values of a list, each for itself."""
    found: list[Any] = [payload]
    for step in _STEP.finditer(path):
        key = step["quoted"] if step["quoted"] is not None else step["key"]
        if key is not None:
            found = [value[key] for value in found if isinstance(value, Mapping) and key in value]
            continue
        lists = [value for value in found if isinstance(value, list)]
        if step["index"]:
            at = int(step["index"])
            found = [value[at] for value in lists if at < len(value)]
        else:
            found = [item for value in lists for item in value]
    return [item for value in found for item in (value if isinstance(value, list) else [value])]


def _add_lookup(groups: list[Object], given: str | WithLookup, find: Find) -> None:
    wanted = WithLookup(given) if isinstance(given, str) else given
    source = find(wanted.collection)
    payload = to_payload_selector(wanted.with_payload, default=False)
    vectors = to_vector_selector(
        wanted.with_vectors if wanted.with_vector is None else wanted.with_vector, source.config
    )
    keys = {group["id"]: known for group in groups if (known := _as_point_id(group["id"])) is not None}
    ids: list[Any] = list(set(keys.values()))
    records = source.read(lambda shard: shard.retrieve(ids, payload, vectors)) if ids else []
    shown = {results.wire_id(record.id): results.record(record) for record in records}
    for group in groups:
        if keys.get(group["id"]) in shown:
            group["lookup"] = shown[keys[group["id"]]]


def _as_point_id(key: GroupId) -> Any:
    try:
        return point_id(key)
    except ApiError:
        return None
