"""Fixtures of the unit tests of orchestration."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tests.support.faults.alert_receiver import Receiver


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()
