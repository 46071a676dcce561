"""What the platform needs of its vector store, through the real client and a real server process.

Give QDRANT_TEST_URL to hold any Qdrant server to the same promises.
"""

import os
import random
import socket
import subprocess
import sys
import time
import uuid
import warnings
from collections.abc import AsyncIterator, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import pytest
from qdrant_client import AsyncQdrantClient, QdrantClient, models
from qdrant_client.common.version_check import is_compatible
from qdrant_client.http.exceptions import UnexpectedResponse

SIZE = 256
FOREVER = 2**53 - 1
GIVEN_URL = os.environ.get("QDRANT_TEST_URL")
embedded_only = pytest.mark.skipif(bool(GIVEN_URL), reason="about the embedded server's own process")


class Process:
    """A server process over a data folder."""

    def __init__(self, data: Path, *options: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "embedded.qdrant", "--data", str(data), "--port", str(port)]
        self.process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def wait_until_ready(self) -> "Process":
        for _ in range(200):
            if self.process.poll() is not None:
                raise AssertionError(f"the server ended: {self.process.communicate()[1]}")
            try:
                httpx.get(f"{self.url}/healthz", timeout=1)
                return self
            except httpx.TransportError:
                time.sleep(0.05)
        raise AssertionError("the server did not answer within 10 s")

    def stop(self) -> int:
        self.process.terminate()
        code = self.process.wait(timeout=20)
        for stream in (self.process.stdout, self.process.stderr):
            if stream:
                stream.close()
        return code


def connect(url: str, api_key: str | None = None) -> QdrantClient:
    # The client asks for the version in a thread of its own, which may outlive a server that is stopped soon.
    return QdrantClient(url=url, api_key=api_key, timeout=30, check_compatibility=False)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if GIVEN_URL:
        yield GIVEN_URL
        return
    server = Process(tmp_path_factory.mktemp("vectors")).wait_until_ready()
    yield server.url
    server.stop()


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[QdrantClient]:
    client = connect(url)
    yield client
    client.close()


@pytest.fixture
def name(client: QdrantClient) -> Iterator[str]:
    """A collection name of this test's own; what it creates under it goes away."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    yield name
    client.delete_collection(name)


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


@pytest.fixture(scope="module")
def knowledge(client: QdrantClient) -> Iterator[str]:
    """1,000 passages; numbers 0-799 came with release 1, 800-999 with release 2, which removed 0-99."""
    name = f"test-knowledge-{uuid.uuid4().hex[:8]}"
    create_knowledge(client, name)
    for start in (0, 500):
        points = [
            passage(number, added=1 if number < 800 else 2, removed=2 if number < 100 else FOREVER)
            for number in range(start, start + 500)
        ]
        client.upsert(name, points, wait=True)
    yield name
    client.delete_collection(name)


def numbers(points: list[models.ScoredPoint] | list[models.Record]) -> list[int]:
    return [point.payload["number"] for point in points if point.payload]


# --- collections ----------------------------------------------------------------------------------


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


# --- writes ---------------------------------------------------------------------------------------


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


def test_payload_of_a_point_that_is_not_there_changes_nothing(client: QdrantClient, name: str) -> None:
    if GIVEN_URL:
        pytest.skip("a Qdrant server changes the points that are there, and then complains")
    create_knowledge(client, name)
    client.upsert(name, [passage(1)], wait=True)
    with pytest.raises(UnexpectedResponse) as refused:
        client.set_payload(name, {"x": 1}, points=[str(uuid.UUID(int=1)), 99], wait=True)
    assert refused.value.status_code == 404
    assert "x" not in (client.retrieve(name, [str(uuid.UUID(int=1))])[0].payload or {"x": 1})


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


# --- reads ----------------------------------------------------------------------------------------


def test_a_release_sees_its_own_passages_only(client: QdrantClient, knowledge: str) -> None:
    assert client.count(knowledge, exact=True).count == 1000
    assert client.count(knowledge, count_filter=in_release(1), exact=True).count == 800
    assert client.count(knowledge, count_filter=in_release(2), exact=True).count == 900
    for using, query in (("dense", dense(50)), ("lexical", lexical(50, 5050))):
        first = client.query_points(
            knowledge, query=query, using=using, query_filter=in_release(1), with_payload=True
        ).points
        second = client.query_points(
            knowledge, query=query, using=using, query_filter=in_release(2), with_payload=True
        ).points
        assert numbers(first)[0] == 50
        assert 50 not in numbers(second)


def test_a_batch_of_queries_answers_each_as_if_alone(client: QdrantClient, knowledge: str) -> None:
    requests = [
        models.QueryRequest(query=dense(7), using="dense", filter=in_release(1), limit=5, with_payload=True),
        models.QueryRequest(
            query=lexical(7, 5007), using="lexical", filter=in_release(1), limit=3, with_payload=["number"]
        ),
    ]
    by_dense, by_words = client.query_batch_points(knowledge, requests)
    assert len(by_dense.points) == 5
    assert len(by_words.points) == 3
    assert numbers(by_dense.points)[0] == numbers(by_words.points)[0] == 7
    assert set(by_words.points[0].payload or {}) == {"number"}
    alone = client.query_points(
        knowledge, query=dense(7), using="dense", query_filter=in_release(1), limit=5, with_payload=True
    )
    assert alone.points == by_dense.points


@pytest.mark.parametrize(
    "fusion",
    [
        models.FusionQuery(fusion=models.Fusion.RRF),
        models.FusionQuery(fusion=models.Fusion.DBSF),
        models.RrfQuery(rrf=models.Rrf(k=60, weights=[2.0, 1.0])),
    ],
)
def test_dense_and_sparse_are_fused(client: QdrantClient, knowledge: str, fusion: models.Query) -> None:
    found = client.query_points(
        knowledge,
        prefetch=[
            models.Prefetch(query=dense(300), using="dense", filter=in_release(2), limit=20),
            models.Prefetch(query=lexical(300, 5300), using="lexical", filter=in_release(2), limit=20),
        ],
        query=fusion,
        limit=10,
        with_payload=True,
    ).points
    assert len(found) == 10
    assert numbers(found)[0] == 300
    assert [point.score for point in found] == sorted((point.score for point in found), reverse=True)


def test_rrf_scores_are_those_of_the_manual(client: QdrantClient, knowledge: str) -> None:
    """First in both lists: 1/(k+0) twice, k = 2."""
    lists = [
        models.Prefetch(query=dense(300), using="dense", limit=20),
        models.Prefetch(query=lexical(300, 5300), using="lexical", limit=20),
    ]
    fusion = models.FusionQuery(fusion=models.Fusion.RRF)
    assert client.query_points(knowledge, prefetch=lists, query=fusion).points[0].score == pytest.approx(1.0)


def test_a_formula_scores_what_a_prefetch_found(client: QdrantClient, knowledge: str) -> None:
    release_2 = models.FieldCondition(key="added_in", match=models.MatchValue(value=2))
    found = client.query_points(
        knowledge,
        prefetch=models.Prefetch(query=dense(300), using="dense", limit=50),
        query=models.FormulaQuery(
            formula=models.SumExpression(
                sum=[
                    "$score",
                    models.MultExpression(mult=[10.0, release_2]),
                    models.DivExpression(div=models.DivParams(left="missing", right=2.0, by_zero_default=0.0)),
                ]
            ),
            defaults={"missing": 4.0},
        ),
        limit=50,
        with_payload=True,
    ).points
    boosted = [point.score > 10 for point in found]
    assert boosted == sorted(boosted, reverse=True)
    assert [number >= 800 for number in numbers(found)] == boosted
    assert any(point.payload and point.payload["number"] == 300 for point in found)


def test_a_point_is_not_like_itself(client: QdrantClient, knowledge: str) -> None:
    wanted = str(uuid.UUID(int=12))
    found = client.query_points(knowledge, query=wanted, using="dense", limit=5).points
    assert len(found) == 5
    assert wanted not in [point.id for point in found]


def test_a_threshold_cuts_and_an_offset_skips(client: QdrantClient, knowledge: str) -> None:
    close = client.query_points(
        knowledge, query=dense(12), using="dense", score_threshold=0.9, with_payload=False
    ).points
    assert [point.id for point in close] == [str(uuid.UUID(int=12))]
    assert close[0].payload is None
    after = client.query_points(knowledge, query=dense(12), using="dense", offset=1, limit=3).points
    assert str(uuid.UUID(int=12)) not in [point.id for point in after]


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


def test_facets_count_documents(client: QdrantClient, knowledge: str) -> None:
    hits = client.facet(knowledge, "document_id", limit=20, exact=True, facet_filter=in_release(1)).hits
    assert {hit.value: hit.count for hit in hits} == {f"doc-{number}": 80 for number in range(10)}


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


def test_filters_of_every_clause(client: QdrantClient, knowledge: str) -> None:
    def document(number: int) -> models.FieldCondition:
        return models.FieldCondition(key="document_id", match=models.MatchValue(value=f"doc-{number}"))

    one, other = document(1), document(2)
    counted = {
        100: models.Filter(must=[one]),
        200: models.Filter(should=[one, other]),
        800: models.Filter(must_not=[one, other]),
        0: models.Filter(must=[one, other]),
        2: models.Filter(must=[models.HasIdCondition(has_id=[str(uuid.UUID(int=n)) for n in (3, 4)])]),
        90: models.Filter(must=[models.Filter(should=[one]), in_release(2)]),
        1000: models.Filter(
            min_should=models.MinShould(
                conditions=[models.HasVectorCondition(has_vector="dense"), one, other], min_count=1
            )
        ),
    }
    for expected, wanted in counted.items():
        assert client.count(knowledge, count_filter=wanted).count == expected


def test_rarity_of_words_can_be_counted_in_one_release(client: QdrantClient, name: str) -> None:
    """The filter of a query does not change IDF; `params.idf.corpus` does."""
    create_knowledge(client, name)
    word = models.SparseVector(indices=[1], values=[1.0])
    client.upsert(
        name,
        [
            models.PointStruct(
                id=number,
                vector={"dense": dense(number), "lexical": word if number < 60 else lexical(number)},
                payload={"added_in": 2 if 0 < number < 60 else 1, "removed_in": FOREVER},
            )
            for number in range(100)
        ],
        wait=True,
    )

    def score(params: models.SearchParams | None) -> float:
        found = client.query_points(
            name, query=word, using="lexical", query_filter=in_release(1), limit=1, search_params=params
        )
        return found.points[0].score

    among_all = score(None)
    in_one = score(models.SearchParams(idf=models.IdfCorpusParams(corpus=in_release(1))))
    assert among_all < 1.0
    assert in_one > 3.0


# --- errors ---------------------------------------------------------------------------------------

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
def test_a_bad_point_is_refused_and_so_is_its_batch(client: QdrantClient, url: str, point: dict) -> None:
    name = f"test-bad-{uuid.uuid4().hex[:8]}"
    create_knowledge(client, name)
    body = {"points": [{"id": 7, "vector": {"dense": dense(1)}}, point]}
    refused = httpx.put(f"{url}/collections/{name}/points?wait=true", json=body)
    assert 400 <= refused.status_code < 500
    assert set(refused.json()) >= {"status", "time"}
    assert refused.json()["status"]["error"]
    if not GIVEN_URL:
        assert client.count(name).count == 0
    client.delete_collection(name)


@pytest.mark.parametrize(
    "body",
    [
        {"query": [1.0], "using": "dense"},
        {"query": [1.0]},
        {"query": {"indices": [1], "values": []}, "using": "lexical"},
        {"query": {"fusion": "rrf"}},
        {"query": {"fusion": "best"}, "prefetch": {"query": 1, "using": "dense"}},
        {"query": 12345678, "using": "dense"},
        {"filter": {"must": [{"key": "a", "match": {"value": 1.5}}]}},
        {"filter": {"must": [{"key": "a[", "match": {"value": 1}}]}},
        {"filter": {"must": "a"}},
        {"filter": {"mustt": []}},
        {"limit": -1},
        {"limit": 0},
        {"limit": "ten"},
        {"query": {"formula": {"nope": 1}}, "prefetch": {"limit": 3}},
    ],
)
@embedded_only
def test_a_bad_query_is_refused(url: str, knowledge: str, body: dict) -> None:
    refused = httpx.post(f"{url}/collections/{knowledge}/points/query", json=body)
    assert refused.status_code in (400, 404, 422)
    answer = refused.json()
    assert answer["result"] is None
    assert answer["status"]["error"]
    assert "\n" not in answer["status"]["error"]


@embedded_only
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/collections/x/points/query/groups", 501),
        ("GET", "/nowhere", 404),
        ("DELETE", "/collections", 405),
        ("POST", "/collections/nowhere/points/count", 400),
    ],
)
def test_what_is_not_there_says_so_in_qdrants_shape(url: str, method: str, path: str, status: int) -> None:
    refused = httpx.request(method, url + path, content=b"")
    answer = refused.json()
    if path.startswith("/collections/nowhere"):
        status = 404
    assert refused.status_code == status
    assert answer["status"]["error"]


@embedded_only
@pytest.mark.parametrize("depth", [65, 150, 900, 20_000])
def test_a_payload_nested_too_deep_is_refused(client: QdrantClient, url: str, name: str, depth: int) -> None:
    """The engine would take 122 levels and could then not read its own log."""
    create_knowledge(client, name)
    payload = b'{"a":' * depth + b"1" + b"}" * depth
    body = b'{"points":[{"id":1,"vector":{},"payload":' + payload + b"}]}"
    refused = httpx.put(f"{url}/collections/{name}/points?wait=true", content=body)
    assert refused.status_code == 400
    assert client.count(name).count == 0


# --- the async client, health, figures ------------------------------------------------------------


@pytest.fixture
async def async_client(url: str) -> AsyncIterator[AsyncQdrantClient]:
    client = AsyncQdrantClient(url=url, timeout=30, check_compatibility=False)
    yield client
    await client.close()


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


def test_the_client_finds_the_version_compatible(url: str) -> None:
    assert is_compatible(version("qdrant-client"), httpx.get(url).json()["version"])


def test_health_and_figures(url: str, knowledge: str) -> None:
    for path in ("/healthz", "/readyz", "/livez"):
        assert httpx.get(url + path).status_code == 200
    assert httpx.get(f"{url}/collections/{knowledge}").json()["status"] == "ok"
    figures = httpx.get(f"{url}/metrics")
    assert figures.headers["content-type"].startswith("text/plain")
    assert "collections_total" in figures.text


# --- the process ----------------------------------------------------------------------------------


@embedded_only
def test_a_data_folder_has_one_owner(tmp_path: Path) -> None:
    first = Process(tmp_path).wait_until_ready()
    second = Process(tmp_path)
    assert second.process.wait(timeout=20) == 1
    error = second.process.communicate()[1]
    assert error.count("\n") == 1
    assert "another process uses the data folder" in error
    assert first.stop() == 0


@embedded_only
def test_binding_wider_than_loopback_needs_a_key(tmp_path: Path) -> None:
    server = Process(tmp_path, "--host", "0.0.0.0")
    assert server.process.wait(timeout=20) == 1
    error = server.process.communicate()[1]
    assert error.count("\n") == 1
    assert "--api-key" in error


@embedded_only
def test_a_web_page_cannot_use_a_server_without_a_key(url: str) -> None:
    refused = httpx.post(f"{url}/collections/aliases", json={"actions": []}, headers={"Origin": "http://a.example"})
    assert refused.status_code == 403


@embedded_only
def test_with_a_key_only_health_is_open(tmp_path: Path) -> None:
    server = Process(tmp_path, "--api-key", "secret").wait_until_ready()
    try:
        assert httpx.get(f"{server.url}/readyz").status_code == 200
        assert httpx.get(f"{server.url}/collections").status_code == 401
        assert httpx.get(f"{server.url}/metrics", headers={"api-key": "wrong"}).status_code == 401
        bearer = {"Authorization": "Bearer secret"}
        assert httpx.get(f"{server.url}/collections", headers=bearer).status_code == 200
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the client warns of a key over plain HTTP
            client = connect(server.url, api_key="secret")
        assert client.get_collections().collections == []
        client.close()
    finally:
        server.stop()


@embedded_only
def test_a_clean_stop_keeps_everything(tmp_path: Path) -> None:
    server = Process(tmp_path).wait_until_ready()
    client = connect(server.url)
    create_knowledge(client, "kept")
    client.upsert("kept", [passage(number) for number in range(50)], wait=True)
    client.update_collection_aliases(
        [models.CreateAliasOperation(create_alias=models.CreateAlias(collection_name="kept", alias_name="knowledge"))]
    )
    client.update_collection("kept", metadata={"live_release": 3})
    client.close()
    assert server.stop() == 0
    server = Process(tmp_path).wait_until_ready()
    client = connect(server.url)
    assert client.count("knowledge", count_filter=in_release(1)).count == 50
    info = client.get_collection("knowledge")
    assert info.config.metadata == {"fingerprint": "abc", "live_release": 3}
    assert set(info.payload_schema) == {"added_in", "removed_in", "document_id"}
    client.close()
    assert server.stop() == 0


@embedded_only
def test_a_full_disk_is_an_error_and_readers_go_on(tmp_path: Path) -> None:
    server = Process(tmp_path).wait_until_ready()
    client = connect(server.url)
    create_knowledge(client, "kept")
    client.upsert("kept", [passage(1)], wait=True)
    client.close()
    server.stop()
    server = Process(tmp_path, "--reserve-mib", str(2**40)).wait_until_ready()
    client = connect(server.url)
    for write in (lambda: client.upsert("kept", [passage(2)]), lambda: create_knowledge(client, "more")):
        with pytest.raises(UnexpectedResponse) as refused:
            write()
        assert refused.value.status_code == 507
    assert client.count("kept").count == 1
    client.close()
    server.stop()


@embedded_only
@pytest.mark.parametrize("damage", ["the folder is gone", "the log is gone", "the segments are rubbish"])
def test_a_broken_collection_says_so_and_others_go_on(tmp_path: Path, damage: str) -> None:
    server = Process(tmp_path).wait_until_ready()
    client = connect(server.url)
    for name in ("broken", "whole"):
        create_knowledge(client, name)
        client.upsert(name, [passage(1)], wait=True)
    client.close()
    server.stop()
    (folder,) = (tmp_path / "collections").glob("broken-*")
    victims = {"the folder is gone": [folder], "the log is gone": list(folder.glob("*/wal"))}
    for path in victims.get(damage, []):
        path.rename(tmp_path / "elsewhere")
    for path in folder.glob("*/segments/*/segment.json") if damage == "the segments are rubbish" else []:
        path.write_bytes(b"rubbish")
    server = Process(tmp_path).wait_until_ready()
    client = connect(server.url)
    assert client.count("whole").count == 1
    with pytest.raises(UnexpectedResponse) as refused:
        client.count("broken")
    assert refused.value.status_code == 500
    assert b"cannot be opened" in refused.value.content
    ready = httpx.get(f"{server.url}/readyz")
    assert (ready.status_code, "broken" in ready.text) == (503, True)
    client.delete_collection("broken")
    create_knowledge(client, "broken")
    assert client.count("broken").count == 0
    client.close()
    assert server.stop() == 0
