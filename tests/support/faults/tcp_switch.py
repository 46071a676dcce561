"""A wire between a service and a store that a test can cut, leave dead, and mend."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal


class Switch:
    """Forwards a port of its own to `target`. `state`: `on`; `off` refuses and breaks; `dead` takes and is silent.

    `delay`: seconds that each piece of what is sent either way takes.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self.delay = 0.0
        self._state: Literal["on", "off", "dead"] = "on"
        self._pairs: list[socket.socket] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def state(self) -> Literal["on", "off", "dead"]:
        return self._state

    @state.setter
    def state(self, state: Literal["on", "off", "dead"]) -> None:
        self._state = state
        if state != "on":
            for end in self._pairs:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            self._pairs.clear()

    def close(self) -> None:
        self._server.close()
        self.state = "off"

    def _accept(self) -> None:
        held: list[socket.socket] = []
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            if self._state == "off":
                client.close()
            elif self._state == "dead":
                held.append(client)
            else:
                try:
                    target = socket.create_connection(self._target)
                except OSError:
                    client.close()
                    continue
                self._pairs += [client, target]
                for a, b in ((client, target), (target, client)):
                    threading.Thread(target=self._pump, args=(a, b), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                time.sleep(self.delay)
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextmanager
def switch(host: str, port: int) -> Iterator[Switch]:
    """A wire to a port, cut at the end."""
    wire = Switch((host, port))
    try:
        yield wire
    finally:
        wire.close()
