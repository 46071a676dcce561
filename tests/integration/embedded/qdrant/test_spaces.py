"""A collection's vectors come and go while others write: what is refused stays away, and what was written stays."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from embedded.qdrant.api.collections import Collections
from embedded.qdrant.api.http import Request
from embedded.qdrant.api.points import Points
from embedded.qdrant.errors import ApiError
from embedded.qdrant.shards.optimizer import Optimizer
from embedded.qdrant.shards.store import Store

MANY = 1000  # points: they are checked in pieces, between which others get their turn


class Handlers:
    """The routes over one store, in this process, so that a test decides who comes when."""

    def __init__(self, data: Path) -> None:
        self.store = Store(data, reserve=0)
        self.store.open()
        self.collections = Collections(self.store, Optimizer(self.store))
        self.points = Points(self.store)
        if not self.store.exists("c"):
            spaces = {name: {"size": 2, "distance": "Dot"} for name in ("kept", "other")}
            self.collections.create(request({"vectors": spaces}))

    def stored(self) -> dict[int, list[str]]:
        """The names of each point's vectors."""
        points = self.points.scroll(request({"limit": 2 * MANY, "with_vector": True}))["points"]
        return {point["id"]: sorted(point["vector"]) for point in points}

    async def upsert(self, *names: str, count: int = 1) -> None:
        """Write points from 0 with the named vectors."""
        vector = {name: [1.0, 2.0] for name in names}
        await self.points.upsert(request({"points": [{"id": number, "vector": vector} for number in range(count)]}))

    async def create(self, vector: str) -> None:
        """Add a vector of two numbers."""
        await self.collections.create_vector(request({"dense": {"size": 2, "distance": "Dot"}}, vector=vector))

    async def delete(self, vector: str) -> None:
        """Remove a vector."""
        await self.collections.delete_vector(request(vector=vector))


def request(body: Any = None, **path: str) -> Request:
    return Request({"name": "c", **path}, {}, json.dumps(body).encode())


@pytest.fixture
def handlers(tmp_path: Path) -> Iterator[Handlers]:
    handlers = Handlers(tmp_path / "data")
    yield handlers
    handlers.store.close()


async def turns() -> None:
    """Let everybody go on to where they have to wait."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_a_write_whose_vector_goes_meanwhile_is_refused_and_does_not_come_back(
    handlers: Handlers, tmp_path: Path
) -> None:
    write = asyncio.create_task(handlers.upsert("kept", "other", count=MANY))
    await asyncio.sleep(0)
    await handlers.delete("other")
    with pytest.raises(ApiError, match="Not existing vector name error: other"):
        await write
    assert handlers.stored() == {}
    # As it is on the disk now, so it is after a kill.
    shutil.copytree(tmp_path / "data", tmp_path / "killed")
    killed = Handlers(tmp_path / "killed")
    assert killed.stored() == {}
    killed.store.close()


async def test_a_write_that_waited_is_checked_against_the_vectors_of_now(handlers: Handlers) -> None:
    write = asyncio.create_task(handlers.upsert("kept", count=MANY))
    await asyncio.sleep(0)
    await handlers.delete("other")
    await write
    assert handlers.stored() == {number: ["kept"] for number in range(MANY)}


async def test_of_two_who_create_a_vector_the_second_takes_nothing_away(handlers: Handlers) -> None:
    async with handlers.store.get("c").upkeep:
        first = asyncio.create_task(handlers.create("new"))
        second = asyncio.create_task(handlers.create("new"))
        third = asyncio.create_task(handlers.create("newer"))
        await turns()
    await first
    await handlers.upsert("new")
    await asyncio.gather(second, third)
    await handlers.upsert("newer", "new")
    assert handlers.stored() == {0: ["new", "newer"]}


async def test_a_vector_is_there_for_all_or_for_none_when_it_is_deleted_and_created_at_once(handlers: Handlers) -> None:
    async with handlers.store.get("c").upkeep:
        both = [asyncio.create_task(handlers.delete("other")), asyncio.create_task(handlers.create("other"))]
        await turns()
    await asyncio.gather(*both)
    if "other" in handlers.store.get("c").config.names():
        await handlers.upsert("other")
        assert handlers.stored() == {0: ["other"]}


async def test_a_deleted_collection_is_not_brought_back_by_who_waited_for_it(
    handlers: Handlers, tmp_path: Path
) -> None:
    async with handlers.store.get("c").upkeep:
        waiting = asyncio.create_task(handlers.delete("other"))
        await turns()
        handlers.collections.delete(request())
    with pytest.raises(ApiError, match="doesn't exist"):
        await waiting
    assert '"c"' not in (tmp_path / "data" / "registry.json").read_text()
