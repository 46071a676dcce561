"""A snapshot is whole or refused, and neither taking nor recovering nor optimising disturbs who reads."""

import hashlib
import io
import random
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.vectors.vector_store import ServerProcess

SIZE = 32


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    """A server that optimises as soon as it may, over `tmp_path`."""
    server = ServerProcess(tmp_path, "--quiet-seconds", "0.2").wait_until_ready()
    yield server
    assert server.stop() == 0


@pytest.fixture
def http(server: ServerProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=30) as http:
        yield http


def vector(number: int) -> list[float]:
    chance = random.Random(number)
    return [chance.gauss(0, 1) for _ in range(SIZE)]


def create(http: httpx.Client, name: str, threshold: int = 0, size: int = SIZE) -> None:
    body = {
        "vectors": {"size": size, "distance": "Cosine"},
        "sparse_vectors": {"lexical": {"modifier": "idf"}},
        "optimizers_config": {"indexing_threshold": threshold},
        "metadata": {"live_release": 7},
    }
    http.put(f"/collections/{name}", json=body).raise_for_status()


def fill(http: httpx.Client, name: str, numbers: range) -> None:
    for start in range(numbers.start, numbers.stop, 500):
        points = [
            {
                "id": number,
                "vector": {"": vector(number), "lexical": {"indices": [number % 50, 100], "values": [1.0, 0.5]}},
                "payload": {"n": number},
            }
            for number in range(start, min(start + 500, numbers.stop))
        ]
        http.put(f"/collections/{name}/points?wait=true", json={"points": points}).raise_for_status()


def contents(http: httpx.Client, name: str) -> list[Any]:
    body = {"limit": 100_000, "with_vector": True}
    return http.post(f"/collections/{name}/points/scroll", json=body).json()["result"]["points"]


def info(http: httpx.Client, name: str) -> dict[str, Any]:
    return http.get(f"/collections/{name}").json()["result"]


def snapshot(http: httpx.Client, name: str) -> dict[str, Any]:
    taken = http.post(f"/collections/{name}/snapshots")
    taken.raise_for_status()
    return taken.json()["result"]


def recover(http: httpx.Client, name: str, **body: Any) -> httpx.Response:
    return http.put(f"/collections/{name}/snapshots/recover", json=body)


def refused(answer: httpx.Response, status: int, *words: str) -> None:
    assert answer.status_code == status, answer.text
    said = answer.json()["status"]["error"]
    assert all(word in said for word in words), said
    assert "\n" not in said


def test_what_was_there_comes_back_under_the_same_or_another_name(http: httpx.Client, tmp_path: Path) -> None:
    create(http, "c")
    fill(http, "c", range(700))
    http.put("/collections/c/index", json={"field_name": "n", "field_schema": "integer"}).raise_for_status()
    before, taken = contents(http, "c"), snapshot(http, "c")
    http.post("/collections/c/points/delete?wait=true", json={"points": list(range(600))}).raise_for_status()
    location = f"file://{tmp_path}/snapshots/c/{taken['name']}"
    assert recover(http, "other", location=location, priority="snapshot").json()["result"] is True
    assert contents(http, "other") == before
    assert info(http, "other")["config"]["metadata"] == {"live_release": 7}
    assert set(info(http, "other")["payload_schema"]) == {"n"}
    assert len(contents(http, "c")) == 100
    assert recover(http, "c", location=location).json()["result"] is True
    assert contents(http, "c") == before
    # And it is a collection like any other: written to, and there after a restart.
    fill(http, "c", range(700, 800))
    assert len(contents(http, "c")) == 800


def test_the_manuals_two_curl_lines_work_as_they_stand(server: ServerProcess, http: httpx.Client) -> None:
    create(http, "knowledge")
    fill(http, "knowledge", range(50))
    collection = f"{server.url}/collections/knowledge"
    subprocess.run(["curl", "-sf", "-X", "POST", f"{collection}/snapshots"], check=True, capture_output=True)
    (taken,) = http.get("/collections/knowledge/snapshots").json()["result"]
    http.post("/collections/knowledge/points/delete?wait=true", json={"points": [1, 2, 3]}).raise_for_status()
    body = f'{{"location": "/snapshots/{taken["name"]}"}}'
    command = ["curl", "-sf", "-X", "PUT", f"{collection}/snapshots/recover", "-H", "Content-Type: application/json"]
    subprocess.run([*command, "-d", body], check=True, capture_output=True)
    assert len(contents(http, "knowledge")) == 50


def test_a_download_is_what_the_checksum_says_and_can_be_uploaded(http: httpx.Client) -> None:
    create(http, "c")
    fill(http, "c", range(100))
    taken = snapshot(http, "c")
    file = http.get(f"/collections/c/snapshots/{taken['name']}").content
    assert len(file) == taken["size"]
    assert hashlib.sha256(file).hexdigest() == taken["checksum"]
    form = {"snapshot": ("moved.snapshot", file)}
    up = http.post("/collections/moved/snapshots/upload", files=form, params={"checksum": taken["checksum"]})
    assert up.json()["result"] is True
    assert contents(http, "moved") == contents(http, "c")
    assert [each["name"] for each in http.get("/collections/moved/snapshots").json()["result"]] == ["moved.snapshot"]
    assert http.delete(f"/collections/c/snapshots/{taken['name']}").json()["result"] is True
    assert http.get("/collections/c/snapshots").json()["result"] == []
    refused(http.get(f"/collections/c/snapshots/{taken['name']}"), 404, "not found")


def _flipped(file: bytes) -> bytes:
    at = len(file) - 6  # in the checksum: most of the rest is zeros, which can be packed in other ways
    return file[:at] + bytes([file[at] ^ 1]) + file[at + 1 :]


def _tar_of(name: str, content: bytes, kind: bytes = tarfile.REGTYPE) -> bytes:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w:gz") as archive:
        member = tarfile.TarInfo(name)
        member.size, member.type, member.linkname = len(content), kind, "/etc/passwd"
        archive.addfile(member, io.BytesIO(content))
    return whole.getvalue()


@pytest.mark.parametrize(
    "damage",
    [
        _flipped,
        lambda file: file[:-100],
        lambda file: file[: len(file) // 2],
        lambda _file: b"",
        lambda _file: b"rubbish" * 1000,
        lambda _file: _tar_of("config.json", b"{}"),
        lambda _file: _tar_of("../../outside", b"x"),
        lambda _file: _tar_of("shard/../../outside", b"x"),
        lambda _file: _tar_of("shard/link", b"", tarfile.SYMTYPE),
        lambda _file: _tar_of("collection.json", b"[]"),
        lambda _file: _tar_of("collection.json", b'{"format":99,"engine":"1","name":"c","config":{}}'),
    ],
)
@pytest.mark.slow
def test_a_damaged_snapshot_is_refused_and_changes_nothing(
    http: httpx.Client, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    create(http, "c")
    fill(http, "c", range(100))
    before = contents(http, "c")
    file = http.get(f"/collections/c/snapshots/{snapshot(http, 'c')['name']}").content
    form = {"snapshot": ("bad.snapshot", damage(file))}
    for name in ("c", "fresh"):
        refused(http.post(f"/collections/{name}/snapshots/upload", files=form), 400, "snapshot")
    assert contents(http, "c") == before
    assert http.get("/collections/fresh/exists").json()["result"] == {"exists": False}
    assert not (tmp_path / "outside").exists()
    assert list((tmp_path / "scratch").iterdir()) == []


def test_what_does_not_fit_is_refused_with_one_sentence(http: httpx.Client, tmp_path: Path) -> None:
    create(http, "c")
    create(http, "wider", size=SIZE * 2)
    taken = snapshot(http, "c")
    location = f"file://{tmp_path}/snapshots/c/{taken['name']}"
    refused(recover(http, "wider", location=location), 400, "not compatible")
    refused(recover(http, "c", location=location, checksum="0" * 64), 400, "checksum mismatch")
    refused(recover(http, "c", location=location, checksum="abc"), 422, "checksum")
    refused(recover(http, "c", location="ftp://example.org/x"), 400, "location")
    refused(recover(http, "c", location="http://[::1/x"), 400, "no URL")
    refused(recover(http, "c", location="file://[::1/x"), 400, "no URL")
    refused(recover(http, "c", location="file:///etc/passwd"), 403, "inside the snapshots directory")
    refused(recover(http, "c", location="/snapshots/knowledge-xxx.snapshot"), 400, "does not exist")
    refused(http.post("/collections/c/snapshots/upload", content=b"x"), 400, "multipart")
    refused(http.post("/collections/nowhere/snapshots"), 404, "nowhere")
    # A file that was changed where it lies no longer fits its own checksum.
    path = tmp_path / "snapshots" / "c" / taken["name"]
    path.write_bytes(_flipped(path.read_bytes()))
    refused(recover(http, "c", location=location), 400, "checksum mismatch")


def test_a_snapshot_is_fetched_from_a_url_with_its_key(http: httpx.Client) -> None:
    create(http, "c")
    fill(http, "c", range(100))
    file = http.get(f"/collections/c/snapshots/{snapshot(http, 'c')['name']}").content

    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status = 200 if self.headers["api-key"] == "secret" else 403
            self.send_response(status)
            self.send_header("content-length", str(len(file) + (100 if self.path == "/short" else 0)))
            self.end_headers()
            if status == 200:
                self.wfile.write(file)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    elsewhere = HTTPServer(("127.0.0.1", 0), Elsewhere)
    url = f"http://127.0.0.1:{elsewhere.server_port}"
    threading.Thread(target=elsewhere.serve_forever, daemon=True).start()
    try:
        refused(recover(http, "fetched", location=url), 400, "403")
        refused(recover(http, "fetched", location=f"{url}/short", api_key="secret"), 400, "could not be fetched")
        assert recover(http, "fetched", location=url, api_key="secret").json()["result"] is True
    finally:
        elsewhere.shutdown()
        elsewhere.server_close()
    assert contents(http, "fetched") == contents(http, "c")
    refused(recover(http, "fetched", location=url), 400, "could not be fetched")


def test_a_full_snapshot_holds_every_collection_and_the_aliases(http: httpx.Client, tmp_path: Path) -> None:
    for name in ("a", "b"):
        create(http, name)
        fill(http, name, range(30))
    alias = {"create_alias": {"collection_name": "b", "alias_name": "live"}}
    http.post("/collections/aliases", json={"actions": [alias]}).raise_for_status()
    taken = http.post("/snapshots").json()["result"]
    file = http.get(f"/snapshots/{taken['name']}").content
    assert hashlib.sha256(file).hexdigest() == taken["checksum"]
    with tarfile.open(fileobj=io.BytesIO(file)) as full:
        full.extractall(tmp_path / "snapshots" / "full", filter="data")
    parts = httpx.Response(200, content=(tmp_path / "snapshots" / "full" / "config.json").read_bytes()).json()
    assert parts["collections_aliases"] == {"live": "b"}
    for name, part in parts["collections_mapping"].items():
        recover(http, f"{name}-again", location=f"file://{tmp_path}/snapshots/full/{part}").raise_for_status()
        assert contents(http, f"{name}-again") == contents(http, name)
    assert http.delete(f"/snapshots/{taken['name']}").json()["result"] is True


def test_without_room_for_a_copy_nothing_is_taken_and_reading_goes_on(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path).wait_until_ready()
    with httpx.Client(base_url=server.url) as http:
        create(http, "c")
        fill(http, "c", range(100))
    assert server.stop() == 0
    server = ServerProcess(tmp_path, "--reserve-mib", str(2**40)).wait_until_ready()
    with httpx.Client(base_url=server.url) as http:
        refused(http.post("/collections/c/snapshots"), 507, "reserve")
        assert len(contents(http, "c")) == 100
        assert http.get("/collections/c/snapshots").json()["result"] == []
    assert server.stop() == 0


class Traffic:
    """Readers and a writer that never pause. Every answer must be a good one."""

    def __init__(self, url: str, collection: str) -> None:
        self._url = f"{url}/collections/{collection}/points"
        self._stop = threading.Event()
        self.failures: list[str] = []
        self.reads = 0
        self.written: list[int] = []

    def __enter__(self) -> "Traffic":
        self._threads = [threading.Thread(target=each) for each in (self._read, self._read, self._write)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _read(self) -> None:
        body = {"query": vector(1), "limit": 5, "filter": {"must": [{"key": "n", "range": {"lt": 1000}}]}}
        with httpx.Client(timeout=30) as http:
            while not self._stop.is_set():
                answer = http.post(f"{self._url}/query", json=body)
                if answer.status_code != 200 or answer.json()["result"]["points"][0]["id"] != 1:
                    self.failures.append(answer.text[:300])
                self.reads += 1

    def _write(self) -> None:
        with httpx.Client(timeout=30) as http:
            for number in range(100_000, 200_000):
                if self._stop.is_set():
                    return
                point = {"id": number, "vector": {"": vector(number)}, "payload": {"n": number}}
                answer = http.put(f"{self._url}?wait=true", json={"points": [point]})
                if answer.status_code == 200:
                    self.written.append(number)
                else:
                    self.failures.append(answer.text[:300])
                time.sleep(0.005)


@pytest.mark.slow
def test_a_collection_is_optimised_under_traffic_without_an_error_or_a_loss(
    server: ServerProcess, http: httpx.Client, tmp_path: Path
) -> None:
    create(http, "c", threshold=0)
    fill(http, "c", range(8000))
    assert info(http, "c")["status"] == "green"
    seen = set()
    with Traffic(server.url, "c") as traffic:
        http.patch("/collections/c", json={"optimizers_config": {"indexing_threshold": 500}}).raise_for_status()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            status = info(http, "c")["status"]
            running = http.get("/collections/c/optimizations?with=completed").json()["result"]
            seen |= {status, *(child["name"] for run in running["running"] for child in run["progress"]["children"])}
            if running["completed"] and status == "green":
                break
        time.sleep(0.3)  # more traffic over what was optimised
    assert traffic.failures == []
    assert traffic.reads > 20
    assert {"yellow", "green", "optimize"} <= seen
    assert info(http, "c")["optimizer_status"] == "ok"
    assert info(http, "c")["indexed_vectors_count"] > 2 * 8000 * 0.95
    found = {point["id"] for point in contents(http, "c")}
    assert found == {*range(8000), *traffic.written}
    assert [path.name for path in (tmp_path / "collections").glob("*/*")] == ["generation-000002"]


@pytest.mark.slow
def test_a_collection_is_recovered_under_traffic_without_an_error_to_a_reader(
    server: ServerProcess, http: httpx.Client
) -> None:
    create(http, "c")
    fill(http, "c", range(3000))
    name = snapshot(http, "c")["name"]
    with Traffic(server.url, "c") as traffic:
        for _ in range(3):
            recover(http, "c", location=f"/snapshots/{name}").raise_for_status()
    assert traffic.failures == []
    assert {point["id"] for point in contents(http, "c")} >= set(range(3000))
