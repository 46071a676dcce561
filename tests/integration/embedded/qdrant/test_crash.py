"""A write that was acknowledged is there after kill -9, whenever that came."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest

SIZE = 16
BATCH = 40
KILLS = 50
KINDS = ("insert", "change", "delete", "release", "snapshot", "recover")


def start(data: Path) -> tuple[subprocess.Popen[bytes], str]:
    """A server that flushes and optimises all the time, so that kills come in the middle of both."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--port", str(port), "--flush-seconds", "0.05", "--quiet-seconds", "0", "--log-level", "error"]
    command = [sys.executable, "-m", "embedded.qdrant", "--data", str(data)]
    process = subprocess.Popen([*command, *options])
    url = f"http://127.0.0.1:{port}"
    for _ in range(400):
        assert process.poll() is None, "the server did not come up again"
        try:
            httpx.get(url, timeout=1)
            return process, url
        except httpx.TransportError:
            time.sleep(0.02)
    raise AssertionError("the server did not answer within 8 s")


class Writer:
    """Writes one thing after another and knows what is stored, or may be: the write under way can have happened."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.next_id = 0
        self.values: dict[int, int] = {}
        """The payload value of each point, by what was acknowledged."""
        self.if_happened: dict[int, int] = {}
        """The same, if the write under way has happened."""
        self.live_release = 0
        self.next_release = 0
        self.snapshots: dict[str, dict[int, int]] = {}
        """What was stored when each acknowledged snapshot was taken."""
        self.acknowledged: Counter[str] = Counter()

    def write(self, url: str) -> None:
        """Write until the server is gone."""
        with httpx.Client(base_url=f"{url}/collections/c", timeout=20) as http:
            try:
                while True:
                    self._write_one(http)
            except httpx.TransportError:
                return

    def _write_one(self, http: httpx.Client) -> None:
        kinds = ["insert"] * 12 + ["change"] * 6 + ["delete"] * 4 + ["release"] + ["snapshot"] * 2 + ["recover"] * 3
        kind = self.chance.choice(kinds)
        if kind == "recover" and not self.snapshots:
            kind = "snapshot"
        self.if_happened = dict(self.values)
        value, known = self.chance.randrange(1_000_000), sorted(self.values)
        if kind == "release":
            self.next_release = self.live_release + 1
            answer = http.patch("", json={"metadata": {"live_release": self.next_release}})
            answer.raise_for_status()
            self.live_release = self.next_release
        elif kind == "snapshot":
            answer = http.post("/snapshots")
            answer.raise_for_status()
            self.snapshots[answer.json()["result"]["name"]] = dict(self.values)
        elif kind == "recover":
            name = self.chance.choice(sorted(self.snapshots)[-3:])
            self.if_happened = dict(self.snapshots[name])
            answer = http.put("/snapshots/recover", json={"location": f"/snapshots/{name}"})
        elif kind == "insert" or len(known) < BATCH:
            numbers = range(self.next_id, self.next_id + BATCH)
            self.next_id += BATCH
            self.if_happened |= dict.fromkeys(numbers, value)
            answer = http.put("/points?wait=true", json={"points": [self._point(number, value) for number in numbers]})
        elif kind == "change":
            chosen = self.chance.sample(known, 5)
            self.if_happened |= dict.fromkeys(chosen, value)
            answer = http.post("/points/payload?wait=true", json={"payload": {"v": value}, "points": chosen})
        else:
            chosen = self.chance.sample(known, 30)
            self.if_happened = {number: v for number, v in self.values.items() if number not in chosen}
            answer = http.post("/points/delete?wait=true", json={"points": chosen})
        answer.raise_for_status()
        self.acknowledged[kind] += 1
        self.values = self.if_happened

    def _point(self, number: int, value: int) -> dict[str, object]:
        indices = sorted(self.chance.sample(range(1000), 10))
        vector = {
            "dense": [self.chance.gauss(0, 1) for _ in range(SIZE)],
            "lexical": {"indices": indices, "values": [1.0] * len(indices)},
        }
        return {"id": number, "vector": vector, "payload": {"v": value}}


def stored(url: str, collection: str = "c") -> dict[int, int]:
    """Every point's payload value."""
    found: dict[int, int] = {}
    offset = None
    while True:
        body = {"limit": 5000, "offset": offset, "with_vector": ["dense"]}
        page = httpx.post(f"{url}/collections/{collection}/points/scroll", json=body, timeout=20).json()["result"]
        for point in page["points"]:
            assert len(point["vector"]["dense"]) == SIZE
            found[point["id"]] = point["payload"]["v"]
        offset = page["next_page_offset"]
        if offset is None:
            return found


def generation(data: Path) -> int:
    """How often a shard was put in another's place: by optimising, or by recovering."""
    registry = json.loads((data / "registry.json").read_text())
    return registry["collections"]["c"]["generation"]


@pytest.mark.timeout(600)
@pytest.mark.slow
def test_every_acknowledged_write_survives_kill_9_at_any_moment(tmp_path: Path) -> None:
    process, url = start(tmp_path)
    body = {
        "vectors": {"dense": {"size": SIZE, "distance": "Cosine"}},
        "sparse_vectors": {"lexical": {}},
        "optimizers_config": {"indexing_threshold": 20},
    }
    httpx.put(f"{url}/collections/c", json=body).raise_for_status()
    writer = Writer(seed=1)
    optimised = kills = 0
    try:
        # The kills are to come in the midst of all of them: a slow machine needs a few more.
        while kills < KILLS or min(optimised, *(writer.acknowledged[kind] for kind in KINDS)) < 3:
            thread = threading.Thread(target=writer.write, args=(url,))
            thread.start()
            time.sleep(writer.chance.uniform(0.1, 2.0))
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            thread.join()
            kills += 1
            process, url = start(tmp_path)
            assert httpx.get(f"{url}/readyz").status_code == 200
            found = stored(url)
            # The unanswered write may have happened, wholly; nothing else may differ.
            assert found in (writer.values, writer.if_happened)
            writer.values = found
            metadata = httpx.get(f"{url}/collections/c").json()["result"]["config"].get("metadata", {})
            assert metadata.get("live_release", 0) in (writer.live_release, writer.next_release)
            writer.live_release = metadata.get("live_release", 0)
            optimised = generation(tmp_path) - writer.acknowledged["recover"]
        listed = {each["name"] for each in httpx.get(f"{url}/collections/c/snapshots").json()["result"]}
        assert listed >= set(writer.snapshots)
        for name in list(writer.snapshots)[-3:]:
            location = f"file://{tmp_path}/snapshots/c/{name}"
            back = httpx.put(f"{url}/collections/again/snapshots/recover", json={"location": location}, timeout=20)
            back.raise_for_status()
            assert stored(url, "again") == writer.snapshots[name]
        left = [path.name for path in (tmp_path / "collections").glob("*/*")]
        assert len(left) == 2, f"of each collection one generation is left, not {left}"
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
