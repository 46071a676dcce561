"""HTTP in its smallest form: a router over ASGI, requests read whole, replies in Qdrant's envelope.

No framework, since there is nothing for it to do: every route takes a path, a few query parameters and a
JSON body, and the time a framework takes for each request would be as long as the search itself.
"""

import asyncio
import hmac
import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar
from urllib.parse import parse_qsl, quote, unquote

import msgspec

from embedded.qdrant.api.durations import RequestDurations
from embedded.qdrant.api.parameters import check_shared
from embedded.qdrant.errors import ApiError, bad_request, not_found
from embedded.qdrant.shards.files import PIECE

T = TypeVar("T")
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

MAX_BODY = 32 * 1024 * 1024
"""Qdrant's own limit for the body of a request, in bytes."""

_JSON = b"application/json"

_encoder = msgspec.json.Encoder()
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Request:
    """A request whose route is known."""

    path: dict[str, str]
    query: dict[str, str]
    body: bytes
    content_type: str = ""
    stream: "AsyncIterator[bytes] | None" = None
    """The body piece by piece, on a route that takes bodies of any size; `body` is then empty."""

    def json(self, decoder: msgspec.json.Decoder[T]) -> T:
        """The body in the decoder's shape; raises ApiError (400) where it does not fit."""
        try:
            return decoder.decode(self.body)
        except msgspec.MsgspecError as error:
            raise ApiError(400, f"Format error in JSON body: {error}") from error
        except (RecursionError, UnicodeDecodeError) as error:
            raise ApiError(400, f"Format error in JSON body: {type(error).__name__}") from error

    def flag(self, name: str) -> bool:
        """A true-or-false parameter of the query string; false if it is not given."""
        value = self.query.get(name, "false")
        if value not in ("true", "false"):
            raise bad_request(f"`{name}` is true or false, not {value!r}")
        return value == "true"


@dataclass(frozen=True, slots=True)
class Plain:
    """A reply without the envelope."""

    body: bytes
    content_type: bytes = b"text/plain; charset=utf-8"
    status: int = 200


@dataclass(frozen=True, slots=True)
class Accepted:
    """202: what was asked for goes on after the reply."""


@dataclass(frozen=True, slots=True)
class Download:
    """A file as it is, sent in pieces."""

    path: Path


Handler = Callable[[Request], Any]


class Router:
    """Finds the handler of a method and a path such as `/collections/{name}/points`."""

    def __init__(self) -> None:
        self._routes: dict[int, list[tuple[tuple[str, ...], dict[str, tuple[str, Handler]]]]] = {}
        self.streaming: set[tuple[str, str]] = set()
        """Method and pattern of the routes whose body is not read before the handler runs."""

    def add(self, method: str, pattern: str, handler: Handler, *, streams: bool = False) -> None:
        """Add a route. A segment in braces takes any value; of two that fit, the one added first is taken."""
        if streams:
            self.streaming.add((method, pattern))
        segments = tuple(pattern.strip("/").split("/"))
        known = self._routes.setdefault(len(segments), [])
        for other, methods in known:
            if other == segments:
                methods[method] = (pattern, handler)
                return
        known.append((segments, {method: (pattern, handler)}))

    def find(self, method: str, path: str) -> tuple[str, Handler, dict[str, str]]:
        """The route's pattern, its handler and the values of its braces. Raises ApiError: 404 or 405."""
        segments = path.strip("/").split("/")
        fits_otherwise = False
        for wanted, methods in self._routes.get(len(segments), ()):
            if all(want == got or want[:1] == "{" for want, got in zip(wanted, segments, strict=True)):
                if method in methods:
                    pattern, handler = methods[method]
                    values = {
                        want[1:-1]: unquote(got) for want, got in zip(wanted, segments, strict=True) if want[:1] == "{"
                    }
                    return pattern, handler, values
                fits_otherwise = True
        if fits_otherwise:
            raise ApiError(405, f"Not allowed: {method} on {path}")
        raise ApiError(404, f"Not found: there is nothing at {path}")


class Server:
    """The ASGI application: key, route, handler, envelope. Only a handler that awaits lets others between."""

    def __init__(self, router: Router, api_key: str | None, open_paths: frozenset[str]) -> None:
        """`open_paths` are answered without the key."""
        self._router = router
        self._key = api_key.encode() if api_key else None
        self._open_paths = open_paths
        self.durations = RequestDurations()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        if scope["type"] != "http":
            return
        started = time.perf_counter()
        pattern, answer = await self._answer(scope, receive, started)
        method = scope["method"]
        if pattern:
            self.durations.add(method, pattern, scope["path"], answer.status, time.perf_counter() - started)
        if isinstance(answer, _File):
            await _send_file(answer, send, with_body=method != "HEAD")
            return
        headers = [(b"content-type", answer.content_type), (b"content-length", str(len(answer.body)).encode())]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if method == "HEAD" else answer.body})

    async def _answer(self, scope: Scope, receive: Receive, started: float) -> "tuple[str, Plain | _File]":
        pattern = ""
        try:
            headers = dict(scope["headers"])
            path = scope["raw_path"].decode("latin-1") if scope.get("raw_path") else scope["path"]
            self._check_key(path, headers)
            method = "GET" if scope["method"] == "HEAD" else scope["method"]
            pattern, handler, values = self._router.find(method, path)
            query = dict(parse_qsl(scope["query_string"].decode("latin-1"))) if scope["query_string"] else {}
            check_shared(query)
            content_type = headers.get(b"content-type", b"").decode("latin-1")
            if (method, pattern) in self._router.streaming:
                request = Request(values, query, b"", content_type, _body_in_pieces(receive))
            else:
                request = Request(values, query, await _read_body(receive, headers), content_type)
            result = handler(request)
            if isinstance(result, Awaitable):
                result = await result
            if isinstance(result, Plain):
                return pattern, result
            if isinstance(result, Download):
                return pattern, _File.opened(result.path)
            if isinstance(result, Accepted):
                return pattern, Plain(_envelope(started, None, "accepted"), _JSON, 202)
            return pattern, Plain(_envelope(started, result, "ok"), _JSON)
        except ApiError as error:
            return pattern, Plain(_envelope(started, None, {"error": error.message}), _JSON, error.status)
        except Exception as error:
            log.exception("%s %s failed", scope["method"], scope["path"])
            told = {"error": f"Service internal error: {type(error).__name__}: {error}"}
            return pattern, Plain(_envelope(started, None, told), _JSON, 500)

    def _check_key(self, path: str, headers: dict[bytes, bytes]) -> None:
        if self._key is None:
            # A web page can make a browser send requests here. They carry its origin; programs send none.
            if b"origin" in headers:
                raise ApiError(403, "Forbidden: requests from web pages need the server to have an api-key")
            return
        if path in self._open_paths:
            return
        bearer = headers.get(b"authorization", b"").removeprefix(b"Bearer ")
        given = headers.get(b"api-key") or bearer
        if not given:
            raise ApiError(401, "Must provide an API key or an Authorization bearer token")
        if not hmac.compare_digest(given, self._key):
            raise ApiError(401, "Invalid API key")


@dataclass(frozen=True, slots=True)
class _File:
    """An open file that is about to be sent."""

    file: BinaryIO
    name: str
    size: int
    status: int = 200

    @classmethod
    def opened(cls, path: Path) -> "_File":
        try:
            file = path.open("rb")
        except FileNotFoundError as error:
            raise not_found(f"{path.name} is no longer there") from error
        return cls(file, path.name, os.fstat(file.fileno()).st_size)


async def _send_file(answer: _File, send: Send, with_body: bool) -> None:
    name = quote(answer.name, safe="")
    headers = [
        (b"content-type", b"application/octet-stream"),
        (b"content-length", str(answer.size).encode()),
        (b"content-disposition", f"attachment; filename*=UTF-8''{name}".encode()),
    ]
    with answer.file as file:
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        left = answer.size if with_body else 0
        while left > 0 and (piece := await asyncio.to_thread(file.read, min(left, PIECE))):
            left -= len(piece)
            await send({"type": "http.response.body", "body": piece, "more_body": left > 0})
        if left > 0 or not with_body or answer.size == 0:
            # A file that became shorter ends the connection early, which the client can see by the length.
            await send({"type": "http.response.body", "body": b""})


async def _body_in_pieces(receive: Receive) -> AsyncIterator[bytes]:
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _gone()
        yield message.get("body", b"")
        more = message.get("more_body", False)


def _gone() -> ApiError:
    return ApiError(400, "Payload error: the client went away before its request was complete")


async def _read_body(receive: Receive, headers: dict[bytes, bytes]) -> bytes:
    length = headers.get(b"content-length", b"0")
    if length.isdigit() and int(length) > MAX_BODY:
        raise _too_large()
    parts: list[bytes] = []
    size = 0
    async for part in _body_in_pieces(receive):
        size += len(part)
        if size > MAX_BODY:
            raise _too_large()
        parts.append(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _too_large() -> ApiError:
    return ApiError(413, f"Payload error: JSON payload is larger than allowed (limit: {MAX_BODY} bytes)")


def _envelope(started: float, result: Any, status: Any) -> bytes:
    return _encoder.encode({"result": result, "status": status, "time": time.perf_counter() - started})
