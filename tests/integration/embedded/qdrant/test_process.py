"""The embedded vector store as a process: what it refuses, how it starts and ends. What every store does: tests/contract."""

import os
import random
import shutil
import subprocess
import sys
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse

from tests.support.vectors.release_passages import create_knowledge, in_release, passage
from tests.support.vectors.vector_store import ServerProcess, connect, own_collection


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = ServerProcess(tmp_path_factory.mktemp("vectors")).wait_until_ready()
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
    with own_collection(client) as name:
        yield name


@pytest.fixture(scope="module")
def knowledge(client: QdrantClient) -> Iterator[str]:
    with own_collection(client, "test-knowledge") as name:
        create_knowledge(client, name)
        client.upsert(name, [passage(number) for number in range(20)], wait=True)
        yield name


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
def test_a_bad_query_is_refused(url: str, knowledge: str, body: dict[str, Any]) -> None:
    refused = httpx.post(f"{url}/collections/{knowledge}/points/query", json=body)
    assert refused.status_code in (400, 404, 422)
    answer = refused.json()
    assert answer["result"] is None
    assert answer["status"]["error"]
    assert "\n" not in answer["status"]["error"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/collections/x/points/search", 501),
        ("POST", "/collections/x/points/recommend/groups", 501),
        ("POST", "/collections/x/shards/0/snapshots", 501),
        ("GET", "/quotas", 501),
        ("PUT", "/collections/x/shards", 405),
        ("GET", "/cluster/telemetry", 405),
        ("GET", f"/collections/x/points/{'9' * 5000}", 400),
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


@pytest.mark.parametrize("depth", [65, 150, 900, 20_000])
def test_a_payload_nested_too_deep_is_refused(client: QdrantClient, url: str, name: str, depth: int) -> None:
    """The engine would take 122 levels and could then not read its own log."""
    create_knowledge(client, name)
    payload = b'{"a":' * depth + b"1" + b"}" * depth
    body = b'{"points":[{"id":1,"vector":{},"payload":' + payload + b"}]}"
    refused = httpx.put(f"{url}/collections/{name}/points?wait=true", content=body)
    assert refused.status_code == 400
    assert client.count(name).count == 0


def test_payload_of_a_point_that_is_not_there_changes_nothing(client: QdrantClient, name: str) -> None:
    """A Qdrant server changes the points that are there, and then complains."""
    create_knowledge(client, name)
    client.upsert(name, [passage(1)], wait=True)
    with pytest.raises(UnexpectedResponse) as refused:
        client.set_payload(name, {"x": 1}, points=[str(uuid.UUID(int=1)), 99], wait=True)
    assert refused.value.status_code == 404
    assert "x" not in (client.retrieve(name, [str(uuid.UUID(int=1))])[0].payload or {"x": 1})


# --- the process ----------------------------------------------------------------------------------


def test_a_data_folder_has_one_owner(tmp_path: Path) -> None:
    first = ServerProcess(tmp_path).wait_until_ready()
    second = ServerProcess(tmp_path)
    assert second.process.wait(timeout=20) == 1
    error = second.process.communicate()[1]
    assert error.count("\n") == 1
    assert "another process uses the data folder" in error
    assert first.stop() == 0


def test_binding_wider_than_loopback_needs_a_key(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path, "--host", "0.0.0.0")
    assert server.process.wait(timeout=20) == 1
    error = server.process.communicate()[1]
    assert error.count("\n") == 1
    assert "--api-key" in error


def test_a_web_page_cannot_use_a_server_without_a_key(url: str) -> None:
    refused = httpx.post(f"{url}/collections/aliases", json={"actions": []}, headers={"Origin": "http://a.example"})
    assert refused.status_code == 403


def test_with_a_key_only_health_is_open(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path, "--api-key", "secret").wait_until_ready()
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


def test_a_clean_stop_keeps_everything(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path).wait_until_ready()
    client = connect(server.url)
    create_knowledge(client, "kept")
    client.upsert("kept", [passage(number) for number in range(50)], wait=True)
    client.update_collection_aliases(
        [models.CreateAliasOperation(create_alias=models.CreateAlias(collection_name="kept", alias_name="knowledge"))]
    )
    client.update_collection("kept", metadata={"live_release": 3})
    client.close()
    assert server.stop() == 0
    server = ServerProcess(tmp_path).wait_until_ready()
    client = connect(server.url)
    assert client.count("knowledge", count_filter=in_release(1)).count == 50
    info = client.get_collection("knowledge")
    assert info.config.metadata == {"fingerprint": "abc", "live_release": 3}
    assert set(info.payload_schema) == {"added_in", "removed_in", "document_id"}
    client.close()
    assert server.stop() == 0


def test_a_changed_modifier_is_in_force_at_once_and_lasts(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path).wait_until_ready()
    with httpx.Client(base_url=f"{server.url}/collections/c") as http:
        http.put("", json={"sparse_vectors": {"words": {"modifier": "idf"}}}).raise_for_status()
        http.put("/vectors/late", json={"sparse": {"modifier": "idf"}}).raise_for_status()
        for number in range(20):
            words = {"indices": [1, 2 + number], "values": [1.0, 1.0]}
            http.put("/points?wait=true", json={"points": [{"id": number, "vector": {"words": words, "late": words}}]})

        def scores(vector: str) -> list[float]:
            body = {"query": {"indices": [1, 5], "values": [1.0, 1.0]}, "using": vector, "limit": 2}
            return [point["score"] for point in http.post("/points/query", json=body).json()["result"]["points"]]

        rare_counts_more = scores("words")
        assert rare_counts_more[0] > 2 > rare_counts_more[1]
        http.patch("", json={"sparse_vectors": {"words": {"modifier": "none"}}}).raise_for_status()
        assert (scores("words"), scores("late")) == ([2.0, 1.0], rare_counts_more)
        http.patch("", json={"sparse_vectors": {"words": {"modifier": "idf"}}, "metadata": {"a": 1}}).raise_for_status()
        assert scores("words") == rare_counts_more
        http.patch("", json={"sparse_vectors": {"late": {"modifier": "none"}}}).raise_for_status()
    server.process.kill()
    server.process.wait()
    server = ServerProcess(tmp_path).wait_until_ready()
    with httpx.Client(base_url=f"{server.url}/collections/c") as http:
        assert (scores("words"), scores("late")) == (rare_counts_more, [2.0, 1.0])
        assert http.get("").json()["result"]["config"]["metadata"] == {"a": 1}
    assert server.stop() == 0


def test_a_full_disk_is_an_error_and_readers_go_on(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path).wait_until_ready()
    client = connect(server.url)
    create_knowledge(client, "kept")
    client.upsert("kept", [passage(1)], wait=True)
    client.close()
    server.stop()
    server = ServerProcess(tmp_path, "--reserve-mib", str(2**40)).wait_until_ready()
    client = connect(server.url)
    for write in (lambda: client.upsert("kept", [passage(2)]), lambda: create_knowledge(client, "more")):
        with pytest.raises(UnexpectedResponse) as refused:
            write()
        assert refused.value.status_code == 507
    assert client.count("kept").count == 1
    client.close()
    server.stop()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own of 256 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256m", "tmpfs", str(place)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a file system takes Linux and root")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill_up(disk: Path) -> Path:
    """Leave nothing free; gives the file that takes the rest."""
    filler = disk / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(disk).free)
    return filler


def fits(http: httpx.Client, method: str, path: str, body: Any) -> bool:
    """Write; false if that was refused for lack of room."""
    answer = http.request(method, f"/collections/c{path}", json=body)
    assert answer.status_code in (200, 507), answer.text
    return answer.status_code == 200


@pytest.mark.slow
def test_a_disk_that_is_full_to_the_brim_loses_nothing(small_disk: Path) -> None:
    """Then a write into the engine's files kills its process, so none may come to that."""

    def start() -> ServerProcess:
        log = small_disk.parent / "log"
        return ServerProcess(small_disk / "data", "--reserve-mib", "64", log=log).wait_until_ready()

    def stored(http: httpx.Client) -> int:
        body = {"limit": 10_000, "with_payload": False, "with_vector": True}
        return len(http.post("/collections/c/points/scroll", json=body).raise_for_status().json()["result"]["points"])

    server = start()
    with httpx.Client(base_url=server.url, timeout=60) as http:
        assert fits(http, "PUT", "", {"vectors": {"size": 2, "distance": "Dot"}})
        point = {"vector": [1, 2], "payload": {"text": random.Random(0).randbytes(10_000).hex()}}
        written = 0
        while fits(http, "PUT", "/points", {"points": [{"id": written + i, **point} for i in range(50)]}):
            written += 50
        assert written
        filler = fill_up(small_disk)
        assert not fits(http, "POST", "/points/delete", {"points": [1]})
        assert not fits(http, "PATCH", "", {"metadata": {"a": 1}})
        assert stored(http) == written
    server.process.kill()
    server.process.wait()
    # What its log holds and its files do not cannot be put into them now: then it says so, and stays up.
    server = start()
    assert httpx.get(f"{server.url}/collections").status_code == 200
    told = httpx.post(f"{server.url}/collections/c/points/count", json={})
    assert told.status_code == 200 or "too little room on the disk" in told.text
    assert server.stop() == 0
    filler.unlink()
    server = start()
    with httpx.Client(base_url=server.url, timeout=60) as http:
        assert stored(http) == written
    assert server.stop() == 0


@pytest.mark.parametrize("damage", ["the folder is gone", "the log is gone", "the segments are rubbish"])
@pytest.mark.slow
def test_a_broken_collection_says_so_and_others_go_on(tmp_path: Path, damage: str) -> None:
    server = ServerProcess(tmp_path).wait_until_ready()
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
    server = ServerProcess(tmp_path).wait_until_ready()
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
