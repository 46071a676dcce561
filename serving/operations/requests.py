"""What is done for every request, whatever its route: an id, metrics, a line of access log, safe headers."""

from __future__ import annotations

import re
import time
import uuid

import structlog
from litestar.datastructures import MutableScopeHeaders
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from serving.operations import metrics
from zhiyun.logs import ACCESS

_access = structlog.get_logger(ACCESS)

_SANE_ID = re.compile(rb"[A-Za-z0-9._:\-]{1,64}")
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
}


class Observed:
    """Wraps the whole application: Litestar's middleware does not see requests that match no route.

    Only the route is logged and never the address itself, because the id of a conversation in it is the
    capability to read that conversation.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        status = 499  # nginx's number for a client that went away before the response began
        started = time.perf_counter()

        async def observed_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableScopeHeaders.from_message(message)
                headers["x-request-id"] = request_id
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, observed_send)
            finally:
                seconds = time.perf_counter() - started
                method = scope["method"] if scope["method"] in _METHODS else "other"
                route = str(scope.get("path_template") or "unmatched")
                metrics.REQUESTS.labels(method, route, status).inc()
                metrics.REQUEST_TIME.labels(method, route).observe(seconds)
                client = scope.get("client")
                _access.info(
                    "request",
                    method=method,
                    route=route,
                    status=status,
                    duration_ms=round(seconds * 1000, 1),
                    client=client[0] if client else None,
                )


def _request_id(scope: Scope) -> str:
    given = next((value for name, value in scope["headers"] if name.lower() == b"x-request-id"), b"")
    return given.decode() if _SANE_ID.fullmatch(given) else uuid.uuid4().hex
