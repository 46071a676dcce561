"""What `GET /metrics` reports: Prometheus' text format, under the names that Qdrant's server uses.

Three families are this server's own: `app_uptime_seconds`, `collection_broken` and the `engine` label of `app_info`.
"""

from collections.abc import Iterable
from itertools import accumulate

from embedded.qdrant.api.durations import BOUNDARIES, Durations, RequestDurations, Route, endpoint
from embedded.qdrant.api.telemetry import vectors_by_name
from embedded.qdrant.shards import machine
from embedded.qdrant.shards.store import Store

Labels = dict[str, str]
Sample = tuple[Labels, float]

_ENDPOINTS = (
    "/facet",
    "/index",
    "/points",
    "/points/batch",
    "/points/count",
    "/points/delete",
    "/points/discover",
    "/points/payload",
    "/points/payload/clear",
    "/points/payload/delete",
    "/points/query",
    "/points/query/batch",
    "/points/query/groups",
    "/points/recommend",
    "/points/scroll",
    "/points/search",
    "/points/search/matrix/offsets",
    "/points/search/matrix/pairs",
    "/points/vectors",
    "/points/vectors/delete",
    "/vectors/{vector_name}",
)
_REPORTED = frozenset("/collections/{collection_name}" + path for path in _ENDPOINTS)


class Page:
    """The text, family by family."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def family(self, name: str, text: str, samples: Iterable[Sample], kind: str = "gauge") -> None:
        """Add a family of samples; nothing if there are none."""
        lines = [f"{name}{_labels(labels)} {value:.10g}" for labels, value in samples]
        if lines:
            self._head(name, text, kind)
            self._lines += lines

    def histogram(self, name: str, text: str, samples: Iterable[tuple[Labels, Durations]]) -> None:
        """Add a family of histograms."""
        started = False
        for labels, durations in samples:
            if not started:
                self._head(name, text, "histogram")
                started = True
            ends = [*(f"{end:g}" for end in BOUNDARIES), "+Inf"]
            for end, count in zip(ends, accumulate(durations.buckets), strict=True):
                self._lines.append(f"{name}_bucket{_labels({**labels, 'le': end})} {count}")
            self._lines.append(f"{name}_sum{_labels(labels)} {durations.total:.10g}")
            self._lines.append(f"{name}_count{_labels(labels)} {durations.count}")

    def text(self) -> str:
        """Everything so far."""
        return "\n".join([*self._lines, ""])

    def _head(self, name: str, text: str, kind: str) -> None:
        self._lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]


def report(store: Store, app: Labels, uptime: float, requests: RequestDurations, each: bool) -> str:
    """The whole page. `each` gives the requests of each collection in place of those of the server."""
    page = Page()
    page.family("app_info", "information about qdrant server", [(app, 1)])
    page.family("app_status_recovery_mode", "features enabled in qdrant server", [({}, 0)])
    page.family("app_uptime_seconds", "how long this process has been running", [({}, uptime)])
    page.family("collections_total", "number of collections", [({}, len(store.collections))])
    _collections(page, store)
    page.family("cluster_enabled", "is cluster support enabled", [({}, 0)])
    if each:
        requests.keep({*store.collections, *store.aliases})
        answers = [
            ({**labels, "collection": name}, durations)
            for name, routes in requests.collections.items()
            for labels, durations in _reported(routes)
        ]
    else:
        answers = _reported(requests.routes)
    _requests(page, answers)
    if (resident := machine.resident_bytes()) is not None:
        page.family(
            "memory_resident_bytes",
            "Maximum number of bytes in physically resident data pages mapped by the allocator",
            [({}, resident)],
        )
    for name, value in machine.process_figures().items():
        page.family(name, name.replace("_", " "), [({}, value)], "counter" if name.endswith("_total") else "gauge")
    return page.text()


def _collections(page: Page, store: Store) -> None:
    every = list(store.collections.items())
    readable = {name: collection for name, collection in every if collection.unreadable is None}
    vectors = {name: vectors_by_name(collection) for name, collection in readable.items()}
    total = sum(sum(counts.values()) for counts in vectors.values())
    page.family("collections_vector_total", "total number of vectors in all collections", [({}, total)])
    page.family(
        "collection_vectors",
        "amount of vectors grouped by vector name",
        [
            ({"collection": name, "vector": vector}, count)
            for name, counts in vectors.items()
            for vector, count in counts.items()
        ],
    )
    page.family(
        "collection_points",
        "approximate amount of points per collection",
        [({"id": name}, collection.info().points_count) for name, collection in readable.items()],
    )
    page.family(
        "collection_update_queue_length",
        "number of pending operations in update queues per collection",
        [({"id": name}, 0) for name, _ in every],
    )
    page.family(
        "collection_broken",
        "whether a collection cannot be read or written",
        [({"id": name}, 1 if item.unreadable or item.unwritable else 0) for name, item in every],
    )


def _reported(routes: dict[Route, dict[int, Durations]]) -> list[tuple[Labels, Durations]]:
    return [
        ({"method": method, "endpoint": endpoint(pattern), "status": str(status)}, durations)
        for (method, pattern), by_status in routes.items()
        if endpoint(pattern) in _REPORTED
        for status, durations in by_status.items()
    ]


def _requests(page: Page, answers: list[tuple[Labels, Durations]]) -> None:
    counts = [(labels, durations.count) for labels, durations in answers]
    page.family("rest_responses_total", "total number of responses", counts, "counter")
    # Qdrant times only what went well.
    timed = [(labels, durations) for labels, durations in answers if labels["status"] == "200"]
    for word, text, value in (
        ("avg", "average response duration", lambda durations: durations.total / durations.count),
        ("min", "minimum response duration", lambda durations: durations.least),
        ("max", "maximum response duration", lambda durations: durations.greatest),
    ):
        samples = [(labels, value(durations)) for labels, durations in timed]
        page.family(f"rest_responses_{word}_duration_seconds", text, samples)
    page.histogram("rest_responses_duration_seconds", "response duration histogram", timed)


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
