"""Whether each service answers: used while the stack starts, and by `zhiyun status`."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

# A client's first words in HTTP/2 (RFC 9113, section 3.4), and an empty SETTINGS frame.
_HTTP2_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
_SETTINGS = 4


def http(url: str) -> Callable[[], bool]:
    """A GET answers with a status below 400."""

    def answers() -> bool:
        import httpx

        try:
            return httpx.get(url, timeout=5, trust_env=False).status_code < 400
        except httpx.HTTPError:
            return False

    return answers


def grpc(port: int) -> Callable[[], bool]:
    """A gRPC server on the loopback greets in HTTP/2. Dagster's listens once its code is loaded."""

    def answers() -> bool:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=3) as connection:
                connection.sendall(_HTTP2_HELLO)
                header = connection.recv(9)
        except OSError:
            return False
        return len(header) == 9 and struct.unpack(">3xB5x", header)[0] == _SETTINGS

    return answers


def postgres(url: str) -> Callable[[], bool]:
    """A connection can be opened."""

    def answers() -> bool:
        import psycopg

        try:
            with psycopg.connect(url, connect_timeout=3):
                return True
        except psycopg.OperationalError:
            return False

    return answers


def daemon(url: str, since: datetime | None = None) -> Callable[[], bool]:
    """Dagster's daemon has beaten since then, or in the last two minutes. `url`: Dagster's database."""

    def beats() -> bool:
        import psycopg

        oldest = since or datetime.now(UTC) - timedelta(minutes=2)
        try:
            with psycopg.connect(url, connect_timeout=3) as connection:
                row = connection.execute("SELECT max(timestamp) FROM daemon_heartbeats").fetchone()
        except psycopg.Error:
            return False
        return bool(row and row[0] and row[0].replace(tzinfo=UTC) >= oldest)

    return beats
