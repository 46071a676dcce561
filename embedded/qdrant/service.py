"""What the server says about itself: version, health, figures."""

import time
from importlib.metadata import version
from typing import Any

from embedded.qdrant.http import Plain, Request, Server
from embedded.qdrant.store import Store

QDRANT_VERSION = "1.20.0"
"""The Qdrant release whose REST API is spoken here; clients compare it with their own."""


class Service:
    """The handlers, over one store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._started = time.monotonic()
        self.server: Server | None = None

    def root(self, _request: Request) -> Plain:
        """GET /: the one answer without the envelope that clients read."""
        body = (
            f'{{"title":"qdrant - vector search engine","version":"{QDRANT_VERSION}",'
            f'"engine":"qdrant-edge-py {version("qdrant-edge-py")}"}}'
        )
        return Plain(body.encode(), b"application/json")

    def healthy(self, _request: Request) -> Plain:
        """GET /healthz, /livez: the process answers."""
        return Plain(b"healthz check passed")

    def ready(self, _request: Request) -> Plain:
        """GET /readyz: 503 while a collection cannot be read or written, naming it."""
        broken = [name for name, item in self._store.collections.items() if item.unreadable or item.unwritable]
        if broken:
            return Plain(f"collections not usable: {', '.join(broken)}".encode(), status=503)
        return Plain(b"all shards are ready")

    def metrics(self, _request: Request) -> Plain:
        """GET /metrics: Prometheus, with Qdrant's names where it has them."""
        lines = [
            "# TYPE app_info gauge",
            f'app_info{{name="qdrant-embedded",version="{QDRANT_VERSION}"}} 1',
            "# TYPE app_uptime_seconds gauge",
            f"app_uptime_seconds {time.monotonic() - self._started:.1f}",
            "# TYPE collections_total gauge",
            f"collections_total {len(self._store.collections)}",
            "# TYPE collection_points gauge",
        ]
        broken: list[str] = []
        for name, collection in self._store.collections.items():
            label = _label(name)
            if collection.unreadable is None:
                lines.append(f'collection_points{{id="{label}"}} {collection.info().points_count}')
            state = 1 if collection.unreadable or collection.unwritable else 0
            broken.append(f'collection_broken{{id="{label}"}} {state}')
        lines += ["# TYPE collection_broken gauge", *broken, *self._requests()]
        return Plain("\n".join([*lines, ""]).encode(), b"text/plain; version=0.0.4; charset=utf-8")

    def _requests(self) -> list[str]:
        if self.server is None:
            return []
        lines = ["# TYPE rest_responses_total counter"]
        for (method, route, status), count in self.server.replies.items():
            labels = f'method="{method}",endpoint="{_label(route)}",status="{status}"'
            lines.append(f"rest_responses_total{{{labels}}} {count}")
        lines.append("# TYPE rest_responses_seconds_total counter")
        for (method, route), seconds in self.server.seconds.items():
            lines.append(f'rest_responses_seconds_total{{method="{method}",endpoint="{_label(route)}"}} {seconds:.6f}')
        return lines


def _label(value: Any) -> str:
    return str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
