"""The command: `python -m embedded.qdrant --data DIR --port N`."""

import argparse
import asyncio
import contextlib
import ipaddress
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

import uvicorn

from embedded.qdrant.api.app import create_app
from embedded.qdrant.api.http import Receive, Scope, Send
from embedded.qdrant.errors import StartError
from embedded.qdrant.shards.optimizer import Optimizer
from embedded.qdrant.shards.store import Store

log = logging.getLogger("embedded.qdrant")


def main() -> int:
    """Serve until SIGTERM or Ctrl-C. Gives the exit code: 0 after a clean stop, 1 if it could not start."""
    options = _parse()
    # Copying and syncing files happens in threads, while writers wait: let them in more often than every 5 ms.
    sys.setswitchinterval(0.0005)
    logging.basicConfig(
        level=options.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    store = Store(options.data, reserve=options.reserve_mib << 20)
    try:
        if not _is_loopback(options.host) and not options.api_key:
            raise StartError(f"--host {options.host} is reachable from outside this machine: give an --api-key as well")
        with contextlib.closing(_bind(options.host, options.port)) as listener, contextlib.closing(store):
            store.open()
            _serve(store, listener, options)
    except StartError as error:
        print(f"embedded.qdrant: {error}", file=sys.stderr)
        return 1
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m embedded.qdrant", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds the collections")
    parser.add_argument("--port", type=int, required=True, help="the port to listen on")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: this machine only)")
    parser.add_argument(
        "--api-key",
        default=os.environ.get("QDRANT_API_KEY") or None,
        help="ask every request for this key (default: QDRANT_API_KEY)",
    )
    parser.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    parser.add_argument(
        "--flush-seconds", type=float, default=3.0, help="how often writes are made to outlive the machine"
    )
    parser.add_argument(
        "--quiet-seconds",
        type=float,
        default=2.0,
        help="a collection that has grown is optimised when nobody has written to it for so long (or after 20 s)",
    )
    parser.add_argument(
        "--reserve-mib", type=int, default=256, help="refuse writes when less than this is free on the disk"
    )
    return parser.parse_args()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _bind(host: str, port: int) -> socket.socket:
    """Take the port, without answering on it yet. Raises StartError."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, proto)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except (OSError, OverflowError) as error:
        raise StartError(f"cannot listen on {host}:{port}: {error}") from error
    return listener


def _serve(store: Store, listener: socket.socket, options: argparse.Namespace) -> None:
    optimizer = Optimizer(store, options.quiet_seconds)
    app = create_app(store, optimizer, options.api_key)

    async def with_lifespan(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            async with _running(_flush_for_ever(store, options.flush_seconds), optimizer.run_for_ever()):
                await _lifespan(receive, send)
        else:
            await app(scope, receive, send)

    config = uvicorn.Config(
        with_lifespan,
        access_log=False,
        log_config=None,
        log_level="warning",
        server_header=False,
        date_header=False,
        lifespan="on",
        timeout_keep_alive=75,
        timeout_graceful_shutdown=10,
        backlog=1024,
    )
    host, port = listener.getsockname()[:2]
    log.info("serving %d collections of %s on http://%s:%d", len(store.collections), options.data, host, port)
    server = uvicorn.Server(config)

    def stop(*_: object) -> None:
        server.should_exit = True

    # For a signal that comes before uvicorn listens, and for the one that it raises again at its end.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    server.run(sockets=[listener])


@contextlib.asynccontextmanager
async def _running(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Do the work for as long as the server runs."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _flush_for_ever(store: Store, seconds: float) -> None:
    while True:
        await asyncio.sleep(seconds)
        for collection in list(store.collections.values()):
            try:
                await collection.flush_in_background()
            except OSError as error:
                log.error("collection %s could not be flushed, will try again: %s", collection.name, error)


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


if __name__ == "__main__":
    sys.exit(main())
