"""Collections as the platform has them, small, with an alias and the live release behind it; and what they hold."""

from __future__ import annotations

import uuid
from typing import Any

from qdrant_client import QdrantClient, models

from tests.support.vectors.release_passages import create_knowledge, passage


def publish(client: QdrantClient, alias: str, name: str, release: int, points: range) -> None:
    """A collection with points, and the alias that leads to it."""
    create_knowledge(client, name)
    client.upsert(name, [passage(number) for number in points], wait=True)
    client.update_collection(name, metadata={"collection": name, "live_release": release, "fusion_weight": 0.3})
    lead(client, alias, name)


def lead(client: QdrantClient, alias: str, name: str) -> None:
    held = {each.alias_name for each in client.get_aliases().aliases}
    operations: list[models.AliasOperations] = []
    if alias in held:
        operations.append(models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=alias)))
    create = models.CreateAlias(collection_name=name, alias_name=alias)
    operations.append(models.CreateAliasOperation(create_alias=create))
    client.update_collection_aliases(operations)


def contents(client: QdrantClient, name: str) -> list[tuple[Any, ...]]:
    """Every point with payload and vectors, in an order that does not depend on the store."""
    found: list[tuple[Any, ...]] = []
    offset = None
    while True:
        points, offset = client.scroll(name, limit=1000, offset=offset, with_vectors=True)
        found += [(str(point.id), point.payload, sorted(dict(point.vector or {}).items())) for point in points]  # type: ignore[arg-type]
        if offset is None:
            return sorted(found, key=lambda point: point[0])


def aliases(client: QdrantClient) -> dict[str, str]:
    return {each.alias_name: each.collection_name for each in client.get_aliases().aliases}


def names(client: QdrantClient) -> set[str]:
    return {each.name for each in client.get_collections().collections}


def snapshots(client: QdrantClient) -> list[str]:
    """Snapshots that lie on the node, of any collection."""
    return [each.name for name in names(client) for each in client.list_snapshots(name)]


def fresh_alias() -> str:
    return f"kb{uuid.uuid4().hex[:8]}"
