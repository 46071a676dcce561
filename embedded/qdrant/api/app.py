"""The application, put together: every route of the API, and those that are not built yet."""

from typing import Any

from embedded.qdrant.api.collections import Collections
from embedded.qdrant.api.http import Handler, Request, Router, Server
from embedded.qdrant.api.points import Points
from embedded.qdrant.api.searches import Searches
from embedded.qdrant.api.service import Service
from embedded.qdrant.api.snapshots import Snapshots
from embedded.qdrant.errors import not_built
from embedded.qdrant.shards.optimizer import Optimizer
from embedded.qdrant.shards.store import Store

OPEN_PATHS = frozenset({"/", "/healthz", "/livez", "/readyz"})
"""What a health check asks for, answered without the key, as in Qdrant."""

_COLLECTION = "/collections/{name}"
_SHARD = f"{_COLLECTION}/shards/{{shard}}"
_FORMS = ("", "/batch", "/groups")
_NOT_BUILT = {
    "the old search API (use points/query)": [
        ("POST", f"{_COLLECTION}/points/{kind}{form}")
        for kind, forms in (("search", _FORMS), ("recommend", _FORMS), ("discover", _FORMS[:2]))
        for form in forms
    ],
    "snapshots of single shards (take one of the collection)": [
        ("GET", f"{_SHARD}/snapshot"),
        ("GET", f"{_SHARD}/snapshots"),
        ("POST", f"{_SHARD}/snapshots"),
        ("PUT", f"{_SHARD}/snapshots/recover"),
        ("POST", f"{_SHARD}/snapshots/upload"),
        ("GET", f"{_SHARD}/snapshots/{{snapshot}}"),
        ("DELETE", f"{_SHARD}/snapshots/{{snapshot}}"),
    ],
    "quotas": [("GET", "/quotas"), ("PUT", "/quotas")],
}


def create_app(store: Store, optimizer: Optimizer, api_key: str | None = None) -> Server:
    """The ASGI application over an open store, and what optimises it."""
    router = Router()
    service, points, searches = Service(store), Points(store), Searches(store)
    collections, snapshots = Collections(store, optimizer), Snapshots(store, optimizer)
    for path, handler in (
        ("/", service.root),
        ("/healthz", service.healthy),
        ("/livez", service.healthy),
        ("/readyz", service.ready),
        ("/metrics", service.metrics),
        ("/telemetry", service.telemetry),
        ("/issues", service.issues),
        ("/cluster", service.cluster),
        ("/cluster/telemetry", service.standalone),
        ("/aliases", collections.aliases),
        ("/collections", collections.names),
    ):
        router.add("GET", path, handler)
    router.add("POST", "/collections/aliases", collections.change_aliases)
    router.add("DELETE", "/issues", service.clear_issues)
    router.add("POST", "/cluster/recover", service.standalone)
    router.add("DELETE", "/cluster/peer/{peer}", service.standalone)
    for method, path, handler in (
        ("GET", "", collections.get),
        ("PUT", "", collections.create),
        ("PATCH", "", collections.update),
        ("DELETE", "", collections.delete),
        ("GET", "/exists", collections.exists),
        ("GET", "/aliases", collections.aliases_of),
        ("GET", "/cluster", service.collection_cluster),
        ("POST", "/cluster", service.standalone),
        ("GET", "/shards", service.standalone),
        ("PUT", "/shards", service.standalone),
        ("POST", "/shards/delete", service.standalone),
        ("PUT", "/index", collections.create_index),
        ("DELETE", "/index/{field}", collections.delete_index),
        ("PUT", "/vectors/{vector}", collections.create_vector),
        ("DELETE", "/vectors/{vector}", collections.delete_vector),
        ("PUT", "/points", points.upsert),
        ("POST", "/points", points.retrieve),
        ("POST", "/points/delete", points.delete),
        ("POST", "/points/batch", points.batch),
        ("POST", "/points/payload", points.set_payload),
        ("PUT", "/points/payload", points.overwrite_payload),
        ("POST", "/points/payload/delete", points.delete_payload),
        ("POST", "/points/payload/clear", points.clear_payload),
        ("PUT", "/points/vectors", points.update_vectors),
        ("POST", "/points/vectors/delete", points.delete_vectors),
        ("POST", "/points/scroll", points.scroll),
        ("POST", "/points/count", points.count),
        ("POST", "/facet", points.facet),
        ("POST", "/points/query", searches.query),
        ("POST", "/points/query/batch", searches.query_batch),
        ("POST", "/points/query/groups", searches.query_groups),
        ("POST", "/points/search/matrix/pairs", searches.matrix_pairs),
        ("POST", "/points/search/matrix/offsets", searches.matrix_offsets),
        ("GET", "/points/{id}", points.get),
        ("GET", "/optimizations", collections.optimizations),
        ("GET", "/snapshots", snapshots.of_collection),
        ("POST", "/snapshots", snapshots.create),
        ("PUT", "/snapshots/recover", snapshots.recover),
        ("GET", "/snapshots/{snapshot}", snapshots.download),
        ("DELETE", "/snapshots/{snapshot}", snapshots.delete),
    ):
        router.add(method, _COLLECTION + path, handler)
    router.add("POST", f"{_COLLECTION}/snapshots/upload", snapshots.upload, streams=True)
    for method, path, handler in (
        ("GET", "/snapshots", snapshots.all),
        ("POST", "/snapshots", snapshots.create_full),
        ("GET", "/snapshots/{snapshot}", snapshots.download_full),
        ("DELETE", "/snapshots/{snapshot}", snapshots.delete_full),
    ):
        router.add(method, path, handler)
    for feature, routes in _NOT_BUILT.items():
        for method, path in routes:
            router.add(method, path, _refusal(feature))
    server = Server(router, api_key, OPEN_PATHS)
    service.server = server
    return server


def _refusal(feature: str) -> Handler:
    def refuse(_request: Request) -> Any:
        raise not_built(feature)

    return refuse
