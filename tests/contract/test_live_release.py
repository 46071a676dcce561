"""The platform's own calls, through its own code: what the pipeline writes is what the chat reads, all the while."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from threading import Event, Thread

import numpy as np
import pytest
from qdrant_client import AsyncQdrantClient

from knowledge.models.lexical import SparseVector
from knowledge.releases.collection import Collections
from knowledge.releases.vector_store import CURRENT, Live, Point, VectorStoreUnavailable
from knowledge.retrieval.retriever import gathered, requests
from zhiyun.settings import QdrantSettings


@pytest.fixture
def collections(url: str, api_key: str | None) -> Iterator[Collections]:
    alias = f"kb_{uuid.uuid4().hex[:10]}"
    collections = Collections(QdrantSettings(url=url, api_key=api_key or "", collection=alias))
    yield collections
    for name in collections.all():
        collections.delete(name)
    collections.close()


def points(numbers: range, added: int, removed: int = CURRENT) -> list[Point]:
    return [
        Point(
            uuid.UUID(int=number),
            _direction(number),
            SparseVector([1, 10 + number], [1.0, 2.0]),
            {"added_in": added, "removed_in": removed, "document_id": f"doc-{number % 10}", "number": number},
        )
        for number in numbers
    ]


def _direction(number: int) -> list[float]:
    return np.random.default_rng(number).normal(size=8).tolist()


def published(collections: Collections, release: int, fingerprint: str) -> str:
    name = collections.name(fingerprint)
    collections.publish(name, {"live_release": release, "collection": name, "fingerprint": fingerprint})
    return name


def test_a_release_is_written_published_and_followed_by_another(collections: Collections) -> None:
    name = collections.name("a" * 64)
    assert collections.live() is None
    assert not collections.exists(name)
    collections.create(name, 8, {"fingerprint": "a" * 64})
    assert collections.exists(name)
    assert collections.all() == [name]
    assert collections.upsert(name, points(range(600), added=1)) == 600
    assert collections.live() is None
    published(collections, 1, "a" * 64)
    assert collections.live() == Live(name, 1)

    collections.upsert(name, points(range(600, 700), added=2))
    collections.set_removed_in(name, [uuid.UUID(int=number) for number in range(300)], 2)
    assert collections.count(name, 1) == 600
    assert collections.count(name, 2) == 400
    published(collections, 2, "a" * 64)
    assert collections.live() == Live(name, 2)

    collections.delete_removed_by(name, 2)
    assert (collections.count(name, 1), collections.count(name, 2)) == (300, 400)
    collections.delete_added_in(name, 2)
    assert collections.count(name, 2) == 300
    collections.set_removed_in(name, [uuid.UUID(int=number) for number in range(300, 400)], 3)
    collections.set_removed_in(name, [uuid.UUID(int=number) for number in range(300, 400)], CURRENT)
    assert collections.count(name, 3) == 300


def test_another_fingerprint_takes_over_and_the_old_one_can_go(collections: Collections) -> None:
    for fingerprint in ("a" * 64, "b" * 64):
        collections.create(collections.name(fingerprint), 8, {"fingerprint": fingerprint})
    old = published(collections, 1, "a" * 64)
    new = published(collections, 2, "b" * 64)
    assert collections.live() == Live(new, 2)
    collections.delete(old)
    assert collections.all() == [new]
    assert collections.live() == Live(new, 2)


def test_a_refusal_names_the_setting(collections: Collections) -> None:
    with pytest.raises(VectorStoreUnavailable, match="QDRANT_URL"):
        collections.count("nowhere", 1)


async def test_the_chat_finds_what_the_release_has(collections: Collections, async_client: AsyncQdrantClient) -> None:
    name = collections.name("a" * 64)
    collections.create(name, 8, {})
    collections.upsert(name, points(range(100), added=1))
    collections.upsert(name, points(range(100, 200), added=2))
    published(collections, 1, "a" * 64)
    information = await async_client.get_collection(collections.alias)
    assert (information.config.metadata or {})["live_release"] == 1
    wanted = requests(np.array(_direction(7), np.float32), SparseVector([1, 17], [1.0, 1.0]), 1, 50)
    found = gathered(await async_client.query_batch_points(name, wanted))
    assert max(found.dense, key=found.dense.__getitem__) == str(uuid.UUID(int=7))
    assert max(found.lexical, key=found.lexical.__getitem__) == str(uuid.UUID(int=7))
    assert {payload["added_in"] for payload in found.payloads.values()} == {1}
    (passage,) = await async_client.retrieve(collections.alias, [str(uuid.UUID(int=7))], with_payload=True)
    assert passage.payload is not None
    assert passage.payload["number"] == 7


async def test_a_release_does_not_change_while_the_next_one_is_written(
    collections: Collections, async_client: AsyncQdrantClient
) -> None:
    name = collections.name("a" * 64)
    collections.create(name, 8, {})
    collections.upsert(name, points(range(200), added=1))
    published(collections, 1, "a" * 64)
    wanted = requests(np.array(_direction(7), np.float32), SparseVector([1], [1.0]), 1, 300)
    done = Event()

    def write() -> None:
        try:
            collections.upsert(name, points(range(1000, 3000), added=2))
            collections.set_removed_in(name, [uuid.UUID(int=number) for number in range(100)], 2)
        finally:
            done.set()

    writer = Thread(target=write)
    writer.start()
    turns = 0
    while not done.is_set() or turns < 5:
        for found in await asyncio.gather(*(async_client.query_batch_points(name, wanted) for _ in range(4))):
            assert len(gathered(found).payloads) == 200
        turns += 1
    writer.join()
    assert (collections.count(name, 1), collections.count(name, 2)) == (200, 2100)
