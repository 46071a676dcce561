"""What fails below degrades the answer and says so; it never fails the request, and it recovers by itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.chat_service import Chat, Published, running_chat, wired
from tests.support.waiting import until

pytestmark = pytest.mark.slow

pytest_plugins = ("tests.support.chat_service",)

QUESTION = "国内信用卡退款多久到账？"


@pytest.fixture(scope="module")
def fragile(published: Published, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chat]:
    """A chat with wires to its stores that can be cut."""
    with (
        wired(published.environment, redis_url) as (environment, wires),
        running_chat(tmp_path_factory.mktemp("fragile"), environment) as chat,
    ):
        chat.wires = wires
        until(lambda: chat.health()["status"] == "healthy")
        yield chat


@pytest.fixture(autouse=True)
def _mended(fragile: Chat) -> Iterator[None]:
    yield
    for wire in fragile.wires.values():
        wire.state = "on"
    until(lambda: fragile.health()["status"] == "healthy", 60)


@pytest.mark.parametrize("state", ["off", "dead"])
def test_without_the_database_it_answers_and_stores_when_the_database_is_back(fragile: Chat, state: str) -> None:
    before = fragile.ask(QUESTION)
    fragile.wires["database"].state = state  # type: ignore[assignment]
    health = until(lambda: (found := fragile.health())["components"]["database"] == "unhealthy" and found)
    assert health["status"] == "degraded"
    assert health["details"]["database"]["reason"]
    during = fragile.ask(QUESTION)
    assert "5–10 个工作日" in during["answer"]
    assert during["degraded"] == ["history"]
    followed = fragile.ask("怎么申请退款？", before["conversation_id"])
    assert followed["conversation_id"] == before["conversation_id"]
    address = f"{fragile.url}/api/conversations/{during['conversation_id']}/messages"
    refused = httpx.get(address, timeout=20)
    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) > 0
    passage = httpx.get(fragile.url + during["citations"][0]["url"], timeout=20).json()
    assert passage["origin"] == "vector store"
    assert passage["text"].startswith(during["citations"][0]["text"].rstrip("…"))
    fragile.wires["database"].state = "on"
    until(lambda: httpx.get(address, timeout=20).status_code == 200, 60)
    stored = until(lambda: (page := httpx.get(address, timeout=20).json())["total"] == 2 and page)
    assert stored["messages"][1]["id"] == during["message_id"]
    until(lambda: fragile.ask(QUESTION)["degraded"] == [])


def test_without_redis_it_answers_and_counts_conversations_by_itself(fragile: Chat) -> None:
    fragile.wires["redis"].state = "off"
    health = until(lambda: (found := fragile.health())["components"]["redis"] == "unhealthy" and found)
    assert health["status"] == "degraded"
    answer = fragile.ask(QUESTION)
    assert answer["mode"] == "extractive"
    assert answer["degraded"] == []
    assert fragile.metrics()["active_conversations"] >= 1


@pytest.mark.parametrize("stream", [False, True])
def test_without_the_vector_store_it_says_when_to_come_back(fragile: Chat, stream: bool) -> None:
    fragile.ask(QUESTION)
    fragile.wires["qdrant"].state = "off"
    response = httpx.post(f"{fragile.url}/api/chat", json={"message": QUESTION, "stream": stream}, timeout=60)
    assert response.status_code == 503
    assert response.headers["content-type"] == "application/problem+json"
    assert int(response.headers["retry-after"]) > 0
    until(lambda: httpx.get(f"{fragile.url}/api/health", timeout=10).status_code == 503)
    assert fragile.health()["status"] == "unhealthy"
    assert httpx.get(f"{fragile.url}/api/health/ready", timeout=10).status_code == 503
    assert httpx.get(f"{fragile.url}/api/health/live", timeout=10).status_code == 200
    assert fragile.ask("你好")["mode"] == "none"
    fragile.wires["qdrant"].state = "on"
    until(lambda: httpx.get(f"{fragile.url}/api/health/ready", timeout=10).status_code == 200)
    assert fragile.ask(QUESTION)["mode"] == "extractive"


def test_before_the_first_release_it_says_that_the_knowledge_base_is_being_taken_in(
    published: Published, redis_url: str, tmp_path: Path
) -> None:
    environment = {**published.environment, "REDIS_URL": redis_url, "QDRANT_COLLECTION": "never_published"}
    with running_chat(tmp_path, environment) as chat:
        response = httpx.post(f"{chat.url}/api/chat", json={"message": QUESTION})
        assert response.status_code == 503
        assert int(response.headers["retry-after"]) > 0
        assert "taken in" in response.json()["detail"]
        health = chat.health()
        assert health["status"] == "degraded"
        assert health["release"] is None
        assert "published" in health["details"]["qdrant"]["reason"]
        assert httpx.get(f"{chat.url}/api/health/ready").status_code == 503


def test_it_starts_with_everything_down_and_stops_cleanly(tmp_path: Path) -> None:
    nowhere = {
        "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
        "REDIS_URL": "redis://127.0.0.1:1",
        "QDRANT_URL": "http://127.0.0.1:1",
    }
    with running_chat(tmp_path, nowhere) as chat:
        health = chat.health()
        assert health["status"] == "unhealthy"
        assert health["components"] == {
            "database": "unhealthy", "redis": "unhealthy", "qdrant": "unhealthy", "llm": "disabled",
        }  # fmt: skip
        assert "refused" in health["details"]["database"]["reason"]
        assert chat.ask("你好")["degraded"] == ["history"]
        process = chat.process
    assert process.returncode == 0
    dropped = [line for line in chat.log("error") if line["event"] == "messages_not_stored"]
    assert dropped
