"""While a restore is put in force the chat says when to come back, and nothing can leave it fenced for ever."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

import httpx
import pytest
import redis

from orchestration.backups.restore.fence import fenced
from tests.support.chat_service import Chat, Published, running_chat, wired
from tests.support.waiting import until
from zhiyun.fence import KEY
from zhiyun.repository import REPOSITORY
from zhiyun.settings import RedisSettings

pytest_plugins = ("tests.support.chat_service",)

QUESTION = "国内信用卡退款多久到账？"


@pytest.fixture(scope="module")
def own_redis(redis_url: str) -> str:
    """A number of its own in the session's Redis: other tests' chats are not to be fenced."""
    return urlunsplit(urlsplit(redis_url)._replace(path="/7"))


@pytest.fixture(scope="module")
def settings(own_redis: str) -> RedisSettings:
    return RedisSettings(url=own_redis)


@pytest.fixture(scope="module")
def chat(published: Published, own_redis: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chat]:
    """Two processes, with a wire to Redis that can be cut."""
    with (
        wired(published.environment, own_redis) as (environment, wires),
        running_chat(tmp_path_factory.mktemp("fenced"), {**environment, "SERVING_WORKERS": "2"}) as chat,
    ):
        chat.wires = wires
        until(lambda: chat.health()["status"] == "healthy")
        yield chat


def status(chat: Chat) -> int:
    return httpx.post(f"{chat.url}/api/chat", json={"message": QUESTION}, timeout=30).status_code


def open_again(chat: Chat) -> bool:
    """Whether every process answers: each request is a new connection, that either may take."""
    return {status(chat) for _ in range(8)} == {200}


def test_every_process_refuses_politely_while_the_fence_is_up(chat: Chat, settings: RedisSettings) -> None:
    conversation = chat.ask(QUESTION)["conversation_id"]
    messages = f"/api/conversations/{conversation}/messages"
    with fenced(settings, "recovery point 2026-11-24 is put in force") as up:
        assert up
        for _ in range(6):
            for method, path, body in (
                ("POST", "/api/chat", {"message": QUESTION}),
                ("POST", "/api/chat", {"message": QUESTION, "stream": True}),
                ("POST", "/api/retrieval", {"query": QUESTION}),
                ("GET", messages, None),
                ("DELETE", f"/api/conversations/{conversation}", None),
            ):
                refused = httpx.request(method, chat.url + path, json=body, timeout=30)
                assert refused.status_code == 503
                assert refused.headers["content-type"] == "application/problem+json"
                assert 1 <= int(refused.headers["retry-after"]) <= 5
                assert "being restored" in refused.json()["detail"]
        chinese = httpx.post(
            f"{chat.url}/api/chat", json={"message": QUESTION}, headers={"accept-language": "zh-CN,zh;q=0.9"}
        )
        assert "恢复" in chinese.json()["detail"]
        health = until(lambda: (found := chat.health())["status"] == "degraded" and found)
        assert "2026-11-24" in health["details"]["fence"]["reason"]
        assert set(health["components"].values()) <= {"healthy", "disabled"}
        assert httpx.get(f"{chat.url}/api/health/ready").status_code == 503
        for path in ("/", "/api/metrics", "/api/metrics/operations", "/api/health/live"):
            assert httpx.get(chat.url + path).status_code == 200
    until(lambda: open_again(chat))
    assert httpx.get(chat.url + messages).json()["total"] == 2
    until(lambda: chat.health()["status"] == "healthy")
    until(lambda: {httpx.get(f"{chat.url}/api/health/ready").status_code for _ in range(8)} == {200})


@pytest.mark.slow
def test_a_fence_is_renewed_for_as_long_as_its_restore_takes_and_goes_when_that_fails(
    chat: Chat, settings: RedisSettings
) -> None:
    def restore() -> None:
        with fenced(settings, "a slow one", seconds=1.5):
            for _ in range(8):
                assert status(chat) == 503
                time.sleep(0.4)  # eight times: longer than the fence lasts without being renewed
            raise ValueError("it failed")

    with pytest.raises(ValueError, match="it failed"):
        restore()
    assert redis.Redis.from_url(settings.url).get(KEY) is None
    until(lambda: open_again(chat))


@pytest.mark.slow
def test_a_killed_restore_fences_no_longer_than_its_time(chat: Chat, settings: RedisSettings) -> None:
    code = (
        "import sys, time\n"
        "from orchestration.backups.restore.fence import fenced\n"
        "from zhiyun.settings import RedisSettings\n"
        "with fenced(RedisSettings(url=sys.argv[1]), 'killed', seconds=3):\n"
        "    print('up', flush=True)\n"
        "    time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, settings.url], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "up\n"
    assert status(chat) == 503
    process.kill()
    process.wait()
    process.stdout.close()
    until(lambda: open_again(chat))


@pytest.mark.slow
def test_without_redis_there_is_no_fence_and_the_restore_says_so_and_goes_on(
    chat: Chat, settings: RedisSettings
) -> None:
    said: list[str] = []
    with fenced(RedisSettings(url="redis://:secret@127.0.0.1:1/0"), "nobody sees it", say=said.append) as up:
        assert not up
    assert len(said) == 1
    assert "REDIS_URL" in said[0]
    assert "secret" not in said[0]
    # The chat lost Redis behind a fence that it saw: it holds for a moment, and not for ever.
    with fenced(settings, "and then Redis goes", seconds=30):
        assert status(chat) == 503
        chat.wires["redis"].state = "off"
        until(lambda: open_again(chat))
    chat.wires["redis"].state = "on"
    until(lambda: chat.health()["status"] == "healthy", 60)
