"""The embedded vector store as a process, for tests that start, stop or kill it themselves."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from qdrant_client import QdrantClient

from embedded.services import ports
from zhiyun.repository import REPOSITORY

# The server that a developer has, with its key. Read once, before any test puts a store of its own there.
SERVER = os.environ.get("QDRANT_URL")
API_KEY = os.environ.get("QDRANT_API_KEY")
STORES = ["embedded", "server"] if SERVER else ["embedded"]


class ServerProcess:
    """A server process over a data folder."""

    def __init__(self, data: Path, *options: str, log: Path | None = None, port: int | None = None) -> None:
        """Start it; what it says goes to `log`, or else to pipes that a test reads once it has ended."""
        port = port or ports.free_port()
        self.url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "embedded.qdrant", "--data", str(data), "--port", str(port), *options]
        # A key there is the one of the server at QDRANT_URL.
        environment = {name: value for name, value in os.environ.items() if name != "QDRANT_API_KEY"}
        if log:
            with log.open("ab") as stream:
                self.process: subprocess.Popen[Any] = subprocess.Popen(
                    command, stdout=stream, stderr=subprocess.STDOUT, cwd=REPOSITORY, env=environment
                )
        else:
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY, env=environment
            )

    def wait_until_ready(self) -> ServerProcess:
        """Give itself once it answers. Raises AssertionError when it ends, or is silent for 10 s."""
        for _ in range(200):
            if self.process.poll() is not None:
                raise AssertionError(f"the server ended: {self.process.communicate()[1]}")
            try:
                httpx.get(f"{self.url}/healthz", timeout=1)
                return self
            except httpx.TransportError:
                time.sleep(0.05)
        raise AssertionError("the server did not answer within 10 s")

    def stop(self) -> int:
        """End it as the supervisor would; gives the exit code."""
        self.process.terminate()
        code = self.process.wait(timeout=20)
        for stream in (self.process.stdout, self.process.stderr):
            if stream:
                stream.close()
        return code


def connect(url: str, api_key: str | None = None) -> QdrantClient:
    """A client that does not ask for the version: it would in a thread that may outlive a server stopped soon."""
    return QdrantClient(url=url, api_key=api_key, timeout=30, check_compatibility=False)


@contextmanager
def embedded_store(folder: Path) -> Iterator[str]:
    """A process of the embedded one with its data and its log in `folder`; gives its URL."""
    server = ServerProcess(folder / "data", log=folder / "log").wait_until_ready()
    try:
        yield server.url
    finally:
        server.stop()


@contextmanager
def either_store(which: str, folder: Path) -> Iterator[str]:
    """The URL of one of STORES: the embedded one with its data in `folder`, or the developer's server."""
    if which == "server":
        assert SERVER
        yield SERVER
        return
    with embedded_store(folder) as url:
        yield url


@contextmanager
def own_collection(client: QdrantClient, kind: str = "test") -> Iterator[str]:
    """A collection name of a test's own; what it creates under it goes away."""
    name = f"{kind}-{uuid.uuid4().hex[:8]}"
    try:
        yield name
    finally:
        client.delete_collection(name)
