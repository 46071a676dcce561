"""A wire between a program and an object store that fails as it is told to: errors, delays, answers cut short or lost."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_FOREVER = 1 << 60
_ERROR = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>as the test wants it</Message></Error>'
)


class Faults:
    """Forwards to `target`, the address of a store, and stands at `url`. All faults are off at first.

    `seen` are the requests that came: (method, path with query). `only` chooses the requests that faults are for:
    `faults.only = lambda method, path: "uploadId=" in path`.
    """

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._target = (parts.hostname or "", parts.port or 80)
        self._lock = threading.Lock()
        self.seen: list[tuple[str, str]] = []
        self.mend()
        faults = self

        class Handler(_Handler):
            wire = faults

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def mend(self) -> None:
        """Forward everything as it is."""
        self.only: Callable[[str, str], bool] = lambda method, path: True
        self._failing, self._answer = 0, (500, "InternalError")
        self._delay = 0.0
        self._cutting, self._cut_after = 0, 0
        self._losing = 0

    def fail(self, times: int = _FOREVER, status: int = 500, code: str = "InternalError") -> None:
        """Answer the next requests with an error, without forwarding them."""
        self._failing, self._answer = times, (status, code)

    def delay(self, seconds: float) -> None:
        """Let every request wait."""
        self._delay = seconds

    def cut(self, after: int, times: int = _FOREVER) -> None:
        """End the connection after so many bytes of an answer's body that is longer."""
        self._cutting, self._cut_after = times, after

    def lose_answers(self, times: int = _FOREVER) -> None:
        """Forward a request, and end the connection instead of answering."""
        self._losing = times

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _take(self, counter: str) -> bool:
        with self._lock:
            left: int = getattr(self, counter)
            if left:
                setattr(self, counter, left - 1)
            return left > 0


class _Handler(BaseHTTPRequestHandler):
    wire: Faults
    protocol_version = "HTTP/1.1"
    timeout = 60

    def _forward(self) -> None:
        wire = self.wire
        wire.seen.append((self.command, self.path))
        meant = wire.only(self.command, self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if meant and wire._delay:
            time.sleep(wire._delay)
        if meant and wire._take("_failing"):
            status, code = wire._answer
            self._reply(status, [], _ERROR.format(code=code).encode())
            return
        upstream = http.client.HTTPConnection(*wire._target, timeout=60)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
            upstream.request(self.command, self.path, body, headers)
            answer = upstream.getresponse()
            content = answer.read()
        finally:
            upstream.close()
        if meant and wire._take("_losing"):
            self._hang_up()
            return
        self._reply(answer.status, answer.getheaders(), content, meant=meant)

    def _reply(self, status: int, headers: list[tuple[str, str]], body: bytes, *, meant: bool = False) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        told = {name.lower(): value for name, value in headers}.get("content-length", "")
        self.send_header("Content-Length", told if self.command == "HEAD" and told else str(len(body)))
        self.end_headers()
        cut = meant and len(body) > self.wire._cut_after and self.wire._take("_cutting")
        if self.command != "HEAD":
            with suppress(OSError):
                self.wfile.write(body[: self.wire._cut_after] if cut else body)
        if cut:
            self._hang_up()

    def _hang_up(self) -> None:
        with suppress(OSError):
            self.wfile.flush()
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: `seen` has it."""

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _forward


@contextmanager
def faulty(target: str) -> Iterator[Faults]:
    """A wire to a store, taken away at the end."""
    wire = Faults(target)
    try:
        yield wire
    finally:
        wire.close()
