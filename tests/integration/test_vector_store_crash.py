"""A write that was acknowledged is there after kill -9, whenever that came."""

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

SIZE = 16
BATCH = 20
ROUNDS = 7


def start(data: Path) -> tuple[subprocess.Popen[bytes], str]:
    """A server that flushes all the time, so that kills come in the middle of flushes too."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--port", str(port), "--flush-seconds", "0.05", "--log-level", "error"]
    command = [sys.executable, "-m", "embedded.qdrant", "--data", str(data)]
    process = subprocess.Popen([*command, *options])
    url = f"http://127.0.0.1:{port}"
    for _ in range(200):
        assert process.poll() is None, "the server did not come up again"
        try:
            httpx.get(url, timeout=1)
            return process, url
        except httpx.TransportError:
            time.sleep(0.05)
    raise AssertionError("the server did not answer within 10 s")


class Writer:
    """Writes one thing after another and remembers what was acknowledged and what was under way."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.next_id = 0
        self.values: dict[int, int] = {}
        """The acknowledged payload value of each acknowledged point."""
        self.under_way: dict[int, int | None] = {}
        """What the one unanswered write would have made of its points; None for deleted."""
        self.live_release = 0
        self.next_release = 0

    def write(self, url: str) -> None:
        """Write until the server is gone."""
        with httpx.Client(base_url=f"{url}/collections/c", timeout=20) as http:
            try:
                while True:
                    self._write_one(http)
            except httpx.TransportError:
                return

    def _write_one(self, http: httpx.Client) -> None:
        kind = self.chance.choice(["insert", "insert", "change", "delete", "release"])
        if kind == "release":
            self.next_release = self.live_release + 1
            http.patch("", json={"metadata": {"live_release": self.next_release}}).raise_for_status()
            self.live_release = self.next_release
            return
        known = sorted(self.values)
        value = self.chance.randrange(1_000_000)
        if kind == "insert" or len(known) < BATCH:
            self.under_way = {self.next_id + offset: value for offset in range(BATCH)}
            self.next_id += BATCH
            points = [self._point(number, value) for number in self.under_way]
            answer = http.put("/points?wait=true", json={"points": points})
        elif kind == "change":
            chosen = self.chance.sample(known, 5)
            self.under_way = dict.fromkeys(chosen, value)
            answer = http.post("/points/payload?wait=true", json={"payload": {"v": value}, "points": chosen})
        else:
            chosen = self.chance.sample(known, 3)
            self.under_way = dict.fromkeys(chosen)
            answer = http.post("/points/delete?wait=true", json={"points": chosen})
        answer.raise_for_status()
        self.settle(self.under_way)

    def settle(self, outcome: dict[int, int | None]) -> None:
        """Take the outcome of the write under way as what is now."""
        for number, value in outcome.items():
            if value is None:
                self.values.pop(number, None)
            else:
                self.values[number] = value
        self.under_way = {}

    def _point(self, number: int, value: int) -> dict[str, object]:
        indices = sorted(self.chance.sample(range(1000), 10))
        vector = {
            "dense": [self.chance.gauss(0, 1) for _ in range(SIZE)],
            "lexical": {"indices": indices, "values": [1.0] * len(indices)},
        }
        return {"id": number, "vector": vector, "payload": {"v": value}}


def stored(url: str) -> dict[int, int]:
    """Every point's payload value."""
    found: dict[int, int] = {}
    offset = None
    while True:
        body = {"limit": 5000, "offset": offset, "with_vector": ["dense"]}
        page = httpx.post(f"{url}/collections/c/points/scroll", json=body, timeout=20).json()["result"]
        for point in page["points"]:
            assert len(point["vector"]["dense"]) == SIZE
            found[point["id"]] = point["payload"]["v"]
        offset = page["next_page_offset"]
        if offset is None:
            return found


@pytest.mark.timeout(120)
def test_every_acknowledged_write_survives_kill_9(tmp_path: Path) -> None:
    process, url = start(tmp_path)
    body = {"vectors": {"dense": {"size": SIZE, "distance": "Cosine"}}, "sparse_vectors": {"lexical": {}}}
    httpx.put(f"{url}/collections/c", json=body).raise_for_status()
    writer = Writer(seed=1)
    try:
        for _ in range(ROUNDS):
            thread = threading.Thread(target=writer.write, args=(url,))
            thread.start()
            time.sleep(writer.chance.uniform(0.2, 1.0))
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            thread.join()
            process, url = start(tmp_path)
            found = stored(url)
            # The unanswered write may have happened, wholly; nothing else may differ.
            happened = all(found.get(number) == value for number, value in writer.under_way.items())
            if happened:
                writer.settle(writer.under_way)
            assert found == writer.values
            writer.under_way = {}
            metadata = httpx.get(f"{url}/collections/c").json()["result"]["config"].get("metadata", {})
            assert metadata.get("live_release", 0) in (writer.live_release, writer.next_release)
            writer.live_release = metadata.get("live_release", 0)
        assert len(writer.values) > 500
    finally:
        process.kill()
        process.wait()


def test_a_creation_that_was_cut_short_leaves_nothing(tmp_path: Path) -> None:
    half_made = tmp_path / "collections" / "c-00000000.new" / "generation-000001"
    half_made.mkdir(parents=True)
    process, url = start(tmp_path)
    assert httpx.get(f"{url}/collections").json()["result"] == {"collections": []}
    assert list((tmp_path / "collections").iterdir()) == []
    process.terminate()
    assert process.wait(timeout=20) == 0


def test_a_lost_registry_is_no_reason_to_forget_collections(tmp_path: Path) -> None:
    (tmp_path / "collections" / "c-00000000").mkdir(parents=True)
    command = [sys.executable, "-m", "embedded.qdrant", "--data", str(tmp_path), "--port", "0"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert ended.returncode == 1
    assert "registry.json is missing" in ended.stderr
    assert (tmp_path / "collections" / "c-00000000").is_dir()
