"""An address for alerts that answers as it is told, or breaks the connection off."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Receiver(ThreadingHTTPServer):
    """An address that answers as it is told, in turn; then with 200."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[int] = []
        self.bodies: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hook?token=sk-abcdefghijkl"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = self.server.answers.pop(0) if self.server.answers else 200
        if answer == 0:
            self.close_connection = True
            return
        if answer == 200:
            self.server.bodies.append(body)
        self.send_response(answer)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass
