"""Whatever a request says: no 500, no dead process, and nothing that was written is lost or cannot be opened again."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, note, settings

from tests.support.vectors.request_bodies import COLLECTION, INDEXES, point
from tests.support.vectors.rubbish import Rubbish, requests, wrong_types
from tests.support.vectors.valid_requests import SHAPES
from tests.support.vectors.vector_store import ServerProcess

KNOWN = 50
ANOTHER_AFTER = 40  # requests, so that one that empties a collection does not make the later ones harmless


class Target:
    """A server, a collection that is left alone, and collections that take the rubbish, one after another."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.sent = 0
        self.rubbish = "known"
        self._start()
        self._create("known")

    def _start(self) -> None:
        self.server = ServerProcess(self.data, "--log-level", "error", log=self.data / "server.log").wait_until_ready()
        self.http = httpx.Client(base_url=self.server.url, timeout=30)

    def restart(self) -> None:
        self.stop()
        self._start()

    def stop(self) -> None:
        self.http.close()
        assert self.server.stop() == 0

    def send(self, request: Rubbish) -> httpx.Response:
        """Send rubbish. Raises where the server does not answer at all."""
        if self.sent % ANOTHER_AFTER == 0:
            self.rubbish = f"rubbish-{self.sent // ANOTHER_AFTER}"
            self._create(self.rubbish)
        self.sent += 1
        url = request.path.replace("{c}", self.rubbish) + (f"?{request.query}" if request.query else "")
        headers = {"content-type": "application/json"}
        return self.http.request(request.method, url, content=request.body, headers=headers)

    def contents(self) -> dict[str, list[dict[str, Any]]]:
        """Every point of every collection."""
        names = [item["name"] for item in self._result("GET", "/collections")["collections"]]
        everything = {"limit": 10_000, "with_payload": True, "with_vector": True}
        # A name may hold what stands for something else in an address.
        places = {name: "/collections/" + "".join(f"%{byte:02x}" for byte in name.encode()) for name in names}
        return {
            name: self._result("POST", f"{place}/points/scroll", everything)["points"] for name, place in places.items()
        }

    def _create(self, name: str) -> None:
        self._result("PUT", f"/collections/{name}", COLLECTION)
        for field, kind in INDEXES.items():
            self._result("PUT", f"/collections/{name}/index", {"field_name": field, "field_schema": kind})
        points = [point(number) for number in range(1, KNOWN + 1)]
        self._result("PUT", f"/collections/{name}/points?wait=true", {"points": points})

    def _result(self, method: str, path: str, body: Any = None) -> Any:
        answer = self.http.request(method, path, json=body)
        assert answer.is_success, f"{method} {path}: {answer.text}"
        return answer.json()["result"]


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Target]:
    target = Target(tmp_path)
    yield target
    target.stop()


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    target = Target(tmp_path_factory.mktemp("sound"))
    yield target
    target.stop()


@pytest.mark.slow
def test_rubbish_is_refused_and_harms_nothing(target: Target) -> None:
    known = target.contents()["known"]
    assert len(known) == KNOWN

    @settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(requests())
    def rubbish(request: Rubbish) -> None:
        answer = target.send(request)
        note(answer.text[:500])
        assert answer.status_code < 500 or answer.status_code == 501
        if answer.status_code >= 400 and answer.headers["content-type"] == "application/json":
            assert answer.json()["status"]["error"]

    rubbish()
    before = target.contents()
    assert before["known"] == known
    target.restart()
    assert target.contents() == before
    assert target.http.get("/readyz").status_code == 200


def test_a_value_of_another_type_is_refused(target: Target) -> None:
    """Some of the thousands that there are, the same each time."""
    for request in random.Random(0).sample(list(wrong_types()), 300):
        answer = target.send(request)
        assert answer.status_code < 500 or answer.status_code == 501, f"{request}: {answer.text}"


@pytest.mark.parametrize(("method", "path", "body"), SHAPES)
def test_what_the_rubbish_is_made_of_is_sound(sound: Target, method: str, path: str, body: Any) -> None:
    """What is refused for its shape would not reach far; 404 is for what is not there, 501 for what is not built."""
    request = Rubbish(method, path.replace("{made}", "made"), "", b"" if body is None else json.dumps(body).encode())
    answer = sound.send(request)
    assert answer.is_success or answer.status_code in (404, 409, 501) or "snapshots" in path, answer.text
