"""Doctor and the way to a service: a slow network is told, and a machine that was busy for a moment is not."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from console.doctor.areas import network


@contextmanager
def listening(held_up: int) -> Iterator[network.Address]:
    """A service whose first connections take a second each: its queue is full, and the system sends again after that."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        port = server.getsockname()[1]
        filler = socket.create_connection(("127.0.0.1", port))
        over = threading.Event()

        def accept() -> None:
            taken = [filler]
            for _ in range(held_up):
                select.select([server], [], [], 30)
                over.wait(0.5)  # the connection to come finds the queue full, and room when it is sent again
                taken.append(server.accept()[0])
            server.listen(16)
            over.wait()
            for one in taken:
                one.close()

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield network.Address("DATABASE_URL", "PostgreSQL", "127.0.0.1", port)
        finally:
            over.set()
            thread.join()


def test_a_way_on_which_every_connection_is_slow_is_told() -> None:
    with listening(held_up=3) as address:
        findings = list(network.walk(address, "start it"))
    assert [finding.kind.code for finding in findings] == ["network.slow"]


def test_one_slow_connection_is_a_busy_machine() -> None:
    with listening(held_up=1) as address:
        assert list(network.walk(address, "start it")) == []
