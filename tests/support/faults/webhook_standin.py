"""A webhook that keeps what it is told and answers what a test wants."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Webhook:
    """`answers` are given once each, in turn, as (status, body, headers); then 200 with `{"errcode": 0}`."""

    url: str = ""
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    answers: list[tuple[int, str, dict[str, str]]] = field(default_factory=list)

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(content) for _, _, content in self.requests]

    def told(self, status: str) -> list[str]:
        """The keys of all alerts that were told with this status, in the generic format."""
        return [a["key"] for body in list(self.bodies) if body["status"] == status for a in body["alerts"]]


@contextmanager
def webhook_standin() -> Iterator[Webhook]:
    standin = Webhook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["content-length"]))
            standin.requests.append((self.path, {k.lower(): v for k, v in self.headers.items()}, content))
            status, text, headers = standin.answers.pop(0) if standin.answers else (200, '{"errcode": 0}', {})
            self.send_response(status)
            for name, value in {**headers, "content-length": str(len(text.encode()))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    standin.url = f"http://127.0.0.1:{server.server_port}/hook?access_token=very-secret-token"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield standin
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
