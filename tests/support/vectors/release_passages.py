"""Passages of two releases, as the platform keeps them in the vector store, with vectors that chance gives."""

from __future__ import annotations

import random
import uuid

from qdrant_client import QdrantClient, models

SIZE = 256
FOREVER = 2**53 - 1


def dense(seed: int) -> list[float]:
    chance = random.Random(seed)
    return [chance.gauss(0, 1) for _ in range(SIZE)]


def lexical(seed: int, *extra: int) -> models.SparseVector:
    chance = random.Random(seed)
    indices = sorted({chance.randrange(1000) for _ in range(20)} | set(extra))
    return models.SparseVector(indices=indices, values=[1.0 + chance.random() for _ in indices])


def passage(number: int, added: int = 1, removed: int = FOREVER) -> models.PointStruct:
    return models.PointStruct(
        id=str(uuid.UUID(int=number)),
        vector={"dense": dense(number), "lexical": lexical(number, 5000 + number)},
        payload={
            "added_in": added,
            "removed_in": removed,
            "document_id": f"doc-{number % 10}",
            "text": f"第 {number} 段",
            "number": number,
        },
    )


def in_release(number: int) -> models.Filter:
    return models.Filter(
        must=[
            models.FieldCondition(key="added_in", range=models.Range(lte=number)),
            models.FieldCondition(key="removed_in", range=models.Range(gt=number)),
        ]
    )


def create_knowledge(client: QdrantClient, name: str) -> None:
    client.create_collection(
        name,
        vectors_config={"dense": models.VectorParams(size=SIZE, distance=models.Distance.COSINE)},
        sparse_vectors_config={"lexical": models.SparseVectorParams(modifier=models.Modifier.IDF)},
        metadata={"fingerprint": "abc", "live_release": 0},
    )
    for field, kind in (("added_in", "integer"), ("removed_in", "integer"), ("document_id", "keyword")):
        client.create_payload_index(name, field, field_schema=models.PayloadSchemaType(kind), wait=True)


def numbers(points: list[models.ScoredPoint] | list[models.Record]) -> list[int]:
    return [point.payload["number"] for point in points if point.payload]
