"""What the server says about itself: version, health, telemetry, and that it is no cluster."""

import time
import uuid
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import msgspec

from embedded.qdrant.api import metrics, telemetry
from embedded.qdrant.api.durations import RequestDurations
from embedded.qdrant.api.http import Plain, Request, Server
from embedded.qdrant.api.parameters import whole
from embedded.qdrant.errors import ApiError, not_built
from embedded.qdrant.shards.store import Store

Object = dict[str, Any]

QDRANT_VERSION = "1.19.0"
"""The Qdrant release whose REST API is spoken here; clients compare it with their own."""

QDRANT_COMMIT = "74f3e85b9473c62560006c043e13737ce6b48412"
"""The commit of Qdrant's repository that this API was held against."""


class Service:
    """The handlers, over one store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._started = time.monotonic()
        self._startup = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        self._identity = str(uuid.uuid4())
        self.server: Server | None = None

    def root(self, _request: Request) -> Plain:
        """GET /: the one answer without the envelope that clients read. A server has no `engine`: by it one can tell."""
        told = {
            "title": "qdrant - vector search engine",
            "version": QDRANT_VERSION,
            "commit": QDRANT_COMMIT,
            "engine": f"qdrant-edge-py {version('qdrant-edge-py')}",
        }
        return Plain(msgspec.json.encode(told), b"application/json")

    def healthy(self, _request: Request) -> Plain:
        """GET /healthz, /livez: the process answers."""
        return Plain(b"healthz check passed")

    def ready(self, _request: Request) -> Plain:
        """GET /readyz: 503 while a collection cannot be read or written, naming it."""
        broken = [name for name, item in self._store.collections.items() if item.unreadable or item.unwritable]
        if broken:
            return Plain(f"collections not usable: {', '.join(broken)}".encode(), status=503)
        return Plain(b"all shards are ready")

    def metrics(self, request: Request) -> Plain:
        """GET /metrics."""
        app = {"name": "qdrant", "version": QDRANT_VERSION, "engine": f"qdrant-edge-py {version('qdrant-edge-py')}"}
        uptime = time.monotonic() - self._started
        each = request.flag("per_collection")
        page = metrics.report(self._store, app, uptime, self._durations(), each)
        return Plain(page.encode(), b"text/plain; charset=utf-8")

    def telemetry(self, request: Request) -> Object:
        """GET /telemetry."""
        if request.flag("anonymize"):
            raise not_built("anonymous telemetry; it is sent nowhere")
        level, each = whole(request.query, "details_level"), request.flag("per_collection")
        app = {"name": "qdrant", "version": QDRANT_VERSION, "startup": self._startup}
        return telemetry.report(self._store, self._identity, app, self._durations(), level, each)

    def issues(self, _request: Request) -> Object:
        """GET /issues: Qdrant's advice on missing indexes; none is given here."""
        return {"issues": []}

    def clear_issues(self, _request: Request) -> bool:
        """DELETE /issues."""
        return True

    def cluster(self, _request: Request) -> Object:
        """GET /cluster: there is one server."""
        return {"status": "disabled"}

    def collection_cluster(self, request: Request) -> Object:
        """GET /collections/{name}/cluster: one shard, and it is here."""
        collection = self._store.get(request.path["name"])
        shard = {"shard_id": 0, "points_count": collection.info().points_count, "state": "Active"}
        return {
            "peer_id": 0,
            "shard_count": 1,
            "local_shards": [shard],
            "remote_shards": [],
            "shard_transfers": [],
        }

    def standalone(self, _request: Request) -> Object:
        """What changes a cluster, its peers, or the shards of a collection."""
        raise ApiError(405, "Qdrant is running in standalone mode")

    def _durations(self) -> RequestDurations:
        return self.server.durations if self.server else RequestDurations()
