"""What customers notice of a restore: answers, and for some seconds a polite 503; never an error."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import httpx
import pytest

from orchestration.backups.restore import in_place, kept
from tests.support.backups.platforms import POINT, Platform
from tests.support.chat_service import Chat, running_chat
from tests.support.waiting import until

pytestmark = pytest.mark.slow

pytest_plugins = ("tests.support.backups.platforms",)


@pytest.fixture
def chat(platform: Platform, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Chat]:
    monkeypatch.setenv("REDIS_URL", urlunsplit(urlsplit(redis_url)._replace(path="/9")))
    environment = {**platform.environment, "REDIS_URL": urlunsplit(urlsplit(redis_url)._replace(path="/9"))}
    with running_chat(tmp_path / "chat", environment) as running:
        until(lambda: running.health()["release"])
        yield running


class Customers:
    """Somebody asks all the time. `seen`: when, the status, whether it said when to come back, and the conversation."""

    def __init__(self, chat: Chat, count: int = 3) -> None:
        self._chat, self._over = chat, threading.Event()
        self.seen: list[tuple[float, int, bool, str]] = []
        self._threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(count)]

    def __enter__(self) -> Customers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, number: int) -> None:
        with self._chat.client() as client:
            while not self._over.is_set():
                response = client.post("/api/chat", json={"message": f"几天内可以退款？{number}"})
                conversation = response.json().get("conversation_id", "")
                retry = "retry-after" in response.headers
                self.seen.append((time.monotonic(), response.status_code, retry, conversation))
                time.sleep(0.02)

    def refusals(self) -> list[float]:
        return [at for at, status, _, _ in self.seen if status == 503]


def test_customers_see_answers_or_when_to_come_back_and_only_around_the_swap(platform: Platform, chat: Chat) -> None:
    swap: list[float] = []
    platform.steps.at["swap"] = lambda: swap.append(time.monotonic())
    with Customers(chat) as customers:
        until(lambda: len(customers.seen) > 10)
        report = in_place.restore(platform.inst, platform.inst.primary, POINT)
        ended = time.monotonic()
        until(lambda: sum(at > ended and status == 200 for at, status, _, _ in customers.seen) > 10)
    assert {(status, retry) for _, status, retry, _ in customers.seen} == {(200, False), (503, True)}
    refused = customers.refusals()
    assert min(refused) > swap[0]  # all that takes long was done before
    print(f"fenced for {max(refused) - min(refused):.2f} s, swap {report.timing.seconds['swap']} s")
    assert chat.health()["release"] == 1

    # What customers wrote just before is in the database that was put aside, and comes back with it.
    until(lambda: chat.health()["status"] == "healthy")
    last = [conversation for at, status, _, conversation in customers.seen if status == 200 and at < min(refused)]
    first = [conversation for at, status, _, conversation in customers.seen if status == 200 and at > max(refused)]
    messages = f"{chat.url}/api/conversations/{{}}/messages"
    assert httpx.get(messages.format(first[0])).status_code == 200
    assert httpx.get(messages.format(last[-1])).status_code == 404
    with Customers(chat) as customers:
        until(lambda: len(customers.seen) > 10)
        aside = kept.back(platform.inst, report.kept)
    assert {status for _, status, _, _ in customers.seen} <= {200, 503}
    until(lambda: chat.health()["status"] == "healthy")
    assert all(httpx.get(messages.format(one)).json()["total"] == 2 for one in last[-20:])
    assert chat.health()["release"] == 2
    kept.discard(platform.inst, aside)
    assert chat.ask("几天内可以退款？")["conversation_id"]
