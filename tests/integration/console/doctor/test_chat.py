"""Doctor and the running chat: what the chat says of its parts, where the time goes, and who waits for a connection."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from pathlib import Path

import httpx
import psycopg

from console.doctor.kinds import Finding
from tests.support.chat_service import Chat, Published, running_chat, wired
from tests.support.diagnosed import DEAD, found, told
from tests.support.waiting import until
from zhiyun import fence

pytest_plugins = ("tests.support.chat_service",)


def port_of(chat: Chat) -> str:
    return str(httpx.URL(chat.url).port)


def test_a_chat_that_is_well_tells_its_latency_by_stage(chat: Chat, published: Published, redis_url: str) -> None:
    chat.ask("几天内可以退款？")
    settings = {**DEAD, **published.environment, "REDIS_URL": redis_url, "SERVING_PORT": port_of(chat)}
    findings = found("chat", **settings)
    assert told(findings) == {}
    assert "answers from release 1; it is healthy" in findings["chat.well"].says("en")
    assert "on average" in findings["chat.latency"].says("en")


def test_a_chat_that_does_not_run_and_another_program_at_its_port(qdrant_url: str) -> None:
    assert "does not answer" in found("chat", **DEAD)["chat.down"].says("en")
    findings = found("chat", **{**DEAD, "SERVING_PORT": str(httpx.URL(qdrant_url).port)})
    assert "another program answers" in findings["chat.port_taken"].says("en")


def test_what_the_chat_has_lost_is_told_and_not_twice(published: Published, redis_url: str, tmp_path: Path) -> None:
    with wired(published.environment, redis_url) as (environment, wires), running_chat(tmp_path, environment) as chat:
        until(lambda: chat.health()["release"])
        wires["redis"].state = "off"
        until(lambda: chat.health()["components"]["redis"] == "unhealthy")
        port = {"SERVING_PORT": port_of(chat)}
        # The chat's wire is cut, doctor's is not: only the chat's own word tells.
        findings = found("chat", "redis", **{**DEAD, **environment, "REDIS_URL": redis_url, **port})
        assert "The chat itself finds its redis unhealthy" in findings["chat.part"].says("en")
        # Doctor finds it too: the cause is told once.
        findings = found("chat", "redis", **{**DEAD, **environment, **port})
        assert "redis.no_answer" in findings
        assert "chat.part" not in findings


def test_a_fence_is_told(chat: Chat, published: Published, redis_url: str) -> None:
    import redis

    client = redis.Redis.from_url(redis_url)
    client.set(fence.KEY, fence.encode(fence.Fence("restore of a point", time.time() + 20)), ex=20)
    try:
        until(lambda: "fence" in chat.health()["details"])
        settings = {**DEAD, **published.environment, "REDIS_URL": redis_url, "SERVING_PORT": port_of(chat)}
        assert "restore of a point" in found("chat", **settings)["chat.fenced"].says("en")
    finally:
        client.delete(fence.KEY)
        until(lambda: "fence" not in chat.health()["details"])


def test_requests_that_wait_for_a_connection(published: Published, redis_url: str, tmp_path: Path) -> None:
    """The pool has one connection, and the table that all want is locked."""
    environment = {
        **published.environment, "REDIS_URL": redis_url, "DATABASE_POOL_MIN": "1", "DATABASE_POOL_MAX": "1",
    }  # fmt: skip
    with running_chat(tmp_path, environment) as chat:
        until(lambda: chat.health()["release"])
        answer = chat.ask("几天内可以退款？")
        with psycopg.connect(environment["DATABASE_URL"], application_name="locks") as locker:
            locker.execute("LOCK TABLE chat.messages, chat.conversations IN ACCESS EXCLUSIVE MODE")
            path = f"{chat.url}/api/conversations/{answer['conversation_id']}/messages"
            readers = [threading.Thread(target=_read, args=(path,)) for _ in range(6)]
            for reader in readers:
                reader.start()
            settings = {**DEAD, **environment, "SERVING_PORT": port_of(chat)}
            findings = until(lambda: _with("chat.pool_waits", found("chat", **settings)))
        for reader in readers:
            reader.join()
    assert "wait for a PostgreSQL connection" in findings["chat.pool_waits"].says("en")


def _with(code: str, findings: dict[str, Finding]) -> dict[str, Finding] | None:
    return findings if code in findings else None


def _read(url: str) -> None:
    with suppress(httpx.HTTPError):
        httpx.get(url, timeout=30)
