"""What every vector store is held to: the embedded one always, and the server at QDRANT_URL too where that is set."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from qdrant_client import AsyncQdrantClient, QdrantClient

from tests.support.vectors.release_passages import FOREVER, create_knowledge, passage
from tests.support.vectors.vector_store import API_KEY, STORES, connect, either_store, own_collection


@pytest.fixture(scope="module", params=STORES)
def store(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def api_key(store: str) -> str | None:
    return API_KEY if store == "server" else None


@pytest.fixture(scope="module")
def url(store: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with either_store(store, tmp_path_factory.mktemp("vectors")) as url:
        yield url


@pytest.fixture(scope="module")
def http(url: str, api_key: str | None) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, headers={"api-key": api_key} if api_key else {}, timeout=30) as http:
        yield http


@pytest.fixture(scope="module")
def client(url: str, api_key: str | None) -> Iterator[QdrantClient]:
    client = connect(url, api_key)
    yield client
    client.close()


@pytest.fixture
async def async_client(url: str, api_key: str | None) -> AsyncIterator[AsyncQdrantClient]:
    client = AsyncQdrantClient(url=url, api_key=api_key, timeout=30, check_compatibility=False)
    yield client
    await client.close()


@pytest.fixture
def name(client: QdrantClient) -> Iterator[str]:
    """A collection name of this test's own; what it creates under it goes away."""
    with own_collection(client) as name:
        yield name


@pytest.fixture(scope="module")
def knowledge(client: QdrantClient) -> Iterator[str]:
    """1,000 passages; numbers 0-799 came with release 1, 800-999 with release 2, which removed 0-99."""
    with own_collection(client, "test-knowledge") as name:
        create_knowledge(client, name)
        for start in (0, 500):
            points = [
                passage(number, added=1 if number < 800 else 2, removed=2 if number < 100 else FOREVER)
                for number in range(start, start + 500)
            ]
            client.upsert(name, points, wait=True)
        yield name
