"""Collections, their metadata and their aliases."""

from __future__ import annotations

import uuid

import pytest
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse

from tests.support.vectors.release_passages import SIZE, create_knowledge, passage


def test_a_collection_is_described_as_it_was_created(client: QdrantClient, name: str) -> None:
    create_knowledge(client, name)
    info = client.get_collection(name)
    assert info.status == models.CollectionStatus.GREEN
    assert info.points_count == 0
    assert isinstance(info.config.params.vectors, dict)
    assert info.config.params.vectors["dense"].size == SIZE
    assert info.config.params.vectors["dense"].distance == models.Distance.COSINE
    assert info.config.params.sparse_vectors is not None
    assert info.config.params.sparse_vectors["lexical"].modifier == models.Modifier.IDF
    assert {field: schema.data_type for field, schema in info.payload_schema.items()} == {
        "added_in": "integer",
        "removed_in": "integer",
        "document_id": "keyword",
    }
    assert name in [collection.name for collection in client.get_collections().collections]
    assert client.collection_exists(name)


def test_metadata_is_merged_and_read_back(client: QdrantClient, name: str) -> None:
    create_knowledge(client, name)
    client.update_collection(name, metadata={"live_release": 3})
    assert client.get_collection(name).config.metadata == {"fingerprint": "abc", "live_release": 3}


def test_a_name_is_taken_once(client: QdrantClient, name: str) -> None:
    create_knowledge(client, name)
    with pytest.raises(UnexpectedResponse) as refused:
        create_knowledge(client, name)
    assert refused.value.status_code == 409
    client.delete_collection(name)
    assert not client.collection_exists(name)
    create_knowledge(client, name)
    assert client.count(name).count == 0


def test_what_does_not_exist_is_not_found(client: QdrantClient) -> None:
    with pytest.raises(UnexpectedResponse) as refused:
        client.get_collection("nowhere")
    assert refused.value.status_code == 404
    assert b"doesn't exist" in refused.value.content


def test_an_alias_moves_in_one_step(client: QdrantClient, name: str) -> None:
    alias, following = f"{name}-alias", f"{name}-next"
    create_knowledge(client, name)
    create_knowledge(client, following)
    client.upsert(following, [passage(1)], wait=True)
    create = models.CreateAliasOperation
    client.update_collection_aliases([create(create_alias=models.CreateAlias(collection_name=name, alias_name=alias))])
    assert client.count(alias).count == 0
    client.update_collection_aliases(
        [
            models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=alias)),
            create(create_alias=models.CreateAlias(collection_name=following, alias_name=alias)),
        ]
    )
    assert client.count(alias).count == 1
    assert [found.alias_name for found in client.get_collection_aliases(following).aliases] == [alias]
    assert client.get_collection_aliases(name).aliases == []
    assert alias in [found.alias_name for found in client.get_aliases().aliases]

    # One bad action, and none of them counts.
    with pytest.raises(UnexpectedResponse):
        client.update_collection_aliases(
            [
                models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=alias)),
                create(create_alias=models.CreateAlias(collection_name="nowhere", alias_name=alias)),
            ]
        )
    assert client.count(alias).count == 1
    client.delete_collection(following)
    assert alias not in [found.alias_name for found in client.get_aliases().aliases]


@pytest.mark.parametrize(
    ("kind", "value", "condition"),
    [
        ("keyword", "a", models.FieldCondition(key="f", match=models.MatchAny(any=["a", "b"]))),
        ("integer", 7, models.FieldCondition(key="f", range=models.Range(gte=7, lt=8))),
        ("float", 1.5, models.FieldCondition(key="f", range=models.Range(gt=1.4))),
        ("bool", True, models.FieldCondition(key="f", match=models.MatchValue(value=True))),
        (
            "datetime",
            "2026-01-02T03:04:05Z",
            models.FieldCondition.model_validate({"key": "f", "range": {"gte": "2026-01-01T00:00:00Z"}}),
        ),
        ("text", "open the door", models.FieldCondition(key="f", match=models.MatchText(text="door"))),
        (
            "uuid",
            str(uuid.UUID(int=5)),
            models.FieldCondition(key="f", match=models.MatchValue(value=str(uuid.UUID(int=5)))),
        ),
    ],
)
def test_every_kind_of_payload_index(
    client: QdrantClient, name: str, kind: str, value: object, condition: models.FieldCondition
) -> None:
    client.create_collection(name, vectors_config=models.VectorParams(size=2, distance=models.Distance.DOT))
    points = [
        models.PointStruct(id=1, vector=[1.0, 0.0], payload={"f": value}),
        models.PointStruct(id=2, vector=[1.0, 0.0], payload={"g": value}),
    ]
    client.upsert(name, points, wait=True)
    client.create_payload_index(name, "f", field_schema=models.PayloadSchemaType(kind), wait=True)
    assert client.get_collection(name).payload_schema["f"].data_type == kind
    found, _ = client.scroll(name, models.Filter(must=[condition]))
    assert [point.id for point in found] == [1]
    client.delete_payload_index(name, "f", wait=True)
    assert client.get_collection(name).payload_schema == {}
