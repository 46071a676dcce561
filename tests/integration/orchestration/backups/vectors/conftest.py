"""The vector stores that are captured and restored, and a knowledge base in each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.backups.vector_base import Vectors, opened
from tests.support.vectors.vector_store import STORES, either_store


@pytest.fixture(scope="session", params=STORES)
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with either_store(request.param, tmp_path_factory.mktemp("vectors")) as url:
        yield url


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
