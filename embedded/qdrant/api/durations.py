"""How often each route was asked, and how long its answers took."""

import time
from bisect import bisect_left
from datetime import UTC, datetime
from typing import Any

Object = dict[str, Any]
Route = tuple[str, str]
"""The method and the route's pattern."""

BOUNDARIES = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 50.0)
"""Upper ends of the histogram's buckets in seconds, as in Qdrant."""

_PREFIX = "/collections/{name}"
# These answer for collections that are not there as well, and would be counted for any name.
_FOR_ANY_NAME = (_PREFIX, f"{_PREFIX}/exists")


class Durations:
    """The answers of one route with one status."""

    __slots__ = ("buckets", "count", "greatest", "last", "least", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self.least = float("inf")
        self.greatest = 0.0
        self.last = 0.0
        self.buckets = [0] * (len(BOUNDARIES) + 1)

    def add(self, seconds: float) -> None:
        """Count one answer."""
        self.count += 1
        self.total += seconds
        self.least = min(self.least, seconds)
        self.greatest = max(self.greatest, seconds)
        self.last = time.time()
        self.buckets[bisect_left(BOUNDARIES, seconds)] += 1

    def printed(self, status: int) -> Object:
        """What Qdrant's telemetry says of it. Only answers with 200 are timed there, all others are counted."""
        if status != 200:
            return {"count": self.count}
        return {
            "count": self.count,
            "avg_duration_micros": self.total / self.count * 1e6,
            "min_duration_micros": self.least * 1e6,
            "max_duration_micros": self.greatest * 1e6,
            "total_duration_micros": int(self.total * 1e6),
            "last_responded": datetime.fromtimestamp(self.last, UTC).isoformat().replace("+00:00", "Z"),
        }


class RequestDurations:
    """All answers since the start, of the server and of each collection."""

    def __init__(self) -> None:
        self.routes: dict[Route, dict[int, Durations]] = {}
        self.collections: dict[str, dict[Route, dict[int, Durations]]] = {}

    def add(self, method: str, pattern: str, path: str, status: int, seconds: float) -> None:
        """Count one answer of a known route; `path` is what was asked for."""
        _counted(self.routes, (method, pattern), status).add(seconds)
        if status == 200 and pattern.startswith(_PREFIX) and pattern not in _FOR_ANY_NAME:
            name = path.split("/", 3)[2]
            _counted(self.collections.setdefault(name, {}), (method, pattern), status).add(seconds)

    def keep(self, names: set[str]) -> None:
        """Forget the collections and aliases that are not among `names`."""
        for name in self.collections.keys() - names:
            del self.collections[name]


def endpoint(pattern: str) -> str:
    """A route's pattern with Qdrant's own words in its braces."""
    for ours, qdrants in (("{name}", "{collection_name}"), ("{field}", "{field_name}"), ("{vector}", "{vector_name}")):
        pattern = pattern.replace(ours, qdrants)
    return pattern


def printed(routes: dict[Route, dict[int, Durations]]) -> Object:
    """Qdrant's `responses`: for each method and endpoint, for each status, what there was."""
    return {
        f"{method} {endpoint(pattern)}": {str(status): found.printed(status) for status, found in by_status.items()}
        for (method, pattern), by_status in routes.items()
    }


def _counted(routes: dict[Route, dict[int, Durations]], route: Route, status: int) -> Durations:
    by_status = routes.setdefault(route, {})
    found = by_status.get(status)
    if found is None:
        found = by_status[status] = Durations()
    return found
