"""Dagster's GraphQL is asked only where it is our own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from embedded.runs import DagsterUnreachable, Runs


@pytest.fixture
def stranger() -> Iterator[tuple[str, list[bytes]]]:
    """Somebody else's webserver, and what it was asked."""
    asked: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_error(500)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_nothing_is_cancelled_or_launched_at_another_ones_dagster(
    stranger: tuple[str, list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embedded.runs.time.sleep", lambda _: None)
    address, asked = stranger
    theirs = Runs(address, is_ours=lambda: False)
    with pytest.raises(DagsterUnreachable, match="does not have that port"):
        theirs.cancel_unfinished()
    with pytest.raises(DagsterUnreachable):
        theirs.launch()
    assert asked == []
