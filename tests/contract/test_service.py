"""The async client, health and figures."""

from __future__ import annotations

from importlib.metadata import version

import httpx
from qdrant_client import AsyncQdrantClient, models
from qdrant_client.common.version_check import is_compatible

from tests.support.vectors.release_passages import dense, in_release, lexical, numbers


async def test_the_async_client_is_served_alike(async_client: AsyncQdrantClient, knowledge: str) -> None:
    answers = await async_client.query_batch_points(
        knowledge,
        [
            models.QueryRequest(query=dense(7), using="dense", filter=in_release(1), with_payload=True),
            models.QueryRequest(query=lexical(7, 5007), using="lexical", filter=in_release(1), with_payload=True),
        ],
    )
    assert [numbers(answer.points)[0] for answer in answers] == [7, 7]
    assert (await async_client.count(knowledge)).count == 1000
    assert await async_client.collection_exists(knowledge)
    assert (await async_client.get_collection(knowledge)).points_count == 1000


def test_the_client_finds_the_version_compatible(http: httpx.Client) -> None:
    assert is_compatible(version("qdrant-client"), http.get("/").json()["version"])


def test_health_and_figures(http: httpx.Client, knowledge: str) -> None:
    for path in ("/healthz", "/readyz", "/livez"):
        assert http.get(path).status_code == 200
    assert http.get(f"/collections/{knowledge}").json()["status"] == "ok"
    figures = http.get("/metrics")
    assert figures.headers["content-type"].startswith("text/plain")
    assert "collections_total" in figures.text
