"""Writes to points, and points read by id or page by page."""

from __future__ import annotations

import uuid
from typing import Any

import httpx
import pytest
from qdrant_client import QdrantClient, models

from tests.support.vectors.release_passages import SIZE, create_knowledge, dense, in_release, numbers, passage


def test_writing_a_point_again_replaces_it(client: QdrantClient, name: str) -> None:
    create_knowledge(client, name)
    client.upsert(name, [passage(1)], wait=True)
    client.upsert(name, [passage(1, added=7)], wait=True)
    (found,) = client.retrieve(name, [str(uuid.UUID(int=1))], with_vectors=True)
    assert found.payload is not None
    assert found.payload["added_in"] == 7
    assert isinstance(found.vector, dict)
    assert isinstance(found.vector["dense"], list)
    assert len(found.vector["dense"]) == SIZE
    assert client.count(name).count == 1


def test_payload_is_changed_by_ids_and_by_filter(client: QdrantClient, name: str) -> None:
    create_knowledge(client, name)
    client.upsert(name, [passage(number) for number in range(20)], wait=True)
    ids: list[Any] = [str(uuid.UUID(int=number)) for number in (1, 2)]
    client.set_payload(name, {"removed_in": 2}, points=ids, wait=True)
    assert client.count(name, count_filter=in_release(2)).count == 18
    by_document = models.Filter(must=[models.FieldCondition(key="document_id", match=models.MatchValue(value="doc-3"))])
    client.set_payload(name, {"removed_in": 2}, points=by_document, wait=True)
    assert client.count(name, count_filter=in_release(2)).count == 16
    client.delete_payload(name, ["text"], points=ids, wait=True)
    client.overwrite_payload(name, {"only": True}, points=ids[:1], wait=True)
    first, second = sorted(client.retrieve(name, ids), key=lambda point: str(point.id))
    assert first.payload == {"only": True}
    assert second.payload is not None
    assert "text" not in second.payload
    client.clear_payload(name, points_selector=ids, wait=True)
    assert [point.payload for point in client.retrieve(name, ids)] == [{}, {}]


def test_points_are_deleted_by_ids_and_by_filter(client: QdrantClient, name: str) -> None:
    create_knowledge(client, name)
    client.upsert(name, [passage(number, added=1 + number % 2) for number in range(20)], wait=True)
    client.delete(name, [str(uuid.UUID(int=0)), str(uuid.UUID(int=77))], wait=True)
    assert client.count(name).count == 19
    added_in_2 = models.Filter(must=[models.FieldCondition(key="added_in", match=models.MatchValue(value=2))])
    client.delete(name, models.FilterSelector(filter=added_in_2), wait=True)
    assert client.count(name).count == 9


def test_a_batch_of_writes_is_applied_in_order(client: QdrantClient, name: str) -> None:
    create_knowledge(client, name)
    one = str(uuid.UUID(int=1))
    client.batch_update_points(
        name,
        [
            models.UpsertOperation(upsert=models.PointsList(points=[passage(1), passage(2)])),
            models.SetPayloadOperation(set_payload=models.SetPayload(payload={"x": 1}, points=[one])),
            models.DeleteOperation(delete=models.PointIdsList(points=[str(uuid.UUID(int=2))])),
            models.UpdateVectorsOperation(
                update_vectors=models.UpdateVectors(points=[models.PointVectors(id=one, vector={"dense": dense(9)})])
            ),
        ],
        wait=True,
    )
    (found,) = client.query_points(name, query=dense(9), using="dense", with_payload=True).points
    assert found.id == one
    assert found.score == pytest.approx(1.0, abs=1e-5)
    assert found.payload is not None
    assert found.payload["x"] == 1
    assert found.payload["number"] == 1


def test_the_unnamed_vector_and_integer_ids(client: QdrantClient, name: str) -> None:
    client.create_collection(name, vectors_config=models.VectorParams(size=2, distance=models.Distance.DOT))
    client.upsert(name, models.Batch(ids=[1, 2**64 - 1], vectors=[[0.9, 0.1], [0.2, 0.7]]), wait=True)
    assert client.get_collection(name).config.params.vectors == models.VectorParams(
        size=2, distance=models.Distance.DOT
    )
    found = client.query_points(name, query=[1.0, 0.0], with_vectors=True).points
    assert [(point.id, point.vector) for point in found] == [(1, [0.9, 0.1]), (2**64 - 1, [0.2, 0.7])]
    client.update_vectors(name, [models.PointVectors(id=1, vector=[0.0, 0.0])], wait=True)
    assert client.query_points(name, query=[1.0, 0.0]).points[0].id == 2**64 - 1


def test_payload_fields_are_included_or_excluded(client: QdrantClient, knowledge: str) -> None:
    wanted = [str(uuid.UUID(int=12))]
    (found,) = client.retrieve(knowledge, wanted, with_payload=models.PayloadSelectorInclude(include=["text"]))
    assert found.payload == {"text": "第 12 段"}
    (found,) = client.retrieve(knowledge, wanted, with_payload=models.PayloadSelectorExclude(exclude=["text"]))
    assert set(found.payload or {}) == {"added_in", "removed_in", "document_id", "number"}
    (found,) = client.retrieve(knowledge, wanted, with_payload=False, with_vectors=["lexical"])
    assert isinstance(found.vector, dict)
    assert set(found.vector) == {"lexical"}


def test_scroll_pages_through_a_filter_once(client: QdrantClient, knowledge: str) -> None:
    seen: list[int] = []
    offset: Any = None
    while True:
        page, offset = client.scroll(knowledge, in_release(2), limit=77, offset=offset)
        seen += numbers(page)
        if offset is None:
            break
    assert sorted(seen) == list(range(100, 1000))


def test_scroll_in_the_order_of_a_payload_value(client: QdrantClient, name: str) -> None:
    create_knowledge(client, name)
    client.upsert(name, [passage(number, added=100 - number) for number in range(30)], wait=True)
    order = models.OrderBy(key="added_in", direction=models.Direction.DESC, start_from=90)
    page, _ = client.scroll(name, limit=5, order_by=order)
    assert [(point.payload or {})["added_in"] for point in page] == [90, 89, 88, 87, 86]


BAD_POINTS = {
    "too few dimensions": {"id": 1, "vector": {"dense": [1.0]}},
    "a name that is not there": {"id": 1, "vector": {"nowhere": [1.0]}},
    "more indices than values": {"id": 1, "vector": {"lexical": {"indices": [1, 2], "values": [1.0]}}},
    "an index twice": {"id": 1, "vector": {"lexical": {"indices": [1, 1], "values": [1.0, 2.0]}}},
    "an index below zero": {"id": 1, "vector": {"lexical": {"indices": [-1], "values": [1.0]}}},
    "a number too large": {"id": 1, "vector": {"lexical": {"indices": [1], "values": [1e39]}}},
    "dense for sparse": {"id": 1, "vector": {"lexical": [1.0]}},
    "sparse for dense": {"id": 1, "vector": {"dense": {"indices": [1], "values": [1.0]}}},
    "an id below zero": {"id": -1, "vector": {}},
    "an id that is no UUID": {"id": "passage-1", "vector": {}},
    "no vector field": {"id": 1},
    "a payload that is a list": {"id": 1, "vector": {}, "payload": []},
}


@pytest.mark.parametrize("point", BAD_POINTS.values(), ids=BAD_POINTS.keys())
def test_a_bad_point_is_refused_and_so_is_its_batch(
    client: QdrantClient, http: httpx.Client, store: str, point: dict[str, Any]
) -> None:
    name = f"test-bad-{uuid.uuid4().hex[:8]}"
    create_knowledge(client, name)
    body = {"points": [{"id": 7, "vector": {"dense": dense(1)}}, point]}
    refused = http.put(f"/collections/{name}/points?wait=true", json=body)
    assert 400 <= refused.status_code < 500
    assert set(refused.json()) >= {"status", "time"}
    assert refused.json()["status"]["error"]
    if store == "embedded":  # a server may have written what came before
        assert client.count(name).count == 0
    client.delete_collection(name)
