"""The vector stores that are captured and restored, and a knowledge base in each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.backups.vector_base import SERVER, Vectors, opened
from tests.support.vectors.vector_store import ServerProcess


@pytest.fixture(scope="session", params=["embedded", "server"] if SERVER else ["embedded"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if request.param == "server":
        assert SERVER
        yield SERVER
        return
    folder = tmp_path_factory.mktemp("vectors")
    server = ServerProcess(folder / "data", log=folder / "log").wait_until_ready()
    yield server.url
    server.stop()


@pytest.fixture
def base(url: str) -> Iterator[Vectors]:
    base = opened(url)
    yield base
    for name in base.ours():
        base.client.delete_collection(name)
    base.client.close()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"
