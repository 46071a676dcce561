"""What the embedded vector store says of itself, and how it refuses, through a real server process."""

from collections.abc import Iterator

import httpx
import pytest

from tests.support.vectors.vector_store import ServerProcess

NAME = "service"


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    server = ServerProcess(tmp_path_factory.mktemp("service")).wait_until_ready()
    with httpx.Client(base_url=server.url) as http:
        created = http.put(
            f"/collections/{NAME}",
            json={
                "vectors": {"plain": {"size": 2, "distance": "Dot"}, "rows": {"size": 2, "distance": "Dot"}},
                "sparse_vectors": {"words": {}},
            },
        )
        assert created.status_code == 200
        points = [{"id": number, "vector": {"plain": [1, number]}, "payload": {"n": number}} for number in range(5)]
        assert http.put(f"/collections/{NAME}/points?wait=true", json={"points": points}).status_code == 200
        yield http
    server.stop()


def error(answer: httpx.Response) -> str:
    return answer.json()["status"]["error"]


def test_telemetry_counts_points_vectors_and_answers(http: httpx.Client) -> None:
    report = http.get("/telemetry", params={"details_level": 4, "per_collection": "true"}).json()["result"]
    (collection,) = report["collections"]["collections"]
    local = collection["shards"][0]["local"]
    assert local["num_points"] == 5
    assert local["num_vectors_by_name"]["plain"] == 5
    assert local["update_queue"] == {"length": 0, "op_num": 1}
    upserts = "PUT /collections/{collection_name}/points"
    assert report["requests"]["rest"]["responses"][upserts]["200"]["count"] == 1
    assert report["requests"]["rest"]["per_collection_responses"][NAME][upserts]["200"]["count"] == 1
    assert http.get("/telemetry").json()["result"]["collections"] == {"number_of_collections": 1}


def test_metrics_have_qdrants_names_and_a_histogram_that_ends_in_all(http: httpx.Client) -> None:
    lines = http.get("/metrics").text.splitlines()
    assert f'collection_points{{id="{NAME}"}} 5' in lines
    assert f'collection_broken{{id="{NAME}"}} 0' in lines
    labels = 'method="PUT",endpoint="/collections/{collection_name}/points",status="200"'
    assert f"rest_responses_total{{{labels}}} 1" in lines
    assert f'rest_responses_duration_seconds_bucket{{{labels},le="+Inf"}} 1' in lines
    each = http.get("/metrics", params={"per_collection": "true"}).text
    assert f'{labels},collection="{NAME}"' in each


def test_a_deleted_collection_is_forgotten_by_the_telemetry(http: httpx.Client) -> None:
    http.put("/collections/gone", json={"vectors": {"size": 1, "distance": "Dot"}})
    http.post("/collections/gone/points/count", json={})
    assert 'collection="gone"' in http.get("/metrics", params={"per_collection": "true"}).text
    http.delete("/collections/gone")
    assert 'collection="gone"' not in http.get("/metrics", params={"per_collection": "true"}).text


def test_it_is_one_server_and_each_collection_is_one_shard(http: httpx.Client) -> None:
    assert http.get("/cluster").json()["result"] == {"status": "disabled"}
    shards = http.get(f"/collections/{NAME}/cluster").json()["result"]
    assert shards["local_shards"] == [{"shard_id": 0, "points_count": 5, "state": "Active"}]
    for answer in (http.post("/cluster/recover"), http.put(f"/collections/{NAME}/shards", json={"shard_key": "a"})):
        assert answer.status_code == 405
        assert "standalone mode" in error(answer)


@pytest.mark.parametrize(
    ("parameter", "status"),
    [
        ("timeout=0", 422),
        ("timeout=soon", 400),
        ("timeout=5", 200),
        ("consistency=0", 422),
        ("consistency=some", 400),
        ("consistency=majority", 200),
        ("consistency=2", 200),
        ("ordering=none", 400),
        ("ordering=strong", 200),
    ],
)
def test_shared_parameters_are_checked(http: httpx.Client, parameter: str, status: int) -> None:
    answer = http.post(f"/collections/{NAME}/points/count?{parameter}", json={})
    assert answer.status_code == status
    if status != 200:
        assert parameter.partition("=")[0] in error(answer)


@pytest.mark.parametrize(
    ("vector", "place"),
    [
        ({"plain": []}, "points[1].vector.?.vector: dense vector must not be empty"),
        ({"rows": [[1, 2], []]}, "points[1].vector.?.data: all vectors must be non-empty"),
        ({"rows": [[1, 2], [1]]}, "points[1].vector.?.data: all vectors must have the same dimension"),
        ({"words": {"indices": [1], "values": []}}, "points[1].vector.?.values: Validation error"),
        ({"unknown": {"indices": [1, 1], "values": [1, 2]}}, "points[1].vector.?.indices: Validation error"),
    ],
)
def test_a_vector_that_is_wrong_in_itself_is_told_with_its_place(http: httpx.Client, vector: dict, place: str) -> None:
    points = [{"id": 100, "vector": {"plain": [1, 2]}}, {"id": 101, "vector": vector}]
    answer = http.put(f"/collections/{NAME}/points?wait=true", json={"points": points})
    assert answer.status_code == 422
    assert place in error(answer)
    assert http.get(f"/collections/{NAME}/points/100").status_code == 404


@pytest.mark.parametrize(("shards", "status"), [(0, 422), (-1, 400), (2, 501)])
def test_a_number_is_too_small_or_no_number_of_that_kind(http: httpx.Client, shards: int, status: int) -> None:
    answer = http.put("/collections/shards", json={"vectors": {"size": 2, "distance": "Dot"}, "shard_number": shards})
    assert answer.status_code == status, answer.text
    assert "shard" in answer.json()["status"]["error"]


def test_a_name_that_no_collection_can_have_is_refused_as_such(http: httpx.Client) -> None:
    answer = http.get(f"/collections/{'a' * 256}")
    assert answer.status_code == 422
    assert "collection_name" in error(answer)
